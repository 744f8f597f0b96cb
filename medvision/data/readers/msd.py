"""Medical Segmentation Decathlon (MSD): a folder with `dataset.json`, `imagesTr`, `labelsTr` and
perhaps `imagesTs` with `labelsTs`. The dataset.json of nnU-Net and of MONAI's data lists is read,
too, as far as it lists cases.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medvision.data.readers.base import CHANNEL, Declared, Entry, Listing, without_suffixes
from medvision.data.readers.text import read_text
from medvision.data.settings import Modality
from medvision.data.tasks import MSD_TASKS
from medvision.errors import DataError


class MsdReader:
    """`"training": [{"image": ..., "label": ...}]`, where an image may be a list of files with some
    channels each; the test cases are those of labelsTs with their images in imagesTs.
    """

    listing = "dataset.json"

    def read(self, path: Path) -> Listing:
        try:
            content: Any = json.loads(read_text(path))
            cases = tuple(_entry(path, entry) for entry in content["training"])
            description = str(content.get("description", ""))
        except DataError:
            raise
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(
                f"{path}: cannot be read as MSD's dataset.json ({type(error).__name__}: {error}); "
                'it needs "training": [{"image": ..., "label": ...}]'
            ) from error
        return Listing(cases, test_entries(path.parent), description)

    def declared(self, folder: Path) -> Declared:
        """`"labels": {"1": "liver"}` and `"modality": {"0": "CT"}`; or, as nnU-Net has them,
        `"labels": {"liver": 1, "whole": [1, 2]}` and `"channel_names": {"0": "CT"}`.

        Every modality but CT is `MRI`, whatever its name (FLAIR, T2, ADC, PET): its intensities
        have no fixed scale. One of the ten MSD tasks whose dataset.json is silent has the modality
        that is known of it.
        """
        path = folder / self.listing
        try:
            content: Any = json.loads(read_text(path))
        except (OSError, ValueError, RecursionError):  # `read` says so
            content = {}
        content = content if isinstance(content, dict) else {}
        labels: dict[str, list[int]] = {}
        for name, values in _labels(path, content.get("labels")):
            if values := [value for value in values if value > 0]:
                known = labels.setdefault(name, [])
                known += [value for value in values if value not in known]
        modality = content.get("modality", content.get("channel_names"))
        named = [name for _, name in _numbered(modality)]
        if not named:
            return Declared(labels, known_modality(folder).modality)
        return Declared(labels, tuple(_modality(name) for name in named))


def known_modality(folder: Path) -> Declared:
    """What is known of one of the ten MSD tasks by its name alone."""
    known = MSD_TASKS.get(folder.name)
    return Declared(modality=(_modality(known.modality),) if known else ())


def test_entries(folder: Path) -> tuple[Entry, ...]:
    """The labels of labelsTs with their images of imagesTs, which may be missing; an image without
    a label is no test case. Files that systems hide, as macOS does with `._x.nii.gz`, are none.
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
        if ".nii" in path.name.lower() and not path.name.startswith(".")
    )


def _entry(path: Path, entry: Any) -> Entry:
    images, label = _files(entry["image"]), _files(entry["label"])
    if len(label) != 1:
        raise DataError(
            f"{path}: a case has one label file with all its labels, {images[0]} has {len(label)}: "
            f"{', '.join(label[:5])}"
        )
    return Entry(images, label[0])


def _files(named: Any) -> tuple[str, ...]:
    """One file, or a list of them."""
    return tuple(map(str, named)) if isinstance(named, list) and named else (str(named),)


def _modality(name: str) -> Modality:
    return "CT" if name.upper() == "CT" else "MRI"


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
    empty where there is none of these.
    """
    if isinstance(entries, str):
        return [(0, entries.strip())]
    if isinstance(entries, list):
        return [(place, str(name).strip()) for place, name in enumerate(entries)]
    if not isinstance(entries, dict) or not all(_is_label(key) for key in entries):
        return []
    return sorted((int(key), str(name).strip()) for key, name in entries.items())
