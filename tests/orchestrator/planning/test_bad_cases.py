"""`data.on_bad_case`: broken cases stop a run before any training, or are left out for all models
and named.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from orchestrator.planning.inputs import InputError, gathered, remembered
from orchestrator.planning.plan import make_plan
from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.spec.yaml_file import load_spec
from record.tables import read_results

TASK = "Task99_Spheres"
LOCAL = ["--in-process", "--set", "tracking.enabled=false", "--set", "training.epochs=1"]


def with_values(value: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        volume = nibabel.load(path)
        array = np.array(volume.dataobj)
        array[0, 0, 0] = value
        nibabel.save(nibabel.Nifti1Image(array, volume.affine), path)

    return damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def shortened(path: Path) -> None:
    volume = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.array(volume.dataobj)[1:], volume.affine), path)


DAMAGE = {
    "case_01": ("imagesTr", cut, "cannot be read as NIfTI"),
    "case_03": ("labelsTr", shortened, "differs from its image's"),
    "case_05": ("imagesTr", with_values(np.nan), "NaN or infinite"),
    "case_07": ("labelsTr", with_values(7), "holds label 7"),
    "case_09": ("labelsTr", Path.unlink, "is missing"),
    "case_11": ("imagesTr", lambda path: path.write_bytes(b""), "is empty (0 bytes)"),
}


@pytest.fixture
def broken(tiny_spec: Path, spheres: Path, tmp_path: Path) -> list[str]:
    """Arguments of a run on a copy of the spheres, six of whose 15 cases are broken, each in its
    own way.
    """
    data = tmp_path / "copy"
    shutil.copytree(spheres, data)
    listing = data / TASK / "dataset.json"
    listing.write_text(
        listing.read_text().replace(
            '"training"', '"labels": {"1": "shell", "2": "core"}, "training"', 1
        )
    )
    for case, (folder, damage, _) in DAMAGE.items():
        damage(data / TASK / folder / f"{case}.nii.gz")
    return [str(tiny_spec), "--set", f"data.root={data}"]


def test_by_default_every_bad_case_is_named_and_nothing_starts(
    broken: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*broken, *LOCAL]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(DAMAGE) + 1
    for line, (case, (folder, _, reason)) in zip(lines, DAMAGE.items(), strict=False):
        assert line.startswith(f"error: task '{TASK}', case {case}: /")
        assert f"/{TASK}/{folder}/{case}.nii.gz: " in line
        assert reason in line
    assert "6 of 15 cases cannot be used" in lines[-1]
    assert "data.on_bad_case: exclude" in lines[-1]
    assert not Path(open_store(load_spec(broken[0], broken[2:])).root, "plan.json").exists()

    assert (
        main([*broken, "--dry-run"]) == 0
    )  # what is remembered of a broken case breaks no dry run
    shown = capsys.readouterr().out
    assert "6 unknown" in shown
    assert f"missing: task '{TASK}', case case_09: " in shown


def test_an_excluded_case_plays_no_role_for_any_model_and_stands_in_the_report(
    broken: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*broken, "--set", "data.on_bad_case=exclude"]
    assert main([*arguments, *LOCAL]) == 0
    store = open_store(load_spec(broken[0], broken[2:]))
    split = store.read_json(f"splits/{TASK}.json")
    assert list(split["excluded"]) == list(DAMAGE)
    used = {
        case for fold in split["folds"] for unit in [fold["test"], *fold["order"]] for case in unit
    }
    assert used == split["cases"].keys()
    assert len(used) == 15 - len(DAMAGE)
    assert used.isdisjoint(DAMAGE)
    rows = read_results(store, "cases")
    assert all(set(part["case"]) == used for _, part in rows.groupby("model"))
    provenance = (store.read("report/provenance.csv") or b"").decode().splitlines()
    facts = {what: value for _, what, value in csv.reader(provenance)}
    page = (store.read("report/report.html") or b"").decode()
    for case, (folder, _, reason) in DAMAGE.items():
        assert facts[f"{TASK}, {case}"].startswith(
            f"left out for all models: {folder}/{case}.nii.gz: "
        )
        assert reason in facts[f"{TASK}, {case}"]
        assert f"Left out for all models: {TASK}, {case} ({folder}/{case}.nii.gz: " in page
    capsys.readouterr()
    assert main([*arguments, "--dry-run"]) == 0
    assert "0 done, 0 new, 6 changed" in capsys.readouterr().out  # LOCAL trained one epoch only


def test_ids_depend_on_the_cases_left_and_not_on_the_setting(
    broken: list[str], tiny_spec: Path
) -> None:
    def ids(*overrides: str) -> list[str | None]:
        spec = load_spec(tiny_spec, overrides)
        return [trial.eval_id for trial in make_plan(spec, gathered(spec), {}, {}).trials]

    assert ids() == ids("data.on_bad_case=exclude")
    without = load_spec(broken[0], [*broken[2:], "data.on_bad_case=exclude"])
    assert remembered(without).missing
    inputs = gathered(without)
    assert remembered(without) == inputs
    assert set(ids()).isdisjoint(
        trial.eval_id for trial in make_plan(without, inputs, {}, {}).trials
    )


def test_too_few_cases_left_is_an_error(broken: list[str]) -> None:
    spec = load_spec(broken[0], [*broken[2:], "data.on_bad_case=exclude", "folds=10"])
    with pytest.raises(InputError, match="9 cases"):
        gathered(spec)


def test_bad_test_cases_count_only_where_they_are_used(
    tiny_spec: Path, spheres: Path, tmp_path: Path
) -> None:
    data = tmp_path / "copy"
    shutil.copytree(spheres, data)
    for kind in ("images", "labels"):
        (data / TASK / f"{kind}Ts").mkdir()
        for case in ("case_00", "case_02"):
            shutil.move(
                data / TASK / f"{kind}Tr" / f"{case}.nii.gz",
                data / TASK / f"{kind}Ts" / f"{case}.nii.gz",
            )
    listing = data / TASK / "data_file.txt"
    listing.write_text(
        "".join(
            f"imagesTr/case_{i:02d}.nii.gz,labelsTr/case_{i:02d}.nii.gz\n"
            for i in (1, *range(3, 15))
        )
    )
    (data / TASK / "dataset.json").unlink()
    cut(data / TASK / "imagesTs" / "case_02.nii.gz")
    assert gathered(load_spec(tiny_spec, [f"data.root={data}"])).missing == []
    fixed = [f"data.root={data}", "splits.scheme=fixed"]
    with pytest.raises(InputError, match=r"case_02: /.*imagesTs/case_02.nii.gz: cannot be read"):
        gathered(load_spec(tiny_spec, fixed))
    known = gathered(load_spec(tiny_spec, [*fixed, "data.on_bad_case=exclude"])).tasks[TASK]
    assert known.folds[0].test == ("case_00",)
    assert list(known.excluded) == ["case_02"]
