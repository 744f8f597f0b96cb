"""nnU-Net itself as trials of a study, with a stand-in for nnunetv2 that keeps its contract."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import orchestrator.spec.other_tools
from medvision.training.ranks import Ranks
from medvision.training.watch import Interrupted, Watch
from orchestrator.planning.identity import Job
from orchestrator.planning.study import Study
from orchestrator.planning.study_files import open_store
from orchestrator.run import main as run
from orchestrator.spec.yaml_file import load_spec
from orchestrator.trial.attempt import run_attempt
from orchestrator.trial.nnunet.dataset import label_of, overlapping
from orchestrator.trial.nnunet.kept import Kept, packed, unpacked
from record import paths
from record.events import Epoch, Event
from record.schema import Claim
from record.store import Store
from record.study import StoredStudy
from tests.conftest import TASK

STAND_IN = Path(__file__).with_name("stand_in")
LOCAL = ["--in-process"]


@pytest.fixture
def spec(tiny_spec: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of nnU-Net alone, of one fold."""
    monkeypatch.syspath_prepend(str(STAND_IN))
    lines = [line for line in tiny_spec.read_text().splitlines() if "- {label" not in line]
    model = "  - {label: nnUNetv2, name: nnU-Net v2, epochs: 3, iterations: 4}"
    lines[lines.index("models:")] = f"models:\n{model}"
    lines += ["splits: {scheme: holdout}", "tracking: {enabled: false}"]
    tiny_spec.write_text(
        "\n".join(lines).replace("epochs: 3, batch", "checkpoint_epochs: 1, batch")
    )
    return tiny_spec


def planned(spec: Path, *changes: str) -> tuple[Store, Job]:
    """The study as a driver writes it, and its one trial."""
    loaded = load_spec(spec, changes)
    study = Study.gathered(loaded, open_store(loaded))
    study.write()
    (job,) = study.jobs("token")
    study.store.save(paths.claim(job.train_id), Claim(token=job.token, eval_id=job.eval_id))
    return study.store, job


def rows(study: StoredStudy) -> list[dict[str, object]]:
    ((_, marker),) = study.plan.finished(study.finished.commits)
    table = pq.read_table(study.store.path(marker.files[paths.CASES]))
    return table.to_pylist()


def test_nnunet_is_planned_trained_predicted_scored_and_committed(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([str(spec), *LOCAL, "--dry-run"]) == 0
    assert f"nnU-Net v2 {TASK} fraction 1 fold 0 seed 0  ~" in capsys.readouterr().out
    assert run([str(spec), *LOCAL]) == 0
    study = StoredStudy.opened(Store(str(spec.parent / "runs" / "tiny")))
    ((_, marker),) = study.plan.finished(study.finished.commits)
    assert set(marker.files) == {paths.CASES, paths.HISTORY, paths.MASKS}
    assert (marker.cost.epochs, marker.cost.chosen_epoch, marker.cost.parameters) == (3, 3, 1)
    assert marker.cost.peak_memory_bytes > 0
    history = pq.read_table(study.store.path(marker.files[paths.HISTORY])).to_pylist()
    assert {(row["split"], row["metric"]) for row in history} == {
        ("train", "loss"),
        ("train", "lr"),
        ("val", "loss"),
        ("val", "dice"),
    }
    scored = rows(study)
    assert np.mean([row["dice"] for row in scored]) > 0.9  # a threshold finds bright spheres
    assert not study.store.names(paths.CHECKPOINTS)
    assert run([str(spec), *LOCAL, "--set", "evaluation.tolerances=[2.0]"]) == 0
    again = StoredStudy.opened(study.store)
    ((_, other),) = again.plan.finished(again.finished.commits)
    assert (other.train_id, other.files[paths.MASKS]) == (
        marker.train_id,
        marker.files[paths.MASKS],
    )


def test_what_was_interrupted_goes_on_from_its_checkpoint_to_the_same_masks(
    spec: Path, tmp_path: Path
) -> None:
    batch = "models.0.batch_size=3"
    store, job = planned(spec, batch)
    seen: list[int] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Epoch):
            seen.append(event.epoch)

    def attempt(stop_after: int) -> None:
        watch = Watch(stop=lambda: bool(seen) and seen[-1] >= stop_after)
        run_attempt(job, store, Ranks(device=torch.device("cpu")), on_event, watch)

    with pytest.raises(Interrupted):
        attempt(1)
    scratch = Path(store.path(paths.scratch(job.train_id)))
    raw = scratch / "nnUNet_raw" / "Dataset001_Study"
    (fold,) = json.loads(
        (scratch / "nnUNet_preprocessed" / "Dataset001_Study" / "splits_final.json").read_text()
    )
    plans = json.loads(
        (scratch / "nnUNet_preprocessed" / "Dataset001_Study" / "nnUNetPlans.json").read_text()
    )
    assert plans["configurations"]["3d_fullres"]["batch_size"] == 3
    known = {path.name.removesuffix(".nii.gz") for path in (raw / "labelsTr").iterdir()}
    assert known == {*fold["train"], *fold["val"]}  # nnU-Net plans on no test case
    assert len(known) + len(list((scratch / "tested").iterdir())) == 15
    assert seen == [1]
    attempt(99)
    assert seen == [1, 2, 3]
    whole, undisturbed = StoredStudy.opened(store), tmp_path / "undisturbed"
    assert whole.finished.commits[job.eval_id].cost.epochs == 3
    other, its_job = planned(spec, batch, f"storage={undisturbed}")
    run_attempt(its_job, other, Ranks(device=torch.device("cpu")), lambda event: None)
    assert rows(StoredStudy.opened(other)) == rows(whole)


def test_a_checkpoint_that_is_damaged_is_not_read() -> None:
    kept = Kept(b"nnU-Net's\nfile", False, [{"train_loss": 1.0}], {"seconds": 2.0})
    content = packed(kept)
    assert unpacked(content) == kept
    assert unpacked(None) is None
    for damaged in (content[:-1], content.replace(b"file", b"fire"), b"another file", b""):
        with pytest.warns(UserWarning, match="the training starts over"):
            assert unpacked(damaged) is None


def test_a_failure_says_in_one_line_what_nnunet_said(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--set", "models.0.configuration=3d_lowres", "--set", "resources.max_attempts=1"]
    assert run([str(spec), *LOCAL, *more]) == 1
    reason = "RuntimeError: nnU-Net plans no 3d_lowres for these cases, but 2d, 3d_fullres"
    assert f"nnU-Net ended with exit code 1: {reason}" in capsys.readouterr().out
    store = Store(str(spec.parent / "runs" / "tiny"))
    ((failure,),) = store.failures().values()
    assert "\n" not in failure.reason
    assert "Traceback (most recent call last)" in failure.details.partition("Last log lines:")[2]


def test_a_plan_says_where_nnunetv2_is_missing_and_what_to_do(
    spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = orchestrator.spec.other_tools
    monkeypatch.setattr(tools.importlib.util, "find_spec", lambda name: None)
    said = "label nnUNetv2: nnunetv2 is not installed here; pip install '.[nnunet]'"
    assert run([str(spec), *LOCAL, "--dry-run"]) == 0
    assert f"  missing: {said}\n" in capsys.readouterr().out
    assert run([str(spec), *LOCAL]) == 2
    assert capsys.readouterr().err == f"error: {said}\n"


def test_overlapping_groups_are_regions(spec: Path) -> None:
    groups = "data.label_groups={any: all, core: [2]}"  # in the order of study.json
    store, job = planned(spec, groups)
    run_attempt(job, store, Ranks(device=torch.device("cpu")), lambda event: None)
    scored = rows(StoredStudy.opened(store))
    assert np.mean([row["dice"] for row in scored if row["group"] == "any"]) > 0.9
    assert overlapping({"whole": "all", "core": [2]})
    assert not overlapping({"rim": [1], "core": [2]})
    assert not overlapping({"whole": "all"})
    masks = np.array([[True, True, False], [False, True, False]]).reshape(2, 3, 1, 1)
    assert label_of(masks, regions=True).ravel().tolist() == [1, 3, 0]


def test_its_ids_depend_on_its_own_recipe_alone(spec: Path) -> None:
    _, job = planned(spec)
    _, other = planned(spec, "training.lr=0.5", "data.image_size=[8, 8, 8]")
    assert other.train_id == job.train_id
    own = ("models.0.epochs=4", "models.0.batch_size=3")
    for change in (*own, "seeds=[1]", "data.label_groups={core: [2]}"):
        assert planned(spec, change)[1].train_id != job.train_id


def test_it_trains_in_one_worker(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([str(spec), *LOCAL, "--set", "resources.workers=2"]) == 2
    assert "nnU-Net v2 trains in one worker: give it shapes" in capsys.readouterr().err
