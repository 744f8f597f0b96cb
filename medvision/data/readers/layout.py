"""Folders of the Medical Segmentation Decathlon, which several readers' lists of cases lie in."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medvision.data.readers.base import CHANNEL, Declared, Entry
from medvision.data.settings import Modality
from medvision.data.tasks import MSD_TASKS
from medvision.data.text import read_text
from medvision.data.volume_file import ITK_ENDINGS, without_suffixes
from medvision.errors import DataError


def modality_of(name: str) -> Modality:
    """Every modality but CT is `MRI`, whatever its name: its intensities have no fixed scale."""
    return "CT" if name.upper() == "CT" else "MRI"


def known_modality(folder: Path) -> Declared:
    """What is known of one of the ten MSD tasks by its name alone."""
    known = MSD_TASKS.get(folder.name)
    return Declared(modality=(modality_of(known.modality),) if known else ())


def test_entries(folder: Path) -> tuple[Entry, ...]:
    """The labels of labelsTs with their images of imagesTs, which may be missing; an image without
    a label is no test case. Hidden files, such as macOS's `._x.nii.gz`, do not count.
    """
    images: dict[str, list[str]] = {}
    for image in _volumes(folder / "imagesTs"):
        stem = without_suffixes(image)
        images.setdefault(stem, []).append(image)
        if channel := CHANNEL.fullmatch(stem):
            images.setdefault(channel[1], []).append(image)
    return tuple(
        Entry(
            tuple(f"imagesTs/{image}" for image in images.get(without_suffixes(label), [label])),
            f"labelsTs/{label}",
        )
        for label in _volumes(folder / "labelsTs")
    )


def _volumes(folder: Path) -> list[str]:
    """Names of the images in a folder, sorted."""
    if not folder.is_dir():
        return []
    return sorted(
        path.name
        for path in folder.iterdir()
        if (".nii" in path.name.lower() or path.name.lower().endswith(ITK_ENDINGS))
        and not path.name.startswith(".")
    )


def content_of(path: Path) -> dict[str, Any]:
    """A dataset.json; empty where it is none, which its reader says."""
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def is_nnunet(content: dict[str, Any]) -> bool:
    """Whether a dataset.json is one of nnU-Net v2, whose cases are the files of labelsTr."""
    return "training" not in content and bool({"file_ending", "channel_names"} & set(content))


def declared_in(path: Path) -> Declared:
    """What a dataset.json says of labels and channels, as MSD and as nnU-Net write them."""
    folder, content = path.parent, content_of(path)
    labels: dict[str, list[int]] = {}
    for name, values in _labels(path, content.get("labels")):
        if values := [value for value in values if value > 0]:
            known = labels.setdefault(name, [])
            known += [value for value in values if value not in known]
    modality = content.get("modality", content.get("channel_names"))
    named = [name for _, name in _numbered(modality)]
    if not named:
        return Declared(labels, known_modality(folder).modality)
    return Declared(labels, tuple(modality_of(name) for name in named))


def _labels(path: Path, entries: Any) -> Iterable[tuple[str, list[int]]]:
    """Name and values of every label, of the smallest value first.

    Raises:
        DataError: neither of the two ways of writing them.
    """
    found = [(name, [value]) for value, name in _numbered(entries)]
    if isinstance(entries, dict) and not found:
        for name, values in entries.items():
            listed = values if isinstance(values, list) else [values]
            if not all(_is_label(value) for value in listed):
                raise DataError(
                    f"{path}: labels: {str(name)[:100]!r} has {str(values)[:100]!r}; write "
                    '{"1": "liver"}, or {"liver": 1}'
                )
            found.append((str(name).strip(), [int(value) for value in listed]))
        found.sort(key=lambda label: min(label[1], default=0))
    return found


def _is_label(value: Any) -> bool:
    """A whole number from 0 upward, or its digits."""
    return str(value).isdecimal() and len(str(value)) <= 10


def _numbered(entries: Any) -> list[tuple[int, str]]:
    """`{"1": "liver", ...}` in the order of the numbers, a list in its own, one text as the first;
    empty for anything else.
    """
    if isinstance(entries, str):
        return [(0, entries.strip())]
    if isinstance(entries, list):
        return [(place, str(name).strip()) for place, name in enumerate(entries)]
    if not isinstance(entries, dict) or not all(_is_label(key) for key in entries):
        return []
    return sorted((int(key), str(name).strip()) for key, name in entries.items())
