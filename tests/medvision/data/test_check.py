"""Every kind of damage gives its own line; a second check reads nothing; warnings forbid
nothing.
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
from collections.abc import Callable
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

TASK = "Task99_Spheres"
AFFINE = np.diag([1.0, 1.25, 1.5, 1.0])


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    volume = nibabel.load(path)
    return np.array(volume.dataobj), volume.affine


def save(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def changed(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda path: save(path, change(load(path)[0]), load(path)[1])


def moved(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda path: save(path, load(path)[0], change(load(path)[1]))


def shifted(mm: float) -> Callable[[Path], None]:
    offset = np.zeros((4, 4))
    offset[0, 3] = mm
    return moved(lambda affine: affine + offset)


def with_value(value: float, dtype: type | None = None) -> Callable[[Path], None]:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.astype(dtype or array.dtype)
        array[0, 0, 0] = value
        return array

    return changed(change)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def last_bytes_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def checksum_broken(path: Path) -> None:
    content = gzip.compress(gzip.decompress(path.read_bytes()))
    path.write_bytes(content[:-8] + bytes([content[-8] ^ 1]) + content[-7:])


def affine_broken(path: Path) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[280:284] = np.float32(np.nan).tobytes()  # the first of srow_x
    path.write_bytes(gzip.compress(content))


def affine_flat(path: Path) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[312:328] = bytes(16)  # srow_z
    path.write_bytes(gzip.compress(content))


DAMAGE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "truncated gzip": ("imagesTr", cut, "cannot be read as NIfTI: EOFError"),
    "truncated in gzip's trailer": (
        "imagesTr",
        last_bytes_cut,
        "cannot be read as NIfTI: EOFError",
    ),
    "wrong checksum": ("labelsTr", checksum_broken, "CRC check failed"),
    "wrong shape": (
        "labelsTr",
        changed(lambda a: a[:-1]),
        "shape (15, 17, 15) differs from its image's (16, 17, 15)",
    ),
    "two-dimensional": (
        "imagesTr",
        changed(lambda a: a[:, :, 0]),
        "3D or 4D is needed, its shape is (16, 17)",
    ),
    "nan": ("imagesTr", with_value(np.nan), "holds 1 values that are NaN or infinite"),
    "infinite": ("imagesTr", with_value(-np.inf), "holds 1 values that are NaN or infinite"),
    "nan label": (
        "labelsTr",
        with_value(np.nan, np.float32),
        "holds 1 values that are NaN or infinite",
    ),
    "undeclared label": ("labelsTr", with_value(7), "holds label 7, dataset.json declares 1, 2"),
    "negative label": (
        "labelsTr",
        with_value(-1, np.int16),
        "holds label -1, dataset.json declares 1, 2",
    ),
    "half a label": (
        "labelsTr",
        with_value(1.5, np.float32),
        "(round them and save it again), it holds 1.5",
    ),
    "missing label": ("labelsTr", lambda path: path.unlink(), "is missing"),
    "missing image": ("imagesTr", lambda path: path.unlink(), "is missing"),
    "zero bytes": ("imagesTr", lambda path: path.write_bytes(b""), "is empty (0 bytes)"),
    "no NIfTI": ("labelsTr", lambda path: path.write_bytes(b"no image"), "cannot be read as NIfTI"),
    "moved": ("labelsTr", shifted(3), "3 mm (3 voxels) away from its image"),
    "flipped": (
        "labelsTr",
        moved(lambda a: a @ np.diag([-1, 1, 1, 1])),
        "orientation LAS differs from its image's RAS",
    ),
    "complex": (
        "imagesTr",
        changed(lambda a: a.astype(np.complex64)),
        "real numbers are needed, its voxels are complex64",
    ),
    "nan affine": ("labelsTr", affine_broken, "the affine must be finite"),
    "flat affine": ("imagesTr", affine_flat, "leaves out a direction"),
}


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
    assert lines[3:] == [
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
