"""Medical Segmentation Decathlon (MSD): a folder with `dataset.json`, `imagesTr`, `labelsTr` and
perhaps `imagesTs` with `labelsTs`. The dataset.json of nnU-Net and of MONAI's data lists is read,
too, as far as it lists cases.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medvision.data.readers.base import Declared, Entry, Listing
from medvision.data.readers.layout import content_of, declared_in, is_nnunet, test_entries
from medvision.data.text import read_text
from medvision.errors import DataError


class MsdReader:
    """`"training": [{"image": ..., "label": ...}]`, where an image may be a list of files with some
    channels each; the test cases are those of labelsTs with their images in imagesTs.
    """

    listing = "dataset.json"

    def knows(self, folder: Path) -> bool:
        """Any dataset.json but nnU-Net's, which lists no cases under `training`."""
        path = folder / self.listing
        return path.is_file() and not is_nnunet(content_of(path))

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
        return declared_in(folder / self.listing)


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
