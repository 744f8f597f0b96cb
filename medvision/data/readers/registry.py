"""The readers, and a task read by the first that knows its folder."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

from medvision.data.readers.base import (
    CHANNEL,
    Case,
    Declared,
    Entry,
    Listing,
    Reader,
    Task,
)
from medvision.data.readers.csv_file import CsvReader
from medvision.data.readers.data_file import DataFileReader
from medvision.data.readers.msd import MsdReader
from medvision.data.readers.nnunet import NnUNetReader
from medvision.data.readers.patients import PatientFoldersReader
from medvision.data.tasks import MSD_TASKS
from medvision.data.volume_file import without_suffixes
from medvision.errors import DataError

READERS: tuple[Reader, ...] = (  # the first that knows a folder reads it
    MsdReader(),
    NnUNetReader(),
    DataFileReader(),
    CsvReader(),
    PatientFoldersReader(),
)
LISTINGS = tuple(dict.fromkeys(reader.listing for reader in READERS if reader.listing))


def is_task(folder: Path) -> bool:
    """Whether a folder lists cases."""
    return _reader(folder) is not None


def _instead(root: Path, name: str) -> str:
    """What else may be meant where a task's folder is not there."""
    there = sorted(one.name for one in root.iterdir() if one.is_dir()) if root.is_dir() else []
    there = [one for one in there if is_task(root / one)]
    close = difflib.get_close_matches(name, [*there, *MSD_TASKS], n=1)
    if close and close[0] != name:
        return f"did you mean {close[0]}?"
    listed = f"; {root} holds {', '.join(there[:12])}" if there else ""
    fetch = f", or `python -m medvision.data fetch {name}` gets it" if name in MSD_TASKS else ""
    return f"set data.root or MEDVISION_DATA to the folder that holds it{fetch}{listed}"


def read_task(root: Path, name: str) -> Task:
    """The cases of `root/name`, in the order of their ids. Single files may be missing:
    `medvision.data.fingerprints.index_cases` says so of each.

    Raises:
        DataError: no such folder, no readable list of cases, no listed file is there, a case listed
            twice, or a training case that is a test case, too.
    """
    folder = root / name
    if not folder.is_dir():
        raise DataError(f"task {name!r}: there is no folder {folder}; {_instead(root, name)}")
    reader = _reader(folder)
    if reader is None:
        raise DataError(
            f"task {name!r}: {folder} holds neither {' nor '.join(LISTINGS)} nor a folder for "
            "each patient with a label and images"
        )
    listing = _printable(folder / reader.listing, reader)
    cases, tested = _cases(folder, listing.cases), _cases(folder, listing.test_cases)
    _check(name, cases)
    if both := sorted({case.id for case in cases} & {case.id for case in tested}):
        raise DataError(
            f"task {name!r}: {len(both)} cases are both listed for training and labelled in "
            f"labelsTs: {', '.join(both[:5])}; a test case must not train"
        )
    return Task(
        name,
        folder,
        tuple(sorted(cases, key=lambda case: case.id)),
        tuple(tested),
        listing.description,
        reader.declared(folder),
        listing.layout,
    )


def read_listing(path: Path) -> Listing:
    """The cases in a list of any reader's kind, whatever the file's name.

    Raises:
        DataError: the file is missing or is of no reader's kind.
    """
    lists = [reader for reader in READERS if reader.listing]
    alike = (reader for reader in lists if Path(reader.listing).suffix == path.suffix)
    plain = next(reader for reader in lists if reader.listing.endswith(".txt"))
    return _printable(path, next(alike, plain))


def read_declared(folder: Path) -> Declared:
    """What the task in a folder says of its labels and channels; of a folder that lists no cases,
    what is known of its name.
    """
    return (_reader(folder) or READERS[0]).declared(folder)


def _reader(folder: Path) -> Reader | None:
    return next((reader for reader in READERS if reader.knows(folder)), None)


def _printable(path: Path, reader: Reader) -> Listing:
    listing = reader.read(path)
    for entry in (*listing.cases, *listing.test_cases):
        for name in (*entry.images, entry.label, *([entry.case] if entry.case else [])):
            if not name or not name.isprintable():
                raise DataError(f"{path}: {name!r} cannot be the name of a file")
    return listing


def _cases(folder: Path, entries: Sequence[Entry]) -> list[Case]:
    files = [tuple(_file(folder, image) for image in entry.images) for entry in entries]
    found = _ids(files)
    ids = [entry.case or name for entry, name in zip(entries, found, strict=True)]
    return [
        Case(name, images, _file(folder, entry.label))
        for name, images, entry in zip(ids, files, entries, strict=True)
    ]


def _file(folder: Path, name: str) -> Path:
    """A listed file; a list that was written on Windows has backslashes between folders."""
    if "\\" in name and not os.path.exists(folder / name):
        name = name.replace("\\", "/")
    return folder / name


def _ids(files: Sequence[tuple[Path, ...]]) -> list[str]:
    """The names of the (first) image files without suffixes; where several have the same name, such
    as `image.nii.gz` in a folder for each patient, the folders by which they differ, joined by `_`.
    """
    stems = [without_suffixes(images[0].name) for images in files]
    names = [
        channel[1] if len(images) > 1 and (channel := CHANNEL.fullmatch(stem)) else stem
        for stem, images in zip(stems, files, strict=True)
    ]
    if len(set(names)) == len(names) or len({images[0] for images in files}) < len(files):
        return names
    paths = [[*images[0].parts[:-1], name] for images, name in zip(files, names, strict=True)]
    for end in (0, -1):
        while all(len(path) > 1 for path in paths) and len({path[end] for path in paths}) == 1:
            for path in paths:
                del path[end]
    return ["_".join(path) for path in paths]


def _check(task: str, cases: list[Case]) -> None:
    if not cases:
        raise DataError(f"task {task!r}: its list of training cases is empty")
    ids = [case.id for case in cases]
    if twice := sorted({case for case in ids if ids.count(case) > 1}):
        raise DataError(f"task {task!r}: cases listed twice: {', '.join(twice)}")
    listed = [path for case in cases for path in case.files]
    if not any(
        os.path.isfile(path) for path in listed
    ):  # also where the name is too long for the system
        raise DataError(
            f"task {task!r}: all {len(listed)} listed files are missing, the first is {listed[0]}"
        )
