"""`medvision merge`: parts of a study that ran at different places give the table of one run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from orchestrator.comparing.in_study import Wanted, score_in_study
from orchestrator.comparing.shown import shown_progress
from orchestrator.merge import MergeError
from orchestrator.merge import main as merge
from orchestrator.merge import merge as merged
from orchestrator.planning.study import Study
from orchestrator.planning.study_files import open_store
from orchestrator.run import main as run
from orchestrator.spec.yaml_file import load_spec
from record import paths
from record.external import ExternalFile, external_methods
from record.frozen import freeze, left_behind
from record.schema import Commit, SpentFile, StudyPlan
from record.store import Store
from record.study import StoredStudy
from tests.conftest import TASK

LOCAL = ["--in-process", "--set", "tracking.enabled=false", "--set", "training.epochs=1"]


@pytest.fixture
def spec(tiny_spec: Path) -> Path:
    """The tiny study of two plain models."""
    lines = tiny_spec.read_text().splitlines(keepends=True)
    row = next(number for number, line in enumerate(lines) if "MedVisionLlama" in line)
    lines[row] = "  - {label: ViT_Baseline, name: other, embed_dim: 16, depth: 1, heads: 2}\n"
    tiny_spec.write_text("".join(lines))
    return tiny_spec


def ran(spec: Path, place: str, *more: str) -> str:
    storage = spec.parent / place
    given = [part for change in more for part in ("--set", change)]
    assert run([str(spec), *LOCAL, "--set", f"storage={storage}", *given]) == 0
    return str(storage / "tiny")


@pytest.mark.slow
def test_three_hosts_give_the_table_of_one_run(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = ran(spec, "whole", "seeds=[0, 1, 2]")
    parts = [ran(spec, f"host{seed}", f"seeds=[{seed}]") for seed in range(3)]
    into = spec.parent / "merged" / "tiny"
    assert merge([*parts[:2], "--into", str(into)]) == 0
    assert merge([parts[2], "--into", str(into)]) == 0
    for name in ("significance.csv", "tests.csv", "cases.csv", "self.csv"):
        assert (into / "report" / name).read_bytes() == Path(whole, "report", name).read_bytes()
    study = StoredStudy.opened(Store(str(into)))
    assert not study.missing
    assert all(marker.environment["python"] for marker in study.finished.commits.values())

    # A trial of another version is named.
    store = study.store
    marker = next(iter(study.finished.commits.values()))
    changed = {**marker.environment, "torch": "1.0"}
    store.save(paths.commit(marker.eval_id), marker.model_copy(update={"environment": changed}))
    capsys.readouterr()
    assert merge([parts[0], "--into", str(into)]) == 0
    assert "made with different versions: torch 1.0 in 1" in capsys.readouterr().out

    # The merged study is one that runs on.
    more = ["--set", f"storage={into.parent}", "--set", "seeds=[0, 1, 2]", "--dry-run"]
    assert run([str(spec), *LOCAL, *more]) == 0
    assert "18 trials: 18 done" in capsys.readouterr().out


def planned(spec: Path, place: str, masks: Path, seed: int, *more: str) -> Store:
    """A study of one seed in which nothing is trained yet, with another tool's masks."""
    changes = [f"storage={spec.parent / place}", f"seeds=[{seed}]", *more]
    parsed = load_spec(str(spec), changes)
    store = open_store(parsed)
    study = Study.gathered(parsed, store).write()
    score_in_study(study, Wanted("tool", str(masks)), shown_progress)
    return store


def test_another_tools_masks_are_united_by_cell(spec: Path, spheres: Path) -> None:
    masks = spheres / TASK / "labelsTr"
    one = planned(spec, "one", masks, 0)
    other = planned(spec, "other", masks, 1, "limits.hours=2")  # which changes no number
    for store, seconds in ((one, 10.0), (other, 4.0)):
        store.save(paths.SPENT, SpentFile(gpu_seconds={"of both": seconds}))
    into = Store(str(spec.parent / "merged" / "tiny"))
    for _ in range(2):
        study = merged([one, other], into)
        assert into.load(paths.SPENT, SpentFile) == SpentFile(gpu_seconds={"of both": 14.0})
    cells = [(trial.seed, trial.fold) for trial in study.plan.trials if trial.model == "tool"]
    assert cells == [(seed, fold) for seed in (0, 1) for fold in range(3)]
    assert "tool" not in {trial.model for trial in study.missing}
    assert len(study.rows(paths.CASES)) == 2 * sum(
        len(fold.test) for fold in study.splits[TASK].folds
    )

    # What was planned when is known of the parts alone.
    assert left_behind([one, other]) == []
    freeze(one, one.plan(), {})
    (line,) = left_behind([one, other])
    assert line.startswith(f"{one.uri}: its analysis, frozen at ")

    (method,) = external_methods(other)
    first, *others = method.trainings
    unlike = first.model_copy(update={"seed": 0, "identity": {"masks": "others"}})
    for changed, said in (
        (method.model_copy(update={"trainings": [unlike, *others]}), "the masks of tool .* differ"),
        (method.model_copy(update={"name": "other"}), "other is a model of one study"),
    ):
        other.save(paths.EXTERNAL, ExternalFile(methods=[changed]))
        with pytest.raises(MergeError, match=said):
            merged([one, other], Store(str(spec.parent / "refused" / "tiny")))
    assert not (spec.parent / "refused").exists()


def test_masks_that_a_spec_names_are_united_and_others_of_one_cell_refused(
    spec: Path, spheres: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = spheres / TASK / "labelsTr"
    model = f'models=[{{label: external, name: tool, masks: "{masks}"}}]'
    one, other = ran(spec, "one", model), ran(spec, "other", model, "seeds=[1]")
    into = spec.parent / "merged" / "tiny"
    assert merge([one, other, "--into", str(into)]) == 0
    study = StoredStudy.opened(Store(str(into)))
    assert {(trial.seed, trial.fold) for trial in study.plan.trials} == {
        (seed, fold) for seed in (0, 1) for fold in range(3)
    }
    assert not study.missing
    moved = tmp_path / "moved"
    shutil.copytree(masks, moved)
    image = nibabel.load(moved / "case_00.nii.gz")
    content = np.roll(np.asarray(image.dataobj), 1, axis=0)
    nibabel.save(nibabel.Nifti1Image(content, image.affine), moved / "case_00.nii.gz")
    third = ran(spec, "third", model.replace(str(masks), str(moved)))
    assert merge([one, third, "--into", str(spec.parent / "refused" / "tiny")]) == 2
    assert "the masks of tool Task99_Spheres fraction 1 fold " in capsys.readouterr().err


def test_studies_that_do_not_fit_are_refused_by_name(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = ran(spec, "one"), ran(spec, "other", "seeds=[1]", "training.lr=1.0e-3")
    into = spec.parent / "merged" / "tiny"

    def refused() -> str:
        capsys.readouterr()
        assert merge([one, other, "--into", str(into)]) == 2
        assert not (into / "plan.json").exists()
        return capsys.readouterr().err

    assert "training.lr: 0.01 -> 0.001" in refused()
    Store(other).remove("")
    other = ran(spec, "other", "seeds=[1]")
    store = Store(other)
    split = json.loads(store.read(paths.split(TASK)) or b"")
    split["cases"]["case_03"] = "another content"
    store.write_json(paths.split(TASK), split)
    assert f"data of {TASK} differ: case_03" in refused()
    split["cases"]["case_03"] = StoredStudy.opened(Store(one)).splits[TASK].cases["case_03"]
    split["folds"].reverse()
    store.write_json(paths.split(TASK), split)
    assert f"the folds of {TASK} differ" in refused()
    split["folds"].reverse()
    store.write_json(paths.split(TASK), split)
    name = store.names(paths.COMMITS)[0]
    marker = store.load(f"{paths.COMMITS}/{name}", Commit)
    assert marker is not None
    marker.identity.train["numerics"] = 0
    store.save(f"{paths.COMMITS}/{name}", marker)
    assert "train numerics" in refused()
    plan = store.load(paths.PLAN, StudyPlan)
    assert plan is not None
    assert "is no study" in _no_study(spec.parent / "nothing", into, capsys)


def _no_study(empty: Path, into: Path, capsys: pytest.CaptureFixture[str]) -> str:
    empty.mkdir()
    assert merge([str(empty), "--into", str(into)]) == 2
    return capsys.readouterr().err
