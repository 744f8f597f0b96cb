"""Three Ray nodes on this machine, with a driver and a tracking server, to be killed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.orchestrator.tracking.servers import server_command
from tests.waiting import Answer, Barrier, wait_for
from tools.tracking_screenshots import free_port

ROOT = Path(__file__).parents[2]


MARK = "MEDVISION_CHAOS_MARK"


RAY = str(Path(sys.executable).with_name("ray"))


# Of every node or cluster, as long as it lives: Ray's own. A cleaner is Train's, detached, for a
# driver that dies; it ends when it has seen that, or it does not (Ray 2.60), and holds nothing.
RAYS_OWN = tuple(
    f"ray::{name}"
    for name in (
        "IDLE",
        "DashboardAgent",
        "RuntimeEnvAgent",
        "_AutoscalingCoordinatorActor",
        "PlacementGroupCleaner",
    )
)


DRAIN_SECONDS = 15.0


# A lost machine is noticed after 3 s instead of 30: the faults are the same, the test is shorter.
FAST = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 3000,
}


class Machines:
    """Three Ray nodes on this machine, a tracking server and a driver, all found again by a mark in
    their environment.
    """

    def __init__(self, folder: Path, spec: Path, barrier: Barrier) -> None:
        self.folder, self.spec, self.barrier = folder, spec, barrier
        # paths of sockets must stay short
        self.scratch = Path("/tmp") / f"chaos-{os.getpid()}"  # noqa: S108
        self.port, self.mlflow_port, dashboard = (free_port() for _ in range(3))
        self.environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("RAY_", "MLFLOW_"))
            },
            MARK: str(os.getpid()),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "0" * 32,
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self.mlflow_port}",
        }
        self.heads = ["--head", f"--port={self.port}", '--resources={"lane": 1000}', "--num-cpus=0"]
        self.heads += [
            f"--dashboard-port={dashboard}",
            "--dashboard-host=127.0.0.1",
            f"--temp-dir={self.scratch}",
        ]
        self.heads += [f"--system-config={json.dumps(FAST)}"]
        self.driver: subprocess.Popen[bytes] | None = None
        self.mlflow: subprocess.Popen[bytes] | None = None
        self.raylets: list[int] = []
        self.known: set[int] = set()  # every raylet that was ever started

    def start(self) -> None:
        self._ray_start(*self.heads)
        self.head = self._new_raylet()
        for _ in range(2):
            self.add_node()
        self.start_mlflow()
        self.start_driver()

    def add_node(self) -> None:
        self._ray_start(f"--address=127.0.0.1:{self.port}", "--num-cpus=1")
        self.raylets.append(self._new_raylet())

    def start_mlflow(self) -> None:
        command = server_command(self.mlflow_port, self.folder / "mlflow.db")
        with (self.folder / "mlflow.log").open("ab") as log:
            self.mlflow = subprocess.Popen(
                command, env=self.environment, cwd=self.folder, stdout=log, stderr=log
            )

    def start_driver(self) -> None:
        command = [
            sys.executable,
            "-m",
            "orchestrator.run",
            str(self.spec),
            "--address",
            f"127.0.0.1:{self.port}",
        ]
        with (self.folder / "driver.log").open("ab") as log:
            self.driver = subprocess.Popen(
                command, env=self.environment, cwd=ROOT, stdout=log, stderr=log
            )

    def marked(self, words: str = "") -> list[psutil.Process]:
        """Living processes of this test whose command line holds these words, the oldest first."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                ours = (
                    process.environ().get(MARK) == str(os.getpid())
                    and process.status() != psutil.STATUS_ZOMBIE
                )
                if ours and words in " ".join(process.cmdline()) and process.pid != os.getpid():
                    found.append((process.create_time(), process))
        return [process for _, process in sorted(found, key=lambda entry: entry[0])]

    def kill(self, kind: str, rng: random.Random) -> bool:
        """Kill one process (or node) of a kind and start again what a person or a service would
        start again.

        Returns:
            Whether one was killed: it may end by itself first.
        """
        if kind == "driver":
            assert self.driver is not None
            died = _killed(self.driver)
            self.driver.wait()
            self.start_driver()
            return died
        if kind == "mlflow":
            assert self.mlflow is not None
            died = True in [_killed(process) for process in reversed(self.marked("mlflow"))]
            self.mlflow.wait()
            self.start_mlflow()
            return died
        if kind in ("node", "drain"):
            number = self.raylets.pop(rng.randrange(len(self.raylets)))
            found = [one for one in self.marked("raylet/raylet") if one.pid == number]
            if not found:  # a busy machine may have missed its health check
                self.add_node()
                return False
            (raylet,) = found
            children = raylet.children(recursive=True)
            if kind == "drain":  # a spot machine is warned, and goes
                self._drain(raylet)
                time.sleep(DRAIN_SECONDS)
            died = _killed(raylet)
            for process in children:
                _killed(process)
            self.add_node()
            return died
        # Tune names every Trainable with parameters `_Inner`.
        title = {"worker": "ray::RayTrainWorker", "lane": "ray::_Inner"}[kind]
        return _killed(rng.choice(self.expect(f"a {kind} to kill", lambda: self.marked(title))))

    def expect(self, what: str, holds: Callable[[], Answer]) -> Answer:
        """Wait for an event of a study that has not ended."""
        log = self.folder / "driver.log"

        def asked() -> Answer:
            assert self.driver is not None
            assert self.driver.poll() is None, (
                f"the driver ended before {what}\n{log.read_text()[-3000:]}"
            )
            return holds()

        return wait_for(what, asked, more=lambda: log.read_text()[-3000:])

    def stop(self) -> None:
        def ended() -> bool:  # asked again, because one of them may just have started another
            found = self.marked()
            for process in found:
                _killed(process)
            return not found

        wait_for("the end of every process", ended)
        for child in (self.driver, self.mlflow):
            if child is not None:
                child.wait()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _drain(self, raylet: psutil.Process) -> None:
        (node,) = [
            word.partition("=")[2] for word in raylet.cmdline() if word.startswith("--node_id=")
        ]
        command = [
            RAY,
            "drain-node",
            f"--address=127.0.0.1:{self.port}",
            f"--node-id={node}",
            "--reason-message=chaos",
        ]
        command += ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--deadline-remaining-seconds=60"]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _ray_start(self, *options: str) -> None:
        command = [RAY, "start", "--disable-usage-stats", *options]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _new_raylet(self) -> int:
        """Of the node that was just started; one that was killed may still be ending."""
        (new,) = {process.pid for process in self.marked("raylet/raylet")} - self.known
        self.known.add(new)
        return new


def title_of(process: psutil.Process) -> str:
    """What a worker of Ray calls itself; empty for one that has ended, and for Ray's own
    processes.
    """
    with contextlib.suppress(psutil.Error):
        title = " ".join(process.cmdline())
        return title if title.startswith("ray::") else ""
    return ""


def _killed(process: psutil.Process | subprocess.Popen[bytes]) -> bool:
    """Kill a process; whether it was still there."""
    if isinstance(process, subprocess.Popen) and process.poll() is not None:
        return False
    try:
        process.kill()
    except psutil.Error:
        return False
    return True
