"""A folder for each patient with its images and one label, as BraTS has them; no list of cases."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from medvision.data.readers.base import Declared, Entry, Listing
from medvision.data.readers.layout import known_modality
from medvision.data.volume_file import ENDINGS, without_suffixes
from medvision.errors import DataError

LABEL = re.compile(
    r"(^|[._-])(seg|segmentation|label|labels|mask|gt|truth|groundtruth)($|[._-])", re.IGNORECASE
)


class PatientFoldersReader:
    """The label is the one volume with `seg`, `label`, `mask` or `gt` as a part of its name, all
    others are the image's channels, in the order of their names without the folder's, in lower
    case, which are the same for every patient. The case is called as the folder.
    """

    listing = ""

    def knows(self, folder: Path) -> bool:
        """Whether a folder in it has a label and an image."""
        return any(
            any(map(_is_label, volumes)) and not all(map(_is_label, volumes))
            for volumes in map(_volumes, _folders(folder))
        )

    def read(self, path: Path) -> Listing:
        with_volumes = [(folder, _volumes(folder)) for folder in _folders(path)]
        entries = tuple(_entry(folder, found) for folder, found in with_volumes if found)
        _check_channels(path, entries)
        first = entries[0]
        layout = (
            f"a folder for each case: in {first.case} the label is {Path(first.label).name}, the "
            f"images are {', '.join(Path(image).name for image in first.images)}"
        )
        return Listing(entries, layout=layout)

    def declared(self, folder: Path) -> Declared:
        return known_modality(folder)


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _volumes(folder: Path) -> list[str]:
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.name.lower().endswith(ENDINGS) and not path.name.startswith(".")
    )


def _is_label(name: str) -> bool:
    return LABEL.search(without_suffixes(name)) is not None


def _entry(folder: Path, volumes: list[str]) -> Entry:
    labels = [name for name in volumes if _is_label(name)]
    images = sorted(
        (name for name in volumes if name not in labels),
        key=lambda name: (_channel(folder.name, name) + ".", name),
    )
    if len(labels) != 1 or not images:
        raise DataError(
            f"{folder}: needs one label (seg, label, mask or gt in its name) and images, it has "
            f"{len(labels)} labels and {len(images)} images: {', '.join(volumes[:5])}"
        )
    return Entry(
        tuple(f"{folder.name}/{name}" for name in images), f"{folder.name}/{labels[0]}", folder.name
    )


def _channel(folder: str, name: str) -> str:
    """What a file's name says of its channel: without the folder's name, in lower case."""
    own = rf"(?<![a-z0-9]){re.escape(folder.lower())}(?![a-z0-9])"
    return re.sub(own, "", without_suffixes(name).lower(), count=1).strip("._- ")


def _channels(entry: Entry) -> tuple[str, ...]:
    """The channels of a case, without the parts that all its files share, such as another id."""
    files = [Path(file).name for file in (*entry.images, entry.label)]
    parts = [re.split(r"[._ -]+", _channel(entry.case, name)) for name in files]
    start = _shared(parts)
    rest = [part[start:][::-1] for part in parts]
    end = _shared(rest)
    return tuple("_".join(part[end:][::-1]) or "image" for part in rest[:-1])


def _shared(parts: list[list[str]]) -> int:
    """How many parts at the start are the same in all lists."""
    same = (len(set(places)) == 1 for places in zip(*parts, strict=False))
    return sum(1 for _ in itertools.takewhile(bool, same))


def _check_channels(path: Path, entries: tuple[Entry, ...]) -> None:
    """Refuse cases whose channels are called otherwise than those of the first one: their order
    comes from their names alone.
    """
    of_first = _channels(entries[0])
    lines = [
        f"{entry.case} has {', '.join(found)}"
        for entry in entries
        if (found := _channels(entry)) != of_first
    ]
    if lines:
        more = f" and {len(lines) - 5} more" if len(lines) > 5 else ""
        raise DataError(
            f"{path}: channels are called {', '.join(of_first)} in {entries[0].case}; "
            f"{'; '.join(lines[:5])}{more}; name them alike in every folder, or list the files in "
            "a cases.csv (image_NAME,label)"
        )
