"""What every reader gives: which cases a task has, and what the task says of them.

A new layout is a module next to this one with a `Reader`, and a line in `registry.READERS`. Nothing
here opens a volume or imports anything heavy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from medvision.data.settings import Modality

IGNORED = "ignore"  # nnU-Net's label of voxels that count for nothing
CHANNEL = re.compile(r"(.+)_\d{4}")  # nnU-Net's names of the channels of one image


@dataclass(frozen=True)
class Case:
    """One labelled case: `images` are its files, one with all channels or several with some each,
    in the order of the channels; `id` is the image's file name without its suffixes, or what
    `medvision.data.readers.registry` makes of its folder where names are the same."""

    id: str
    images: tuple[Path, ...]
    label: Path

    @property
    def image(self) -> Path:
        """The first image file, which messages about the whole image name."""
        return self.images[0]

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of the case, the label last."""
        return (*self.images, self.label)


@dataclass(frozen=True)
class Declared:
    """What a task says of itself. `labels`: name to values, background left out; `modality`: of
    each channel. Empty where it says nothing.
    """

    labels: Mapping[str, list[int]] = field(default_factory=dict)
    modality: tuple[Modality, ...] = ()

    @property
    def structures(self) -> dict[str, list[int]]:
        """The labels but for the one that nnU-Net calls `ignore`."""
        return {name: values for name, values in self.labels.items() if name.lower() != IGNORED}

    @property
    def ignored(self) -> tuple[int, ...]:
        """The values of that one."""
        named = (values for name, values in self.labels.items() if name.lower() == IGNORED)
        return tuple(value for values in named for value in values)


@dataclass(frozen=True)
class Task:
    """`cases` are those with which a study is made; `test_cases` those that the task itself sets
    aside for tests, where they are labelled; `description` is the task's own; `layout` as of
    `Listing`."""

    name: str
    folder: Path
    cases: tuple[Case, ...]
    test_cases: tuple[Case, ...]
    description: str = ""
    declared: Declared = Declared()
    layout: str = ""


@dataclass(frozen=True)
class Entry:
    """A case as a listing names it: `images` and `label` are paths, relative to the task's folder
    or absolute; `case` is its id, where the listing says it.
    """

    images: tuple[str, ...]
    label: str
    case: str = ""


@dataclass(frozen=True)
class Listing:
    """What a reader finds: the cases of a task in any order, its own test cases, its
    description; `layout`: what the reader took the folder for, in a line, where that is no matter
    of course.
    """

    cases: tuple[Entry, ...]
    test_cases: tuple[Entry, ...] = ()
    description: str = ""
    layout: str = ""


class Reader(Protocol):
    """One layout of folders."""

    @property
    def listing(self) -> str:
        """Name of the file in a task's folder that lists its cases; empty where the folder itself
        does.
        """

    def knows(self, folder: Path) -> bool:
        """Whether a folder is of this layout."""

    def read(self, path: Path) -> Listing:
        """What the task lists, out of the file at `path`. Whether the listed files are there is
        found out later, for each case by itself.

        Raises:
            DataError: unreadable, or not of this layout.
        """

    def declared(self, folder: Path) -> Declared:
        """What the task in a folder says of its labels and channels; empty where nothing is
        said.
        """
