"""nnunetv2's own code as a trial: trained for a few iterations, killed, resumed."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from record import paths
from record.store import Store
from record.study import StoredStudy
from tests.waiting import wait_for

ROOT = Path(__file__).parents[3]
MISSING = "nnunetv2 is not installed: pip install '.[nnunet]'"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("nnunetv2") is None, reason=MISSING),
]


@pytest.fixture
def spec(tiny_spec: Path) -> Path:
    lines = [line for line in tiny_spec.read_text().splitlines() if "- {label" not in line]
    model = "label: nnUNetv2, epochs: 3, iterations: 2, validation_iterations: 1"
    lines[lines.index("models:")] = f"models:\n  - {{{model}}}"
    lines += ["splits: {scheme: holdout}", "tracking: {enabled: false}"]
    text = "\n".join(lines).replace("epochs: 3, batch", "checkpoint_epochs: 1, batch")
    tiny_spec.write_text(
        text.replace("image_size", "label_groups: {rim: [1], core: [2]}, image_size")
    )
    return tiny_spec


def command(spec: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "orchestrator.run", str(spec), "--in-process", *more]


def rows(store: Store) -> list[dict[str, object]]:
    study = StoredStudy.opened(store)
    ((_, marker),) = study.plan.finished(study.finished.commits)
    return pq.read_table(store.path(marker.files[paths.CASES])).to_pylist()


def test_what_was_killed_goes_on_from_nnunets_checkpoint_to_the_same_masks(
    spec: Path, tmp_path: Path
) -> None:
    store = Store(str(tmp_path / "runs" / "tiny"))
    driver = subprocess.Popen(command(spec, "--json"), cwd=ROOT)

    def checkpoint() -> bool:
        return any(place.endswith(".pt") for place in store.below(paths.CHECKPOINTS))

    try:
        wait_for("nnU-Net's first checkpoint", checkpoint, seconds=400)
        (worker,) = psutil.Process(driver.pid).children()
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    wait_for("nnU-Net's end", lambda: not worker.is_running())
    assert not StoredStudy.opened(store).finished.commits
    again = subprocess.run(command(spec, "--json"), cwd=ROOT, capture_output=True, check=True)
    events = [json.loads(line) for line in again.stdout.splitlines()]
    epochs = [event["epoch"] for event in events if event["event"] == "epoch"]
    assert epochs in ([2, 3], [3])  # the first is not trained again
    assert not store.names(paths.CHECKPOINTS)

    other = ["--set", f"storage={tmp_path / 'undisturbed'}"]
    subprocess.run(command(spec, "--quiet", *other), cwd=ROOT, check=True)
    assert rows(Store(str(tmp_path / "undisturbed" / "tiny"))) == rows(store)
