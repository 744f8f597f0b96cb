"""Finds the cases of one task in the layout of the Medical Segmentation Decathlon; opens no volume.

A task is a folder with `dataset.json` (MSD's) or `data_file.txt` (the official code's: one `image,label` pair a line).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class DataError(ValueError):
    """Data is missing or wrong; the message names the path and the remedy."""


@dataclass(frozen=True)
class Case:
    """One labelled volume; `id` is the image's file name without its suffixes."""

    id: str
    image: Path
    label: Path


@dataclass(frozen=True)
class Task:
    """`cases` are the labelled ones (imagesTr/labelsTr); `test_cases` those of imagesTs that have a label in labelsTs;
    `description` is dataset.json's."""

    name: str
    folder: Path
    cases: tuple[Case, ...]
    test_cases: tuple[Case, ...]
    description: str = ""


def read_task(root: Path, name: str) -> Task:
    """The cases of `root/name`, in the order of their ids.

    Raises:
        DataError: no such folder, no readable list of cases, a listed file that is missing (all are named), or a case
            listed twice.
    """
    folder = root / name
    if not folder.is_dir():
        raise DataError(
            f"task {name!r}: there is no folder {folder}; set data.root or MEDVISION_DATA to the folder above"
        )
    description = ""
    if (folder / "dataset.json").is_file():
        pairs, description = _from_dataset_json(folder / "dataset.json")
    elif (folder / "data_file.txt").is_file():
        pairs = _from_data_file(folder / "data_file.txt")
    else:
        raise DataError(f"task {name!r}: {folder} holds neither dataset.json nor data_file.txt")
    cases = [Case(_case_id(image), folder / image, folder / label) for image, label in pairs]
    _check(name, cases)
    return Task(name, folder, tuple(sorted(cases, key=lambda case: case.id)), _test_cases(folder), description)


def _from_dataset_json(path: Path) -> tuple[list[tuple[str, str]], str]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        pairs = [(str(entry["image"]), str(entry["label"])) for entry in content["training"]]
        return pairs, str(content.get("description", ""))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: cannot be read as MSD's dataset.json ({type(error).__name__}: {error}); it needs "
            '"training": [{"image": ..., "label": ...}]'
        ) from error


def _from_data_file(path: Path) -> list[tuple[str, str]]:
    pairs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
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
    missing = [str(path) for case in cases for path in (case.image, case.label) if not path.is_file()]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise DataError(f"task {task!r}: {len(missing)} listed files are missing: {shown}")


def _test_cases(folder: Path) -> tuple[Case, ...]:
    images = sorted((folder / "imagesTs").glob("*.nii*")) if (folder / "imagesTs").is_dir() else []
    cases = [Case(_case_id(image.name), image, folder / "labelsTs" / image.name) for image in images]
    return tuple(case for case in cases if case.label.is_file())
