"""What a lane makes of nnunetv2's own code: trained for a few iterations, killed, resumed.

The stand-in for it, with which faster tests work, must do the same here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from orchestrator.trial.nnunet.process import WORKER
from record import paths
from record.store import Store
from record.study import StoredStudy
from tests.waiting import PATIENCE_SECONDS, ended_at_last, wait_for

ROOT = Path(__file__).parents[3]
STAND_IN = Path(__file__).with_name("stand_in")
MISSING = "nnunetv2 is not installed: pip install '.[nnunet]'"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@dataclass(frozen=True)
class Package:
    """What processes import as nnunetv2: their environment, and while the file `hold` exists, no
    second epoch of the stand-in ends. One of nnunetv2 takes long enough.
    """

    environment: dict[str, str]
    hold: Path


@pytest.fixture(params=["stand_in", "itself"])
def package(request: pytest.FixtureRequest, tmp_path: Path) -> Package:
    hold = tmp_path / "hold"
    if request.param == "stand_in":
        return Package({"PYTHONPATH": str(STAND_IN), "STAND_IN_HOLD": str(hold)}, hold)
    if importlib.util.find_spec("nnunetv2") is None:
        pytest.skip(MISSING)
    return Package({}, hold)


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
    return [sys.executable, "-m", "orchestrator.run", str(spec), *more]


def rows(store: Store) -> list[dict[str, object]]:
    study = StoredStudy.opened(store)
    ((_, marker),) = study.plan.finished(study.finished.commits)
    return pq.read_table(store.path(marker.files[paths.CASES])).to_pylist()


def nnunet_of(folder: Path) -> psutil.Process | None:
    """The process in which nnU-Net works for a study below the folder."""
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if WORKER in words and words[-1].startswith(f"{folder}/"):
            return process
    return None


def test_what_is_killed_in_a_lane_goes_on_from_nnunets_checkpoint_to_the_same_masks(
    package: Package, spec: Path, tmp_path: Path
) -> None:
    store, said = Store(str(tmp_path / "runs" / "tiny")), tmp_path / "said"
    environment = {**os.environ, **package.environment}
    package.hold.touch()

    with (
        said.open("w") as out,
        ended_at_last(
            subprocess.Popen(command(spec, "--json"), cwd=ROOT, env=environment, stdout=out)
        ) as driver,
    ):

        def checkpoint() -> bool:
            assert driver.poll() is None, said.read_text()
            return any(place.endswith(".pt") for place in store.below(paths.CHECKPOINTS))

        wait_for("nnU-Net's first checkpoint", checkpoint, more=said.read_text)
        nnunet = nnunet_of(tmp_path)
        assert nnunet is not None
        lane = nnunet.parent()
        assert lane is not None
        assert "ray::" in " ".join(lane.cmdline())
        lane.kill()
        wait_for("nnU-Net's end", lambda: not nnunet.is_running())
        package.hold.unlink()
        assert driver.wait(PATIENCE_SECONDS) == 0, said.read_text()
    events = [json.loads(line) for line in said.read_text().splitlines()]
    assert [one["attempt"] for one in events if one["event"] == "started"] == [1, 2]
    second = max(place for place, one in enumerate(events) if one["event"] == "started")
    epochs = [one["epoch"] for one in events[second:] if one["event"] == "epoch"]
    assert epochs in ([2, 3], [3])  # the first is not trained again
    assert not store.names(paths.CHECKPOINTS)

    other = ["--in-process", "--quiet", "--set", f"storage={tmp_path / 'undisturbed'}"]
    subprocess.run(command(spec, *other), cwd=ROOT, env=environment, check=True)
    assert rows(Store(str(tmp_path / "undisturbed" / "tiny"))) == rows(store)
