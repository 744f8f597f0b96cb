"""`medvision score` and `medvision splits`: another tool's masks on a study's folds."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pyarrow.parquet as pq
import pytest

from orchestrator.run import main as run
from orchestrator.score import main as score
from orchestrator.splits import main as splits
from record import paths
from record.damage import read_committed
from record.masks import unpack_masks
from record.schema import StudyPlan
from record.store import Store
from record.study import StoredStudy
from tests.conftest import TASK

LOCAL = ["--in-process", "--set", "tracking.enabled=false", "--set", "training.epochs=1"]
GROUPS = "data.label_groups={core: [2], rim: [1]}"  # in the order of study.json
IDS = ["model", "train_id", "eval_id"]


@pytest.fixture
def spheres(spheres: Path, tmp_path: Path) -> Path:
    """A copy of the data, which tests here change."""
    return shutil.copytree(spheres, tmp_path / "data")


@pytest.fixture
def native(tiny_spec: Path, spheres: Path) -> StoredStudy:
    """A finished study of one model, with two label groups."""
    text = tiny_spec.read_text().splitlines(keepends=True)
    tiny_spec.write_text("".join(line for line in text if "MedVisionLlama" not in line))
    assert run([str(tiny_spec), *LOCAL, "--set", GROUPS]) == 0
    return StoredStudy.opened(Store(str(tiny_spec.parent / "runs" / "tiny")))


def exported(study: StoredStudy, spheres: Path, folder: Path) -> Path:
    """A native study's kept masks as label files, a folder a fold; where its groups overlap, which
    one file of labels cannot say, the value is the pair's own.
    """
    for trial, marker in study.plan.finished(study.finished.commits):
        masks = unpack_masks(read_committed(study.store, marker, paths.MASKS))
        place = folder / f"fold_{trial.fold}"
        place.mkdir(parents=True)
        for case, mask in masks.items():
            image = nibabel.load(spheres / TASK / "labelsTr" / f"{case}.nii.gz")
            label = (2 * mask[0] + mask[1]).astype(np.uint8)  # 1: rim, 2: core, 3: both
            nibabel.save(
                nibabel.Nifti1Image(label, image.affine, image.header), place / f"{case}.nii.gz"
            )
    return folder


def arguments(study: StoredStudy, masks: Path | str, *more: str) -> list[str]:
    return ["--study", study.store.uri, "--name", "again", "--masks", str(masks), *more]


def test_a_trials_own_masks_give_its_rows_byte_for_byte(
    native: StoredStudy,
    spheres: Path,
    tmp_path: Path,
    tiny_spec: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = exported(native, spheres, tmp_path / "masks")
    own = ["--labels", "rim=1,3", "core=2,3", "--allow-empty"]
    assert score(arguments(native, folder / "fold_{fold}", *own)) == 0
    assert "## again against ViT_Baseline" in capsys.readouterr().out
    study = native.again().opened(native.store)
    assert study.plan.models == ["ViT_Baseline", "again"]
    assert not study.missing
    tables: dict[tuple[str, int], bytes] = {}
    for trial, marker in study.plan.finished(study.finished.commits):
        content = pq.read_table(study.store.path(marker.files[paths.CASES]))
        written = tmp_path / "rows.parquet"
        pq.write_table(content.drop_columns(IDS), written)
        tables[trial.model, trial.fold] = written.read_bytes()
        assert marker.cost.known == (trial.model != "again")
    for fold in range(3):
        assert tables["again", fold] == tables["ViT_Baseline", fold]
    masks = [
        unpack_masks(read_committed(study.store, marker, paths.MASKS))
        for trial, marker in study.plan.finished(study.finished.commits)
        if trial.fold == 0
    ]
    assert all((masks[0][case] == masks[1][case]).all() for case in masks[0])

    # A later run of the spec keeps the method, and changed definitions ask for its masks again.
    assert run([str(tiny_spec), *LOCAL, "--set", GROUPS]) == 0
    kept = study.store.load(paths.PLAN, StudyPlan)
    assert kept is not None
    assert kept.models == ["ViT_Baseline", "again"]
    assert kept.comparisons[-1].candidates == ["again"]
    tolerance = ["--set", "evaluation.tolerances=[2.0]"]
    run([str(tiny_spec), *LOCAL, "--set", GROUPS, *tolerance])
    left = StoredStudy.opened(native.store).missing
    assert {trial.model for trial in left} == {"again"}
    assert len(left) == 3
    assert score(arguments(native, folder / "fold_{fold}", *own)) == 0
    assert not StoredStudy.opened(native.store).missing

    # Damaged scores of these masks are made again; a trial's own are a run's to mend.
    store = native.store
    for trial, marker in StoredStudy.opened(store).plan.finished(store.commits()):
        if trial.fold == 1:
            store.write(marker.files[paths.CASES], b"changed")
    assert len(StoredStudy.opened(store).missing) == 2
    assert score(arguments(native, folder / "fold_{fold}", *own)) == 0
    left = StoredStudy.opened(store)
    assert [trial.model for trial in left.missing] == ["ViT_Baseline"]
    assert len(left.finished.damaged) == 1


def test_wrong_masks_and_leaks_are_refused_by_case(
    native: StoredStudy, spheres: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truths = spheres / TASK / "labelsTr"
    before = native.store.below("")
    assert splits([native.store.uri, "--as", "nnunet", "--output", str(tmp_path / "out")]) == 0
    listed = tmp_path / "out" / TASK / "splits_final.json"
    assert score(arguments(native, truths, "--folds", str(listed))) == 0  # the truth, perfect
    folds = json.loads(listed.read_text())
    leaked = folds[1]["test"][0]
    folds[1]["train"].append(leaked)
    listed.write_text(json.dumps(folds))
    capsys.readouterr()
    assert score(arguments(native, truths, "--folds", str(listed))) == 2
    assert f"{leaked}: the tool trained on it in fold 1, which tests it" in capsys.readouterr().err
    odd = tmp_path / "odd"
    odd.mkdir()
    for path in sorted(truths.iterdir()):
        image = nibabel.load(path)
        values = np.array(image.dataobj)
        values[0, 0, 0] = 255 if path.name == "case_03.nii.gz" else values[0, 0, 0]
        nibabel.save(nibabel.Nifti1Image(values, image.affine), odd / path.name)
    description = json.loads((spheres / TASK / "dataset.json").read_text())
    labels = {"labels": {"0": "background", "1": "rim", "2": "core"}}
    (spheres / TASK / "dataset.json").write_text(json.dumps(description | labels))
    assert score(arguments(native, odd)) == 2
    assert "case_03.nii.gz: holds the label 255, which belongs" in capsys.readouterr().err
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(truths.iterdir())[1:]:
        (few / path.name).symlink_to(path)
    assert score(arguments(native, few)) == 2
    assert "case_00: " in capsys.readouterr().err
    assert score(arguments(native, "nowhere/{run}")) == 2
    assert "{task}, {fraction}, {fold}, {seed}" in capsys.readouterr().err
    for pattern in ("{fold", "}", "{fold.x}", "{fold:02d}", "{}", "{fold!r}"):
        assert score(arguments(native, f"masks/{pattern}")) == 2
        assert f"error: --masks 'masks/{pattern}': " in capsys.readouterr().err
        assert score(arguments(native, truths, "--folds", f"{pattern}.json")) == 2
        assert f"error: --folds '{pattern}.json': " in capsys.readouterr().err
    wrong = ["--study", native.store.uri, "--name", "ViT_Baseline", "--masks", str(truths)]
    assert score(wrong) == 2
    assert "is a model of this study" in capsys.readouterr().err
    description["training"] = description["training"][1:]
    (spheres / TASK / "dataset.json").write_text(json.dumps(description))
    assert score(arguments(native, truths)) == 2
    assert "1 cases that its folds test are no longer in" in capsys.readouterr().err
    added = set(native.store.below("")) - set(before)
    assert not any("nowhere" in name for name in added)


def test_every_format_has_the_cases_of_the_split_file(
    native: StoredStudy, tmp_path: Path, spheres: Path
) -> None:
    out = tmp_path / "out"
    for kind in ("nnunet", "json", "csv", "monai"):
        assert splits([native.store.uri, "--as", kind, "--output", str(out)]) == 0
    stored = native.splits[TASK].folds
    nnunet = json.loads((out / TASK / "splits_final.json").read_text())
    ours = json.loads((out / f"{TASK}.json").read_text())["fractions"]["1"]
    with (out / f"{TASK}.csv").open() as file:
        rows = list(csv.DictReader(file))
    for number, fold in enumerate(stored):
        monai = json.loads((out / TASK / f"fold_{number}.json").read_text())
        everyone = {case for unit in fold.order for case in unit}
        assert nnunet[number]["test"] == ours[number]["test"] == fold.test
        assert set(nnunet[number]["train"]) | set(nnunet[number]["val"]) == everyone
        assert nnunet[number]["train"] == ours[number]["train"]
        assert nnunet[number]["val"] == ours[number]["validation"]
        for role, part in (
            ("train", "training"),
            ("validation", "validation"),
            ("test", "testing"),
        ):
            in_csv = [r["case"] for r in rows if (r["fold"], r["role"]) == (str(number), role)]
            assert in_csv == ours[number][role]
            paths_of = [Path(entry["label"]) for entry in monai[part]]
            assert [path.name.partition(".")[0] for path in paths_of] == ours[number][role]
            assert all(path.is_file() for path in paths_of)
