"""`ray up cluster-onprem.yaml`, a study on three machines one of which is lost and comes back, a
submitted job, `ray down`.

It takes 5 to 15 minutes on two cores and makes network namespaces; where it may not, it skips.
`make test-cluster` runs this folder alone.

The tests of this file follow each other on one cluster; its machines see this file system, as if it
were NFS.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.executors.lanes.preflight import ROOMS
from orchestrator.run import main
from record.store import Store
from tests.cluster.machines import command
from tests.waiting import Barrier, end, ended_at_last, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
ROOT = Path(__file__).resolve().parents[2]
TRIALS = 12


def active(cluster: Any) -> str | None:
    """`ray status` when all three machines are in it."""
    status = str(cluster.on(0, "ray status"))
    return status if re.search(r"Active:\n 3 local\.cluster\.node", status) else None


@pytest.fixture(scope="module")
def shared(cluster: Any, spheres: Path) -> Path:
    """The folder that all machines share, with data and a spec of trials that fill one machine
    each.
    """
    folder: Path = cluster.folder / "shared"
    shutil.copytree(spheres, folder / "data")
    (folder / "three.yaml").write_text(
        f"""\
name: three
models:
  - {{label: ViT_Baseline, embed_dim: 16, depth: 2, heads: 2}}
  - {{label: ViT_MLP, embed_dim: 16, depth: 2, heads: 2}}
tasks: [Task99_Spheres]
folds: 3
seeds: [0, 1]
data: {{root: "{folder}/data", image_size: [16, 16, 16], patch_size: [4, 4, 4]}}
training: {{epochs: 25, batch_size: 4, optimizer: adamw, schedule: onecycle, lr: 1.0e-2,
  prior_bias: false}}
evaluation: {{metrics: [dice, nsd, hd95], tolerances: [1.0]}}
storage: "{folder}/runs"
"""
    )
    return folder


@pytest.fixture(scope="module")
def local_table(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The table of the same study, run in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDVISION_CACHE", str(tmp_path_factory.mktemp("cache")))
        assert (
            main([str(shared / "three.yaml"), "--in-process", "--set", f"storage={shared}/local"])
            == 0
        )
    return (shared / "local" / "three" / "report" / "significance.csv").read_bytes()


def test_ray_up_brings_three_machines(cluster: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.ray("get-auth-token", "--generate")
    cluster.ray("up", "--yes", cluster.file)
    logs = "tail -50 /tmp/ray/*/logs/monitor*"
    status = wait_for("three machines", lambda: active(cluster), more=lambda: cluster.on(0, logs))
    with capsys.disabled():
        print(f"\n{status}")
    assert "/10000.0 lane" in status
    listening = cluster.on(0, "ss -Htln 'sport = :8265'").split()
    assert "127.0.0.1:8265" in listening


def test_a_machine_that_does_not_see_the_storage_is_named_before_the_start(
    cluster: Any, shared: Path
) -> None:
    run = (
        f"python -m orchestrator.run {shared}/three.yaml --address {cluster.address}:6379 --set "
        "storage=/tmp/ray/private"
    )
    said = cluster.on(0, f"cd ~/medvision; {run}; echo exit $?")
    assert "exit 2" in said
    for name in ("medvision-2", "medvision-3"):
        assert f"error: {name} does not see /tmp/ray/private/three" in said


@pytest.fixture
def barrier(cluster: Any) -> Iterator[Barrier]:
    """For the trials of all machines.

    After a test that failed, its driver is dead, and a machine that it stopped comes back.
    """
    yield cluster.barrier
    cluster.barrier.lift()
    for machine in cluster.machines:
        if machine.process is None:
            machine.start()
    cluster.on(0, "pkill -KILL -f orchestrator[.]run || true")  # of that machine alone


def test_a_study_outlives_a_lost_machine_and_its_table_is_the_local_one(
    cluster: Any,
    barrier: Barrier,
    shared: Path,
    local_table: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each machine trains one trial and waits with the next; the third is lost with that one, and
    gets another when it is back.
    """
    log, store = shared / "driver.log", Store(f"{shared}/runs/three")
    log.touch()
    run = (
        f"cd ~/medvision; python -m orchestrator.run {shared}/three.yaml --address "
        f"{cluster.address}:6379 > {log} 2>&1"
    )
    names = {machine.name for machine in cluster.machines}
    victim = cluster.machines[2]

    def hosts() -> list[str]:
        return [marker.attempt.host for marker in store.commits().values()]

    def all_wait() -> bool:
        return {one.host for one in barrier.waiting()} == names

    barrier.hold(0)
    driver = cluster.background(0, run)
    wait_for("a trial on each machine", all_wait, more=log.read_text)
    for name in names:
        barrier.let_pass(name)
    wait_for(
        "a finished trial of each machine",
        lambda: sorted(hosts()) == sorted(names),
        more=log.read_text,
    )
    wait_for("another trial on each machine", all_wait, more=log.read_text)
    victim.stop()
    barrier.let_pass(cluster.machines[1].name)
    wait_for("a trial after the loss", lambda: len(hosts()) == 4, more=log.read_text)
    victim.start()
    wait_for("a trial on it again", lambda: barrier.waiting(victim.name), more=log.read_text)
    status = wait_for(
        "the third machine again", lambda: active(cluster), more=lambda: cluster.on(0, "ray status")
    )
    barrier.lift()
    wait_for("the driver's end", lambda: driver.poll() is not None, more=log.read_text)
    assert driver.returncode == 0, log.read_text()
    with capsys.disabled():
        print(f"\n{log.read_text()}\n{status}")
    assert len(hosts()) == TRIALS
    assert hosts().count(victim.name) >= 2
    assert store.read("report/significance.csv") == local_table


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a change that nobody installed, and with what must stay at home."""
    folder = tmp_path / "checkout"
    for name in (*ROOMS, "ablations"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".gitignore", folder)
    text = (versions := folder / "medvision" / "versions.py").read_text()
    changed = re.sub(r"^(TRAIN_NUMERICS\b.*= *)(\d+)", r"\g<1>9\2", text, flags=re.MULTILINE)
    assert changed != text
    versions.write_text(changed)
    for name in ("runs/old/plan.json", ".venv/bin/python", "scan.nii.gz", "weights.safetensors"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes(1000))
    return folder


@pytest.fixture
def tunnel(cluster: Any) -> Iterator[tuple[str, Callable[[], None]]]:
    """The head's dashboard on this machine, as `ray dashboard` forwards it; and how to cut it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    words = ["ssh", *cluster.ssh, "-N", "-L", f"{port}:127.0.0.1:8265", f"root@{cluster.address}"]
    with ended_at_last(subprocess.Popen(words)) as process:
        yield f"http://127.0.0.1:{port}", lambda: end(process)


def test_a_submitted_job_outlives_its_submitter_and_brings_its_own_code(
    cluster: Any,
    barrier: Barrier,
    shared: Path,
    local_table: bytes,
    checkout: Path,
    tunnel: tuple[str, Callable[[], None]],
) -> None:
    """The changed TRAIN_NUMERICS is part of every id: a worker with the installed code would refuse
    every trial.
    """
    address, cut = tunnel
    words = [
        "ray",
        "job",
        "submit",
        "--address",
        address,
        "--submission-id",
        "study",
        "--working-dir",
        str(checkout),
    ]
    words += ["--", "python", "-m", "orchestrator.run", f"{shared}/three.yaml"]
    words += ["--set", f"storage={shared}/submitted"]
    log = shared / "submitter.log"

    def status() -> str:
        return str(cluster.on(0, "ray job status --address http://127.0.0.1:8265 study 2>&1"))

    wait_for("the tunnel", lambda: cluster.answers(address))
    barrier.hold(0)
    with log.open("wb") as file:
        submitter = subprocess.Popen(words, env=cluster.environment, stdout=file, stderr=file)
    with ended_at_last(submitter):
        wait_for("a trial of the job", barrier.waiting, more=log.read_text)
        assert submitter.poll() is None, log.read_text()  # it follows the job to its end
    cut()
    barrier.lift()
    wait_for(
        "the end of the job",
        lambda: re.search("Job 'study' (succeeded|failed)", status()),
        more=status,
    )
    logs = cluster.on(0, "ray job logs --address http://127.0.0.1:8265 study 2>&1")
    assert "Job 'study' succeeded" in status(), logs
    store = Store(f"{shared}/submitted/three")
    assert store.read("report/significance.csv") == local_table
    assert not set(store.commits()) & set(Store(f"{shared}/runs/three").commits())
    brought = cluster.on(
        0, "ls -A /tmp/ray/session_latest/runtime_resources/working_dir_files/*/"
    ).split()
    assert "orchestrator" in brought
    assert not {"runs", ".venv", "scan.nii.gz", "weights.safetensors"} & set(brought)


def test_ray_down_and_the_machines_leave_nothing_behind(cluster: Any) -> None:
    cluster.ray("down", "--yes", cluster.file)
    running = "ps -eo comm= | grep -cE '^(raylet|gcs_server)' || true"
    assert cluster.on(0, running).split()[-1] == "0"
    # `ray down` stops the head; the others' Ray ends when it has missed the head for a minute.
    for number in (1, 2):
        wait_for("the end of Ray", lambda at=number: cluster.on(at, running).split()[-1] == "0")
    cluster.remove()
    for what in ("netns", "link"):
        assert "medvision" not in command("ip", what, "list")

    def left() -> str:
        return subprocess.run(
            ["pgrep", "-af", str(cluster.folder)], capture_output=True, text=True, check=False
        ).stdout

    # `ray up` and `ray down` share connections, which end some seconds after their last use.
    wait_for("the end of every process", lambda: not left(), more=left)
