"""Medical Segmentation Decathlon (MSD): a folder with `dataset.json`, `imagesTr`, `labelsTr` and
perhaps `imagesTs` with `labelsTs`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medvision.cache import read_json
from medvision.data.readers.base import Declared, Entry, Listing
from medvision.data.tasks import MSD_TASKS
from medvision.errors import DataError


class MsdReader:
    """`"training": [{"image": ..., "label": ...}]`; the test cases are the images of imagesTs that
    have a label in labelsTs.
    """

    listing = "dataset.json"

    def read(self, path: Path) -> Listing:
        try:
            content: Any = json.loads(path.read_text(encoding="utf-8"))
            cases = tuple(
                Entry(_files(entry["image"]), str(entry["label"])) for entry in content["training"]
            )
            description = str(content.get("description", ""))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(
                f"{path}: cannot be read as MSD's dataset.json ({type(error).__name__}: {error}); "
                'it needs "training": [{"image": ..., "label": ...}]'
            ) from error
        return Listing(cases, test_entries(path.parent), description)

    def declared(self, folder: Path) -> Declared:
        """`"labels": {"1": "liver"}` and `"modality": {"0": "CT"}`.

        Every modality but CT is `MRI`, whatever its name (FLAIR, T2, ADC, PET): its intensities
        have no fixed scale. One of the ten MSD tasks whose dataset.json is silent has the modality
        that is known of it.
        """
        content: Any = read_json(folder / self.listing, {})
        content = content if isinstance(content, dict) else {}
        labels: dict[str, list[int]] = {}
        for value, name in _numbered(content.get("labels")):
            if value > 0:
                labels.setdefault(name, []).append(value)
        named = [name for _, name in _numbered(content.get("modality"))]
        if not named:
            return Declared(labels, known_modality(folder).modality)
        return Declared(labels, tuple("CT" if name.upper() == "CT" else "MRI" for name in named))


def _files(image: Any) -> tuple[str, ...]:
    """One file with all channels, or a list of files with some each."""
    return tuple(map(str, image)) if isinstance(image, list) and image else (str(image),)


def known_modality(folder: Path) -> Declared:
    """What is known of one of the ten MSD tasks by its name alone."""
    known = MSD_TASKS.get(folder.name)
    return Declared(modality=("CT" if known.modality == "CT" else "MRI",) if known else ())


def _numbered(entries: Any) -> list[tuple[int, str]]:
    """`{"1": "liver", ...}` in the order of the numbers; other keys are no MSD's and left out."""
    if not isinstance(entries, dict):
        return []
    return sorted(
        (int(key), str(name).strip()) for key, name in entries.items() if str(key).isdecimal()
    )


def test_entries(folder: Path) -> tuple[Entry, ...]:
    """The images of imagesTs that have a label in labelsTs."""
    images = sorted((folder / "imagesTs").glob("*.nii*")) if (folder / "imagesTs").is_dir() else []
    return tuple(
        Entry((f"imagesTs/{image.name}",), f"labelsTs/{image.name}")
        for image in images
        if (folder / "labelsTs" / image.name).is_file()
    )
