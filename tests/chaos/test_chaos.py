"""A study on three real Ray nodes while workers, lanes, nodes, the driver and MLflow are killed;
its table must not change.

`make chaos` runs the long one: `MEDVISION_CHAOS_KILLS=20`. The order of the kills is drawn from a
seed.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.run import main
from record.store import Store
from tests.chaos.machines import RAYS_OWN, Machines, title_of
from tests.waiting import PATIENCE_SECONDS, Barrier, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]

KILLS = int(os.environ.get("MEDVISION_CHAOS_KILLS", "6"))
SEED = int(os.environ.get("MEDVISION_CHAOS_SEED", "0"))
KINDS = ("worker", "lane", "node", "drain", "driver", "mlflow")
TRIALS, EPOCHS = 24, 40


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
        titles = [title_of(process) for process in machines.marked("ray::")]
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
