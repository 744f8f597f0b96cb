"""nnU-Net's raw data: `Dataset004_X/imagesTr/CASE_0000.nii.gz`, a file a channel, with `labelsTr`
and a dataset.json that names channels, labels and the files' ending.

Source: documentation/dataset_format.md of nnU-Net 2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medvision.data.readers.base import Declared, Entry, Listing
from medvision.data.readers.layout import content_of, declared_in, is_nnunet
from medvision.errors import DataError


class NnUNetReader:
    """Its cases are the labels of labelsTr, or those that `dataset` names; its own test cases those
    of labelsTs. Regions, such as `"whole tumor": [1, 2, 3]`, are label groups.
    """

    listing = "dataset.json"

    def knows(self, folder: Path) -> bool:
        path = folder / self.listing
        return path.is_file() and is_nnunet(content_of(path))

    def read(self, path: Path) -> Listing:
        content, folder = content_of(path), path.parent
        ending, channels = str(content.get("file_ending", ".nii.gz")), content.get("channel_names")
        if not isinstance(channels, dict) or not channels:
            raise DataError(
                f"{path}: cannot be read as nnU-Net's dataset.json: it needs "
                '"channel_names": {"0": "CT"}'
            )
        count = len(channels)
        named = content.get("dataset")
        if isinstance(named, dict):
            cases = tuple(_named(path, case, entry) for case, entry in named.items())
        else:
            cases = _entries(folder, "Tr", ending, count)
        return Listing(
            cases,
            _entries(folder, "Ts", ending, count),
            str(content.get("description", "")),
            f"nnU-Net's raw data, {count} channel{'s' * (count > 1)} in files {ending}: a case is "
            "a file of labelsTr",
        )

    def declared(self, folder: Path) -> Declared:
        return declared_in(folder / self.listing)


def _entries(folder: Path, part: str, ending: str, channels: int) -> tuple[Entry, ...]:
    """The labels of labelsTr or labelsTs with an image file for each channel, which may be
    missing.
    """
    labels = folder / f"labels{part}"
    names = sorted(path.name for path in labels.iterdir()) if labels.is_dir() else []
    cases = [
        name.removesuffix(ending)
        for name in names
        if name.endswith(ending) and not name.startswith(".")
    ]
    return tuple(
        Entry(
            tuple(f"images{part}/{case}_{place:04d}{ending}" for place in range(channels)),
            f"labels{part}/{case}{ending}",
            case,
        )
        for case in cases
    )


def _named(path: Path, case: str, entry: Any) -> Entry:
    """A case of the optional list `dataset`."""
    try:
        return Entry(tuple(map(str, entry["images"])), str(entry["label"]), str(case))
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: dataset: {str(case)[:100]!r} needs images and label") from error
