"""A study on three real Ray nodes while workers, lanes, nodes, the driver and MLflow are killed;
its table must not change.

`make chaos` runs the long one: `MEDVISION_CHAOS_KILLS=20`. The order of the kills is drawn from a
seed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from orchestrator.run import main
from record.store import Store
from tests.waiting import PATIENCE_SECONDS, Answer, Barrier, wait_for
from tools.tracking_screenshots import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("MEDVISION_CHAOS_KILLS", "6"))
SEED = int(os.environ.get("MEDVISION_CHAOS_SEED", "0"))
KINDS = ("worker", "lane", "node", "drain", "driver", "mlflow")
MARK = "MEDVISION_CHAOS_MARK"
RAY = str(Path(sys.executable).with_name("ray"))
TRIALS, EPOCHS = 24, 40
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
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.mlflow_port),
        ]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
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
            raylet = psutil.Process(self.raylets.pop(rng.randrange(len(self.raylets))))
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
        known = {getattr(self, "head", None), *self.raylets}
        (new,) = [
            process.pid for process in self.marked("raylet/raylet") if process.pid not in known
        ]
        return new


def _title(process: psutil.Process) -> str:
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


def one_by_one(barrier: Barrier, machines: Machines, enough: Callable[[], bool]) -> None:
    """Let trials start one after another until enough are finished; at most two more begin."""
    barrier.hold(0)

    def asked() -> bool:
        if not enough() and barrier.waiting() and not barrier.passes():
            barrier.let_pass()
        return enough()

    machines.expect("the share of the next kill", asked)


@pytest.fixture
def machines(tmp_path: Path, chaos_spec: Path, barrier: Barrier) -> Iterator[Machines]:
    machines = Machines(tmp_path, chaos_spec, barrier)
    try:
        machines.start()
        yield machines
    finally:
        machines.stop()


@pytest.fixture
def chaos_spec(tiny_spec: Path, tmp_path: Path) -> Path:
    """Trials that may each be hit by every kill."""
    text = tiny_spec.read_text()
    text = text.replace("folds: 3", "folds: 3\nseeds: [0, 1, 2, 3]").replace(
        "epochs: 3,", f"epochs: {EPOCHS}, checkpoint_epochs: 5,"
    )
    text = text.replace(
        "resources: {max_lanes: 1}", f"resources: {{max_attempts: {KILLS + 1}, hang_seconds: 120}}"
    )
    path = tmp_path / "chaos.yaml"
    path.write_text(text.replace("name: tiny", "name: chaos"))
    return path


def test_the_table_of_a_study_that_was_shot_at_is_that_of_an_undisturbed_one(
    machines: Machines,
    barrier: Barrier,
    chaos_spec: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rng = random.Random(SEED)
    kinds: list[str] = []
    while len(kinds) < 2 * KILLS:
        kinds += rng.sample(KINDS, len(KINDS))
    store = Store(str(tmp_path / "runs" / "chaos"))
    killed = []
    for kind in kinds:  # more than are needed: one that finds no victim is no kill
        if len(killed) == KILLS:
            break
        # The kills are spread over the whole study: before each one its share of the trials is
        # finished, ...
        share = len(killed) * TRIALS // (KILLS + 1)
        one_by_one(barrier, machines, lambda share=share: len(store.names("commits")) >= share)
        # ... and one is at work in an epoch that is drawn, or further.
        barrier.hold(rng.randint(1, EPOCHS), EPOCHS)
        machines.expect("a trial in the middle", barrier.waiting)
        if machines.kill(kind, rng):
            killed.append(kind)
    barrier.lift()
    assert len(killed) == KILLS, f"only {len(killed)} kills found a victim: {', '.join(killed)}"
    driver = machines.driver
    assert driver is not None
    assert driver.wait(PATIENCE_SECONDS * 4) == 0, (tmp_path / "driver.log").read_text()[-3000:]
    with capsys.disabled():
        print(f"\nkilled: {', '.join(killed)}")

    # Undisturbed, with the same world size and threads.
    handler = signal.getsignal(signal.SIGINT)
    (tmp_path / "undisturbed").mkdir()
    options = [
        "--in-process",
        "--set",
        f"storage={tmp_path / 'undisturbed'}",
        "--set",
        "tracking.enabled=false",
    ]
    assert main([str(chaos_spec), *options]) == 0
    tables = [
        tmp_path / name / "chaos" / "report" / "significance.csv"
        for name in ("runs", "undisturbed")
    ]
    assert tables[0].read_bytes() == tables[1].read_bytes()

    commits = store.commits()
    assert len(commits) == TRIALS
    for eval_id, marker in commits.items():  # a claim is written whenever a trial starts
        claim = Path(store.path(f"claims/{marker.train_id}.json"))
        assert claim.stat().st_mtime <= Path(store.path(f"commits/{eval_id}.json")).stat().st_mtime
        for kind, file in marker.files.items():
            assert hashlib.sha256(store.read(file) or b"").hexdigest() == marker.sha256[kind]
    named = {file for marker in commits.values() for file in marker.files.values()}
    files = {
        str(file.relative_to(store.root)) for file in Path(store.root).rglob("*") if file.is_file()
    }
    assert not [file for file in files if Path(file).name.startswith(".")]
    assert {file for file in files if file.startswith("trials/")} == named
    assert not [file for file in files if file.startswith(("checkpoints/", "failures/"))]

    def left_behind() -> list[str]:
        """Actors and tasks of ours: queues, the switch, lanes, workers and their controllers."""
        titles = [_title(process) for process in machines.marked("ray::")]
        return [title for title in titles if title and not title.startswith(RAYS_OWN)]

    wait_for(
        "the end of every process of ours",
        lambda: not left_behind(),
        more=lambda: "\n".join(left_behind()),
    )
    code = (
        "import ray; from ray.util import placement_group_table as table; "
        "ray.init(log_to_driver=False); "
    )
    code += "print([group['state'] for group in table().values() if group['state'] != 'REMOVED'])"
    environment = {**machines.environment, "RAY_ADDRESS": f"127.0.0.1:{machines.port}"}
    asked = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert asked.stdout.splitlines()[-1] == "[]"
    assert signal.getsignal(signal.SIGINT) is handler
