"""Finds the cases of one task in the layout of the Medical Segmentation Decathlon; opens no volume.

A task is a folder with `dataset.json` (MSD's) or `data_file.txt` (the official code's: one
`image,label` pair a line).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LISTINGS = ("dataset.json", "data_file.txt")


class DataError(ValueError):
    """Data is missing or wrong; the message, one line, names the path and the remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(
            " ".join(part.strip() for part in message.splitlines())
        )  # libraries say more in several


@dataclass(frozen=True)
class Case:
    """One labelled volume; `id` is the image's file name without its suffixes."""

    id: str
    image: Path
    label: Path


@dataclass(frozen=True)
class Task:
    """`cases` are the labelled ones (imagesTr/labelsTr); `test_cases` those of imagesTs that have a
    label in labelsTs; `description` is dataset.json's."""

    name: str
    folder: Path
    cases: tuple[Case, ...]
    test_cases: tuple[Case, ...]
    description: str = ""


def is_task(folder: Path) -> bool:
    """Whether a folder lists cases."""
    return any((folder / listing).is_file() for listing in LISTINGS)


def read_task(root: Path, name: str) -> Task:
    """The cases of `root/name`, in the order of their ids. Single files may be missing:
    `index_cases` says so of each.

    Raises:
        DataError: no such folder, no readable list of cases, no listed file is there, a case listed
            twice, or a training case that is a test case, too.
    """
    folder = root / name
    if not folder.is_dir():
        raise DataError(
            f"task {name!r}: there is no folder {folder}; set data.root or MEDVISION_DATA to the "
            "folder above"
        )
    listing = next((path for kind in LISTINGS if (path := folder / kind).is_file()), None)
    if listing is None:
        raise DataError(f"task {name!r}: {folder} holds neither {' nor '.join(LISTINGS)}")
    pairs, description = read_pairs(listing)
    cases = [Case(_case_id(image), folder / image, folder / label) for image, label in pairs]
    _check(name, cases)
    tested = _test_cases(folder)
    if both := sorted({case.id for case in cases} & {case.id for case in tested}):
        raise DataError(
            f"task {name!r}: {len(both)} cases are both listed for training and labelled in "
            f"labelsTs: {', '.join(both[:5])}; a test case must not train"
        )
    return Task(name, folder, tuple(sorted(cases, key=lambda case: case.id)), tested, description)


def read_pairs(path: Path) -> tuple[list[tuple[str, str]], str]:
    """The (image, label) pairs of a dataset.json or a data_file.txt as they stand there, and the
    description.

    Raises:
        DataError: the file is missing or is neither.
    """
    pairs, description = (
        _from_dataset_json(path) if path.suffix == ".json" else (_from_data_file(path), "")
    )
    for name in (name for pair in pairs for name in pair):
        if not name or not name.isprintable():
            raise DataError(f"{path}: {name!r} cannot be the name of a file")
    return pairs, description


def _from_dataset_json(path: Path) -> tuple[list[tuple[str, str]], str]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        pairs = [(str(entry["image"]), str(entry["label"])) for entry in content["training"]]
        return pairs, str(content.get("description", ""))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path}: cannot be read as MSD's dataset.json ({type(error).__name__}: {error}); it "
            "needs "
            '"training": [{"image": ..., "label": ...}]'
        ) from error


def _from_data_file(path: Path) -> list[tuple[str, str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list of cases: {error}") from error
    pairs = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        image, comma, label = line.partition(",")
        if not comma or not label.strip():
            raise DataError(f"{path}:{number}: expected `image,label`, got {line!r}")
        pairs.append((image.strip(), label.strip()))
    return pairs


def _case_id(image: str) -> str:
    name = Path(image).name
    for suffix in (".nii.gz", ".nii"):
        name = name.removesuffix(suffix)
    return name


def _check(task: str, cases: list[Case]) -> None:
    if not cases:
        raise DataError(f"task {task!r}: its list of training cases is empty")
    ids = [case.id for case in cases]
    if twice := sorted({case for case in ids if ids.count(case) > 1}):
        raise DataError(f"task {task!r}: cases listed twice: {', '.join(twice)}")
    listed = [path for case in cases for path in (case.image, case.label)]
    if not any(
        os.path.isfile(path) for path in listed
    ):  # also where the name is too long for the system
        raise DataError(
            f"task {task!r}: all {len(listed)} listed files are missing, the first is {listed[0]}"
        )


def _test_cases(folder: Path) -> tuple[Case, ...]:
    images = sorted((folder / "imagesTs").glob("*.nii*")) if (folder / "imagesTs").is_dir() else []
    cases = [
        Case(_case_id(image.name), image, folder / "labelsTs" / image.name) for image in images
    ]
    return tuple(case for case in cases if case.label.is_file())
