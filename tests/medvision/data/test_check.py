"""Every kind of damage gives its own line; a second check reads nothing; warnings forbid
nothing.
"""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medvision.data import check as checking
from medvision.data import fingerprints as fingerprints_module
from medvision.data.__main__ import main
from medvision.data.check import (
    Reasons,
    as_json,
    check_case,
    check_folder,
    check_task,
    show,
    task_folders,
)
from medvision.data.fingerprints import index_cases
from medvision.data.readers.base import Case, Declared
from medvision.data.readers.registry import read_task
from tests.medvision.data.damage import (
    AFFINE,
    DAMAGE,
    TASK,
    changed,
    moved,
    save,
    shifted,
    with_value,
)


@pytest.fixture
def data(spheres: Path, tmp_path: Path, isolated_cache: Path) -> Path:
    """A copy of the spheres that declares its labels."""
    folder = tmp_path / "data" / TASK
    shutil.copytree(spheres / TASK, folder)
    content = json.loads((folder / "dataset.json").read_text())
    content["labels"] = {"0": "background", "1": "shell", "2": "core"}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("kind", DAMAGE)
def test_every_damage_is_one_error_that_names_its_file(data: Path, kind: str) -> None:
    folder, damage, message = DAMAGE[kind]
    path = data / folder / "case_01.nii.gz"
    damage(path)
    task = read_task(data.parent, TASK)
    found = check_task(task)
    assert list(found) == ["case_01"]
    (error,) = found["case_01"].errors
    assert error.startswith(f"{path}: ")
    assert message in error
    assert check_case(task.cases[1], task.declared) == found["case_01"]


def test_good_cases_have_nothing_and_without_declared_labels_any_label_will_do(data: Path) -> None:
    with_value(7)(data / "labelsTr" / "case_01.nii.gz")
    (data / "data_file.txt").write_text(
        "".join(
            f"imagesTr/{path.name},labelsTr/{path.name}\n" for path in (data / "imagesTr").iterdir()
        )
    )
    assert list(check_task(read_task(data.parent, TASK))) == ["case_01"]
    (data / "dataset.json").unlink()
    assert check_task(read_task(data.parent, TASK)) == {}


def test_what_is_odd_but_usable_is_a_warning(data: Path) -> None:
    changed(np.zeros_like)(data / "labelsTr" / "case_01.nii.gz")
    for folder in ("imagesTr", "labelsTr"):
        moved(lambda affine: affine @ np.diag([-1, 1, 1, 1]))(data / folder / "case_02.nii.gz")
    shifted(0.1)(data / "labelsTr" / "case_03.nii.gz")
    shifted(1e-4)(data / "labelsTr" / "case_04.nii.gz")
    found = check_task(read_task(data.parent, TASK))
    assert [reasons.errors for reasons in found.values()] == [(), (), ()]
    texts = {case: reasons.warnings[0].partition(": ")[2] for case, reasons in found.items()}
    assert texts == {
        "case_01": "nothing is labelled",
        "case_02": "orientation LAS, most cases have RAS",
        "case_03": "its affine puts it 0.1 mm (0.1 voxels) away from its image",
    }
    assert main(["check", str(data)]) == 0


def test_a_copy_of_an_image_is_an_error_of_the_second(data: Path) -> None:
    for folder in ("imagesTr", "labelsTr"):
        shutil.copy(data / folder / "case_03.nii.gz", data / folder / "case_07.nii.gz")
    found = check_task(read_task(data.parent, TASK))
    path = data / "imagesTr" / "case_07.nii.gz"
    assert found == {"case_07": Reasons((f"{path}: has the same content as the image of case_03",))}


def test_a_second_check_reads_only_what_changed(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "labelsTr" / "case_04.nii.gz").unlink()
    first = check_task(read_task(data.parent, TASK))
    real, read = fingerprints_module.validate, []

    def watch(case: Case) -> object:
        read.append(case.id)
        return real(case)

    monkeypatch.setattr(fingerprints_module, "validate", watch)
    assert check_task(read_task(data.parent, TASK)) == first
    assert read == []
    with_value(7)(data / "labelsTr" / "case_01.nii.gz")
    assert list(check_task(read_task(data.parent, TASK))) == ["case_01", "case_04"]
    assert read == ["case_01"]
    content = json.loads((data / "dataset.json").read_text())
    content["labels"]["7"] = "another"  # what is declared is no part of the memory
    (data / "dataset.json").write_text(json.dumps(content))
    assert list(check_task(read_task(data.parent, TASK))) == ["case_04"]
    assert read == ["case_01"]


def test_an_interrupted_check_remembers_what_it_read(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def stop() -> None:
        seen.append(True)
        if len(seen) == 3:
            raise KeyboardInterrupt

    task = read_task(data.parent, TASK)
    with pytest.raises(KeyboardInterrupt):
        index_cases(task, 1, stop)
    index_cases(task, 1, lambda: seen.append(True))
    assert len(seen) == 3 + 15 - 3


def test_a_ct_with_slope_and_intercept_and_a_4d_image_are_good(tmp_path: Path) -> None:
    label = np.zeros((4, 5, 6), np.uint8)
    label[1, 1, 1] = 1
    save(tmp_path / "label.nii", label[..., None], AFFINE)
    ct = nibabel.Nifti1Image(np.arange(120, dtype=np.int16).reshape(4, 5, 6), AFFINE)
    ct.header.set_slope_inter(1.5, -1024)
    nibabel.save(ct, tmp_path / "ct.nii.gz")
    save(tmp_path / "four.nii.gz", np.zeros((4, 5, 6, 4), np.float32), AFFINE)
    for image in ("ct.nii.gz", "four.nii.gz"):
        assert (
            check_case(
                Case("c", (tmp_path / image,), tmp_path / "label.nii"), Declared({"one": [1]})
            )
            == Reasons()
        )


def test_a_folder_of_tasks_is_shown_as_lines_a_table_or_json(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = data.parent / "Task98_Other"
    shutil.copytree(data, other)
    (other / "labelsTr" / "case_00.nii.gz").write_bytes(b"")
    (data.parent / "Task97_Broken").mkdir()
    (data.parent / "Task97_Broken" / "dataset.json").write_text("{")
    assert [path.name for path in task_folders(data.parent)] == [
        "Task97_Broken",
        "Task98_Other",
        TASK,
    ]

    assert main(["check", str(data.parent), "--workers", "1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("error: Task97_Broken: ")
    assert (
        lines[1]
        == f"error: Task98_Other, case_00: {other}/labelsTr/case_00.nii.gz: is empty (0 bytes)"
    )
    assert [line for line in lines[3:] if not line.startswith("  ")] == [
        "Task98_Other: 15 cases, 1 unusable; 1 errors, 0 warnings",
        f"{TASK}: 15 cases, 0 unusable; 0 errors, 0 warnings",
    ]

    assert main(["check", str(data.parent), "--json"]) == 1
    values = json.loads(capsys.readouterr().out)
    assert [value["cases"] for value in values] == [0, 15, 15]
    assert list(values[1]["reasons"]["case_00"]) == ["errors", "warnings"]
    reports = [check_folder(path) for path in task_folders(data.parent)]
    assert json.loads(as_json(reports)) == values

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    show(reports, shown)
    assert "what is wrong" in shown.getvalue()

    assert main(["check", str(data)]) == 0
    assert main(["check", str(data / "imagesTr")]) == 2
    assert "no task here" in capsys.readouterr().err


def test_a_name_in_brackets_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show([checking.Report("T", 1, {"[red]": Reasons(("/[bold]/x: is missing",))})])
    assert capsys.readouterr().out.startswith("error: T, [red]: /[bold]/x: is missing\n")


def test_shapes_voxels_and_volumes_of_labels_are_shown(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against nibabel and numpy."""
    assert main(["check", str(data)]) == 0
    shown = capsys.readouterr().out
    images = [nibabel.load(path) for path in sorted((data / "imagesTr").glob("*.nii.gz"))]
    sizes = [[image.shape[axis] for image in images] for axis in range(3)]
    wanted = [str(min(s)) if min(s) == max(s) else f"{min(s)} to {max(s)}" for s in sizes]
    assert f"  images: {' x '.join(wanted)} voxels of " in shown
    labels = [nibabel.load(path) for path in sorted((data / "labelsTr").glob("*.nii.gz"))]
    values = [np.asarray(label.dataobj) for label in labels]
    edge = [float(np.prod(label.header.get_zooms()[:3])) / 1000 for label in labels]
    core = [(v == 2).sum() * ml for v, ml in zip(values, edge, strict=True) if (v == 2).any()]
    assert (
        f"  label 2 (core): in {len(core)} of 15 cases, {min(core):.3g} to {max(core):.3g} ml, "
        f"median {np.median(core):.3g}" in shown
    )
    main(["check", str(data), "--json"])
    [value] = json.loads(capsys.readouterr().out)
    first = value["found"]["case_00"]
    assert first["shape"] == list(images[0].shape[:3])
    assert first["volumes_mm3"]["2"] == pytest.approx(1000 * (values[0] == 2).sum() * edge[0])


def test_the_patients_file_is_checked(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = data / "patients.csv"
    rows = [f"case_{number:02d},P{number // 2}" for number in range(15)]
    path.write_text("\n".join(["case,patient", *rows, "case_99,P9"]))
    assert main(["check", str(data)]) == 0
    assert (
        "  patients.csv: 8 patients, 1 to 2 cases each; it also names 1 that are no cases here: "
        "case_99\n" in capsys.readouterr().out
    )
    path.write_text("\n".join(["case,patient", *rows[:13]]))
    assert main(["check", str(data)]) == 1
    assert f"error: {TASK}: {path}: names no patient of 2 cases: case_13, case_14" in (
        capsys.readouterr().out
    )
    other = data / "other.csv"
    other.write_text("case,who\n")
    assert main(["check", str(data), "--patients", str(other)]) == 1
    assert f"{other}:1: lacks the column patient" in capsys.readouterr().out
