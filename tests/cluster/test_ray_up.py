"""`ray up cluster-onprem.yaml`, a study on three machines one of which is lost and comes back, a
submitted job, `ray down`.

It takes 5 to 15 minutes on two cores and makes network namespaces; where it may not, it skips.
`make test-cluster` runs this folder alone.

The tests of this file follow each other on one cluster; its machines see this file system, as if it
were NFS.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.run import main
from record.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
TRIALS = 12


def wait_for(
    what: str, holds: Callable[[], Any], seconds: float, more: Callable[[], str] = lambda: ""
) -> Any:
    end = time.monotonic() + seconds
    while not (answer := holds()):
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s\n{more()}"
        time.sleep(1)
    return answer


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
    status = wait_for(
        "three machines",
        lambda: active(cluster),
        300,
        lambda: cluster.on(0, "tail -50 /tmp/ray/*/logs/monitor*"),
    )
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


def test_a_study_outlives_a_lost_machine_and_its_table_is_the_local_one(
    cluster: Any, shared: Path, local_table: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    log, store = shared / "driver.log", Store(f"{shared}/runs/three")
    run = (
        f"cd ~/medvision; python -m orchestrator.run {shared}/three.yaml --address "
        f"{cluster.address}:6379 > {log} 2>&1"
    )
    victim = cluster.machines[2]

    def hosts() -> list[str]:
        return [marker.attempt.host for marker in store.commits().values()]

    driver = cluster.background(0, run)
    wait_for("a trial on the third machine", lambda: victim.name in hosts(), 300, log.read_text)
    victim.stop()
    lost_at = len(hosts())
    assert lost_at < TRIALS
    wait_for("a trial after the loss", lambda: len(hosts()) > lost_at, 200, log.read_text)
    victim.start()
    assert driver.wait(500) == 0, log.read_text()
    with capsys.disabled():
        print(f"\n{log.read_text()}")
    assert len(hosts()) == TRIALS
    assert set(hosts()) == {machine.name for machine in cluster.machines}
    assert store.read("report/significance.csv") == local_table
    status = wait_for(
        "the third machine again", lambda: active(cluster), 300, lambda: cluster.on(0, "ray status")
    )
    with capsys.disabled():
        print(f"\n{status}")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a change that nobody installed, and with what must stay at home."""
    folder = tmp_path / "checkout"
    for name in ("medvision", "orchestrator", "reports", "ablations"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".gitignore", folder)
    numerics = folder / "medvision" / "numerics.py"
    changed = re.sub(
        r"^(TRAIN_NUMERICS\b.*= *)(\d+)", r"\g<1>9\2", numerics.read_text(), flags=re.MULTILINE
    )
    assert changed != numerics.read_text()
    numerics.write_text(changed)
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
    process = subprocess.Popen(words)

    def cut() -> None:
        process.kill()
        process.wait()

    yield f"http://127.0.0.1:{port}", cut
    cut()


def test_a_submitted_job_outlives_its_submitter_and_brings_its_own_code(
    cluster: Any,
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
        "--",
    ]
    words += [
        "python",
        "-m",
        "orchestrator.run",
        f"{shared}/three.yaml",
        "--set",
        f"storage={shared}/submitted",
    ]
    log = shared / "submitter.log"
    wait_for("the tunnel", lambda: cluster.answers(address), 30)
    with log.open("wb") as file:
        submitter = subprocess.Popen(
            words, env=cluster.environment, stdout=file, stderr=file, start_new_session=True
        )
    wait_for("the start of the job", lambda: "Starting Ray" in log.read_text(), 200, log.read_text)
    os.killpg(submitter.pid, signal.SIGKILL)
    submitter.wait()
    cut()

    def status() -> str:
        return str(cluster.on(0, "ray job status --address http://127.0.0.1:8265 study 2>&1"))

    wait_for(
        "the end of the job",
        lambda: re.search("Job 'study' (succeeded|failed)", status()),
        500,
        status,
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
    for number in (
        1,
        2,
        # `ray down` stops the head; the other machines' Ray ends when it has missed the head for a
        # minute
    ):
        wait_for(
            "the end of Ray", lambda at=number: cluster.on(at, running).split()[-1] == "0", 180
        )
    cluster.remove()
    assert (
        "medvision"
        not in subprocess.run(
            ["ip", "netns", "list"], capture_output=True, text=True, check=True
        ).stdout
    )
    assert (
        "medvision"
        not in subprocess.run(["ip", "link"], capture_output=True, text=True, check=True).stdout
    )
    left = subprocess.run(
        ["pgrep", "-f", str(cluster.folder)], capture_output=True, text=True, check=False
    ).stdout
    assert left == ""
