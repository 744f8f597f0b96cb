"""The scripts of the cluster files, run for real where a stand-in for Slurm or for a lost head is
enough.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from record.store import Store
from tests.waiting import PATIENCE_SECONDS, Barrier, end, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
ROOT = Path(__file__).resolve().parents[2]


def stand_in(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\n{script}\n")
    path.chmod(0o755)


def running(words: str) -> list[int]:
    """Processes with these words in their command line."""
    found = subprocess.run(["pgrep", "-f", words], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


def free_job_number() -> int:
    """A job number whose ports, of the script's making, nobody has."""

    def is_free(port: int) -> bool:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return True
        return False

    numbers = random.sample(range(1000, 10_000), 1000)
    return next(
        number
        for number in numbers
        if all(is_free(20_000 + number + more) for more in (0, 10_000, 20_000))
    )


def test_the_slurm_script_runs_a_study_and_leaves_no_ray_behind(
    tiny_spec: Path, tmp_path: Path, barrier: Barrier
) -> None:
    """`srun` drops its options and runs the command here, so the allocation's two nodes are two
    raylets of one machine.
    """
    programs = tmp_path / "bin"
    programs.mkdir()
    stand_in(
        programs,
        "srun",
        f'echo "$@" >> {tmp_path}/srun; while [[ $1 == --* ]]; do shift; done; exec "$@"',
    )
    stand_in(programs, "scontrol", "printf 'node1\\nnode2\\n'")
    stand_in(programs, "hostname", "echo 127.0.0.1")
    number = free_job_number()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("RAY_")
    } | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "VENV": str(Path(sys.executable).parents[1]),
        "SLURM_SUBMIT_DIR": str(ROOT),
        "SLURM_JOB_ID": str(number),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_CPUS_PER_TASK": "1",  # one lane a node
        "RAY_worker_niceness": "0",  # beside whatever else runs here
    }
    words = [
        "bash",
        str(ROOT / "cluster-slurm.sh"),
        str(tiny_spec),
        "--set",
        "resources.max_lanes=null",
    ]
    folder, log = f"/tmp/ray-{number}", tmp_path / "log"  # noqa: S108  # what the script takes
    barrier.hold(0)
    with log.open("w") as file:
        script = subprocess.Popen(words, env=environment, stdout=file, stderr=file)
    try:
        # The driver does not wait for the second node, which may come when all trials are done.
        wait_for(
            "a trial on each node",
            lambda: len(barrier.waiting()) == 2 or script.poll() is not None,
            more=log.read_text,
        )
        barrier.lift()
        code, said = script.wait(PATIENCE_SECONDS), log.read_text()
        assert code == 0, said
        assert "6 of 6 trials are in this report" in said
        commits = Store(str(tmp_path / "runs" / "tiny")).commits().values()
        assert len({marker.attempt.pid for marker in commits}) == 2, (
            said
        )  # the second node had its lane
        started = [
            line for line in (tmp_path / "srun").read_text().splitlines() if "ray start" in line
        ]
        assert [line.split(" ray ")[0] for line in started] == [
            f"--overlap --ntasks=1 --nodes=1 --nodelist=node{number}" for number in (1, 2)
        ]
        wait_for("the end of Ray", lambda: not running(f"{folder}/"))
    finally:
        end(script)
        for pid in running(f"{folder}/"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of an S3 with the bucket `studies`: moto's server on loopback, where the environment
    leads to it.
    """
    import boto3

    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")
        client.create_bucket(Bucket="studies")
        yield client
    finally:
        server.stop()


@pytest.fixture
def server_home(tmp_path: Path) -> Iterator[Path]:
    """A home folder for mlflow.sh and its user; whatever it started there is ended."""
    home = tmp_path / "h"
    home.mkdir()
    yield home
    for pid in running(f"host={home}"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    pids = home / "mlflow-server" / "database" / "postmaster.pid"
    if pids.exists():
        os.kill(int(pids.read_text().split()[0]), signal.SIGINT)
        wait_for("the end of PostgreSQL", lambda: not pids.exists())


@pytest.mark.parametrize("artifacts", ["folder", "s3"])
def test_mlflow_on_postgresql_listens_on_loopback_alone_and_starts_once(
    artifacts: str, server_home: Path, request: pytest.FixtureRequest
) -> None:
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    as_user: list[str] = []
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        user = pwd.getpwnam("postgres")
        as_user = ["unshare", "--user", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}"]
        if subprocess.run([*as_user, "true"], capture_output=True, check=False).returncode:
            pytest.skip("user namespaces are not allowed here")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    words = [
        *as_user,
        "env",
        f"HOME={server_home}",
        f"PATH={path}",
        "bash",
        str(ROOT / "cluster" / "mlflow.sh"),
    ]
    client = request.getfixturevalue("s3") if artifacts == "s3" else None
    words += ["s3://studies/mlflow" if client else str(server_home / "artifacts"), str(port)]
    for _ in range(2):
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, cwd="/", timeout=280
        )
        assert done.returncode == 0, done.stdout + done.stderr
    from mlflow import MlflowClient

    mlflow = MlflowClient(f"http://127.0.0.1:{port}")
    run = mlflow.create_run(mlflow.create_experiment("study"))
    mlflow.log_metric(run.info.run_id, "dice", 0.5)
    mlflow.log_text(run.info.run_id, "table", "report.md")
    assert mlflow.get_run(run.info.run_id).data.metrics == {"dice": 0.5}
    if client:
        (kept,) = [entry["Key"] for entry in client.list_objects_v2(Bucket="studies")["Contents"]]
    else:
        (kept,) = map(str, (server_home / "artifacts").rglob("report.md"))
    assert kept.endswith("/artifacts/report.md")
    listening = subprocess.run(
        ["ss", "-Htln"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert [address for address in listening if address.endswith(f":{port}")] == [
        f"127.0.0.1:{port}"
    ]
    sockets = (
        (server_home / "mlflow-server" / "database" / "postmaster.pid").read_text().splitlines()
    )
    assert sockets[5] == ""  # the address it listens on: none, a Unix socket only
    settings = (server_home / ".bashrc").read_text().splitlines()
    assert settings == [f"export MLFLOW_TRACKING_URI=http://127.0.0.1:{port}"]


@pytest.mark.parametrize(("ray", "expected"), [("exit 1", "switched off"), ("exit 0", "")])
def test_a_worker_switches_itself_off_when_ray_has_gone(
    ray: str, expected: str, tmp_path: Path
) -> None:
    stand_in(tmp_path, "pgrep", ray)
    stand_in(
        tmp_path, "sleep", f'echo x >> {tmp_path}/slept; [ "$(wc -l < {tmp_path}/slept)" -lt 9 ]'
    )
    stand_in(tmp_path, "sudo", "echo switched off")
    words = ["bash", str(ROOT / "cluster" / "orphan.sh"), "3"]
    done = subprocess.run(
        words,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.strip() == expected
    assert len((tmp_path / "slept").read_text().split()) == (3 if expected else 9)
