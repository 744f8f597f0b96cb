"""`{label: external}` in a spec: another tool's masks as trials of the grid."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from orchestrator.run import main as run
from orchestrator.score import main as score
from record.store import Store
from record.study import StoredStudy
from tests.conftest import TASK

LOCAL = ["--in-process", "--set", "tracking.enabled=false", "--set", "training.epochs=1"]


@pytest.fixture
def masks(spheres: Path, tmp_path: Path) -> Path:
    """What another tool found: the truth, a voxel aside."""
    folder = tmp_path / "masks"
    folder.mkdir()
    for path in sorted((spheres / TASK / "labelsTr").glob("case_*.nii.gz")):
        image = nibabel.load(path)
        moved = np.roll(np.asarray(image.dataobj), 1, axis=0)
        nibabel.save(nibabel.Nifti1Image(moved, image.affine), folder / path.name)
    return folder


@pytest.fixture
def spec(tiny_spec: Path, masks: Path) -> Path:
    """One small model of our own, and the other tool's masks."""
    own = next(line for line in tiny_spec.read_text().splitlines() if "MedVisionLlama" in line)
    other = f'  - {{label: external, name: other tool, masks: "{masks}"}}'
    tiny_spec.write_text(tiny_spec.read_text().replace(own, other))
    return tiny_spec


def stored(spec: Path) -> StoredStudy:
    return StoredStudy.opened(Store(str(spec.parent / "runs" / "tiny")))


def test_masks_of_a_spec_are_planned_scored_once_and_stand_in_the_table(
    spec: Path, masks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([str(spec), *LOCAL]) == 0
    shown = capsys.readouterr().out
    assert "other tool: 15 masks of other tools are scored" in shown
    assert "## other tool against ViT_Baseline" in shown
    study = stored(spec)
    assert study.plan.models == ["ViT_Baseline", "other tool"]
    assert [one.candidates for one in study.plan.comparisons] == [["other tool"]]
    finished = study.plan.finished(study.finished.commits)
    costs = {trial.model: marker.cost.known for trial, marker in finished}
    assert costs == {"ViT_Baseline": True, "other tool": False}
    mine = {trial.fold: trial.eval_id for trial, _ in finished if trial.model == "other tool"}
    assert len(mine) == 3

    # `medvision score` gives the same masks the same ids.
    again = ["--study", study.store.uri, "--name", "again", "--masks", str(masks)]
    assert score(again) == 0
    trials = stored(spec).plan.trials
    assert {t.fold: t.eval_id for t in trials if t.model == "again"} == mine
    assert score([*again[:2], "--name", "other tool", *again[4:]]) == 2
    assert "'other tool': is a model of this study" in capsys.readouterr().err

    assert run([str(spec), *LOCAL]) == 0
    shown = capsys.readouterr().out
    assert "masks of other tools are scored" not in shown
    assert "Nothing to train" in shown
    moved = nibabel.load(masks / "case_00.nii.gz")
    content = np.roll(np.asarray(moved.dataobj), 1, axis=1)
    nibabel.save(nibabel.Nifti1Image(content, moved.affine), masks / "case_00.nii.gz")
    assert run([str(spec), *LOCAL, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    line = next(line for line in shown.splitlines() if "changed" in line and "other" in line)
    assert "cost unknown  external.masks: " in line
    assert run([str(spec), *LOCAL]) == 0
    assert "other tool: 5 masks of other tools are scored" in capsys.readouterr().out
    assert not stored(spec).missing


def test_wrong_masks_are_refused_by_case_before_anything_starts(
    spec: Path, masks: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (masks / "case_03.nii.gz").rename(masks / "other.nii.gz")
    assert run([str(spec), *LOCAL]) == 2
    said = capsys.readouterr().err
    assert f"error: model other tool: case_03: {masks} has no mask of it" in said
    assert "error: model other tool: other: " in said
    assert not (tmp_path / "runs" / "tiny" / "plan.json").exists()
    (masks / "other.nii.gz").rename(masks / "case_03.nii.gz")
    for case, value in (("case_03", 0), ("case_07", 255)):
        image = nibabel.load(masks / f"{case}.nii.gz")
        values = np.where(np.asarray(image.dataobj) > 0, value, 0).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(values, image.affine), masks / f"{case}.nii.gz")
    assert run([str(spec), *LOCAL]) == 2
    said = capsys.readouterr().err
    assert "case_03.nii.gz: is empty, and the truth is not" in said
    assert not Store(str(tmp_path / "runs" / "tiny")).commits()


def test_a_case_that_the_tool_trained_on_is_refused(
    spec: Path, masks: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    trained = [{"train": ["case_00"], "val": []}] * 3  # each case is tested in one of the folds
    listed = tmp_path / "splits_final.json"
    listed.write_text(json.dumps(trained))
    assert run([str(spec), *LOCAL, "--set", f"models.1.folds={listed}"]) == 2
    assert "model other tool: case_00: the tool trained on it" in capsys.readouterr().err


def test_a_dry_run_lists_masks_of_unknown_cost_and_what_is_wrong_with_them(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([str(spec), *LOCAL, "--dry-run"]) == 0
    assert "other tool Task99_Spheres fraction 1 fold 0 seed 0  cost unknown  data not read" in (
        capsys.readouterr().out
    )
    assert run([str(spec), *LOCAL, "--set", "fractions=[0.5, 1]", "--set", "seeds=[0, 1]"]) == 0
    capsys.readouterr()
    cells = [t for t in stored(spec).plan.trials if t.model == "other tool"]
    assert {(t.fraction, t.seed) for t in cells} == {(1.0, 0), (1.0, 1)}
    assert len({t.eval_id for t in cells}) == 3  # the same masks for both seeds
    wrong = ["--set", "models.1.masks=nowhere"]
    assert run([str(spec), *LOCAL, *wrong, "--dry-run"]) == 0
    assert "missing: model other tool: nowhere: there is no such folder" in capsys.readouterr().out


def test_places_that_a_pattern_cannot_have_are_named_with_the_spec(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([str(spec), *LOCAL, "--set", "models.1.masks=x/{case}", "--dry-run"]) == 2
    assert "knows {task}, {fraction}, {fold}, {seed} only" in capsys.readouterr().err
