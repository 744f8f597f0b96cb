"""The same cases in every layout of folders: the same ids, images and truths, hence one set of
numbers.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medvision.data.check import check_folder, check_task, show
from medvision.data.nifti import read_image, read_truth
from medvision.data.readers.registry import is_task, read_listing, read_task
from medvision.errors import DataError
from tests.conftest import TASK

LABELS = {"background": 0, "shell": 1, "core": 2, "whole": [1, 2]}
GROUPS = {"shell": [1], "core": [2]}


def nnunet(source: Path, folder: Path) -> None:
    for part in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (folder / part).mkdir(parents=True)
    for number, case in enumerate(cases(source)):
        part = "Ts" if number == 14 else "Tr"
        shutil.copy(source / "imagesTr" / f"{case}.nii.gz", folder / f"images{part}")
        image = folder / f"images{part}" / f"{case}.nii.gz"
        image.rename(image.with_name(f"{case}_0000.nii.gz"))
        shutil.copy(source / "labelsTr" / f"{case}.nii.gz", folder / f"labels{part}")
    (folder / "dataset.json").write_text(
        json.dumps(
            {"channel_names": {"0": "CT"}, "labels": LABELS, "numTraining": 14}
            | {"file_ending": ".nii.gz", "description": "Synthetic spheres"}
        )
    )


def table(source: Path, folder: Path) -> None:
    folder.mkdir()
    lines = [
        f"{case},{source}/imagesTr/{case}.nii.gz,{source}/labelsTr/{case}.nii.gz"
        for case in cases(source)[:14]
    ]
    (folder / "cases.csv").write_text("\n".join(["case,image,label", *lines]))


def patients(source: Path, folder: Path) -> None:
    for case in cases(source)[:14]:
        (folder / case).mkdir(parents=True)
        shutil.copy(source / "imagesTr" / f"{case}.nii.gz", folder / case / f"{case}_t1.nii.gz")
        shutil.copy(source / "labelsTr" / f"{case}.nii.gz", folder / case / f"{case}_seg.nii.gz")


def cases(source: Path) -> list[str]:
    return sorted(path.name.partition(".")[0] for path in (source / "labelsTr").iterdir())


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (nnunet, "read as nnU-Net's raw data, 1 channel in files .nii.gz"),
        (table, "read as cases.csv: a case is a line, its channels are image"),
        (patients, "in case_00 the label is case_00_seg.nii.gz, the images are case_00_t1.nii.gz"),
    ],
)
def test_every_layout_gives_the_same_cases(
    layout: Callable[[Path, Path], None],
    said: str,
    spheres: Path,
    tmp_path: Path,
    isolated_cache: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    layout(spheres / TASK, tmp_path / "Dataset004_Spheres")
    assert is_task(tmp_path / "Dataset004_Spheres")
    plain, found = read_task(spheres, TASK), read_task(tmp_path, "Dataset004_Spheres")
    assert [case.id for case in found.cases] == [case.id for case in plain.cases][:14]
    for one, other in zip(plain.cases[:14], found.cases, strict=True):
        images = [read_image(case.images) for case in (one, other)]
        truths = [read_truth(case, GROUPS) for case in (one, other)]
        assert np.array_equal(images[0].channels, images[1].channels)
        assert np.array_equal(images[0].affine, images[1].affine)
        assert np.array_equal(truths[0].masks, truths[1].masks)
        assert truths[0].spacing == truths[1].spacing
    assert not check_task(found)
    show([check_folder(tmp_path / "Dataset004_Spheres")])
    assert said in capsys.readouterr().out


def test_nnunets_labels_regions_channels_and_tests_are_read(spheres: Path, tmp_path: Path) -> None:
    nnunet(spheres / TASK, tmp_path / "Dataset004_Spheres")
    found = read_task(tmp_path, "Dataset004_Spheres")
    assert found.declared.labels == {"shell": [1], "core": [2], "whole": [1, 2]}
    assert found.declared.modality == ("CT",)
    assert [case.id for case in found.test_cases] == ["case_14"]
    assert found.description == "Synthetic spheres"


def test_nnunets_missing_channel_is_told_of_its_case(
    spheres: Path, tmp_path: Path, isolated_cache: Path
) -> None:
    folder = tmp_path / "Dataset004_Spheres"
    nnunet(spheres / TASK, folder)
    content = json.loads((folder / "dataset.json").read_text())
    content["channel_names"] = {"0": "T1", "1": "T2"}
    (folder / "dataset.json").write_text(json.dumps(content))
    for path in sorted((folder / "imagesTr").iterdir())[1:]:
        shutil.copy(path, path.with_name(path.name.replace("_0000", "_0001")))
    found = check_task(read_task(tmp_path, "Dataset004_Spheres"))
    told = [
        reason for case, reasons in found.items() if case == "case_00" for reason in reasons.errors
    ]
    assert told == [f"{folder}/imagesTr/case_00_0001.nii.gz: is missing"]


def test_a_list_of_nnunets_may_name_files_anywhere(spheres: Path, tmp_path: Path) -> None:
    folder = tmp_path / "D"
    folder.mkdir()
    source = spheres / TASK
    named = {
        case: {
            "images": [f"{source}/imagesTr/{case}.nii.gz"],
            "label": f"{source}/labelsTr/{case}.nii.gz",
        }
        for case in cases(source)
    }
    content = {"channel_names": {"0": "T1"}, "labels": LABELS, "dataset": named}
    (folder / "dataset.json").write_text(json.dumps(content))
    assert len(read_task(tmp_path, "D").cases) == 15
    content["dataset"] = {"case_00": {"label": "x"}}
    (folder / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="dataset: 'case_00' needs images and label"):
        read_task(tmp_path, "D")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scan,label\na,b", "cases.csv:1: its header must name image and label"),
        ("image,label\na,", "cases.csv:2: lacks label"),
        ("image,label\na,b", "all 2 listed files are missing"),
    ],
)
def test_a_wrong_table_is_told_by_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "T").mkdir()
    (tmp_path / "T" / "cases.csv").write_text(text)
    with pytest.raises(DataError) as raised:
        read_task(tmp_path, "T")
    assert said in str(raised.value)


def test_columns_of_a_table_are_channels_and_it_is_read_by_its_ending(tmp_path: Path) -> None:
    path = tmp_path / "listed.csv"
    path.write_text("case,image_t1,image_t2,label\np1,a,b,c\n")
    [entry] = read_listing(path).cases
    assert (entry.case, entry.images, entry.label) == ("p1", ("a", "b"), "c")


def test_a_patients_folder_without_one_label_is_named(spheres: Path, tmp_path: Path) -> None:
    patients(spheres / TASK, tmp_path / "P")
    extra = tmp_path / "P" / "case_03"
    shutil.copy(extra / "case_03_seg.nii.gz", extra / "case_03_mask.nii.gz")
    with pytest.raises(
        DataError, match=r"case_03: needs one label .* it has 2 labels and 1 images"
    ):
        read_task(tmp_path, "P")


def folders(place: Path, named: dict[str, list[str]]) -> Path:
    """Folders with empty files of these names."""
    for patient, names in named.items():
        (place / patient).mkdir(parents=True)
        for name in names:
            (place / patient / name).touch()
    return place


@pytest.mark.parametrize(
    ("named", "channels"),
    [
        (
            {
                "P1": ["P1_T1.nii.gz", "P1_flair.nii.gz", "P1_seg.nii.gz"],
                "P2": ["p2-t1.nii.gz", "p2-FLAIR.nii", "p2-seg.nii.gz"],
            },
            ("flair", "t1"),
        ),
        (
            {
                "a": ["sub01_T1.nii.gz", "sub01_t1ce.nii.gz", "sub01_seg.nii.gz"],
                "b": ["sub02_t1.nii.gz", "sub02_T1CE.nii.gz", "sub02_seg.nii.gz"],
            },
            ("t1", "t1ce"),
        ),
        ({"1": ["img_1.nii.gz", "seg_1.nii.gz"], "2": ["img_2.nii.gz", "seg_2.nii.gz"]}, ("img",)),
        (
            {
                "1": ["t1.nii.gz", "t2.nii.gz", "seg.nii.gz"],
                "2": ["t1.nii.gz", "t2.nii.gz", "seg.nii.gz"],
            },
            ("t1", "t2"),
        ),
    ],
)
def test_channels_of_patients_are_in_one_order(
    tmp_path: Path, named: dict[str, list[str]], channels: tuple[str, ...]
) -> None:
    folders(tmp_path / "P", named)
    for case in read_task(tmp_path, "P").cases:
        shown = [image.name.lower().replace("-", "_") for image in case.images]
        for name, channel in zip(shown, channels, strict=True):
            assert channel in name.partition(".")[0].split("_")


def test_a_patient_with_other_channels_is_named(tmp_path: Path) -> None:
    named = {
        "P1": ["t1.nii.gz", "t2.nii.gz", "seg.nii.gz"],
        "P2": ["t1.nii.gz", "flair.nii.gz", "seg.nii.gz"],
        "P3": ["t1.nii.gz", "seg.nii.gz"],
    }
    with pytest.raises(
        DataError, match=r"are called t1, t2 in P1; P2 has flair, t1; P3 has t1; .*cases\.csv"
    ):
        read_task(folders(tmp_path / "P", named).parent, "P")
