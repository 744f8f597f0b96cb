"""The one reader of volumes (NIfTI, and what `medvision.data.itk` reads), for a task's check and
for training alike: what one takes, the other takes, and both refuse the rest in the same words.

A file is opened by its header, which is examined (`medvision.data.header`) before memory is taken
for its voxels.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np
from nibabel.volumeutils import apply_read_scaling

from medvision.data.header import Grid, differs, grid_of
from medvision.data.itk import read_itk
from medvision.data.readers.base import Case
from medvision.data.volume_file import (
    GZIP,
    ITK_ENDINGS,
    check_promise,
    named,
    start_of,
    stream_of,
)
from medvision.errors import DataError

Groups = Mapping[str, Sequence[int] | str]
Channel = int | Literal["all"]
LARGEST = 1e37  # networks see float32, which ends at 3.4e38, and sums of some values
LARGEST_LABEL = 2**31
# what nibabel repairs is reported in `Grid.doubts`
logging.getLogger("nibabel.global").setLevel(logging.ERROR)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Volume:
    """An open file: `stored` is nibabel's array proxy, whose voxels are read when they are asked
    for.
    """

    grid: Grid
    stored: Any
    kind: type

    def unscaled(self) -> np.ndarray:
        """All numbers as they are stored."""
        return self._read(self.stored.get_unscaled)

    def scaled(self, part: tuple[Any, ...] | None = None) -> np.ndarray:
        """The numbers (or a part of them) with the header's slope and intercept applied."""
        return self._read(lambda: np.asanyarray(self.stored if part is None else self.stored[part]))

    def scale(self, unscaled: np.ndarray) -> np.ndarray:
        """The same for numbers that were read unscaled."""
        slope, inter = np.float64(self.stored.slope), np.float64(self.stored.inter)
        with np.errstate(over="ignore"):
            return apply_read_scaling(unscaled, slope, inter)

    def _read(self, read: Callable[[], np.ndarray]) -> np.ndarray:
        # a file may be truncated, or a gzip stream damaged
        with named(self.grid.path), np.errstate(over="ignore"):
            return read()


@dataclass(frozen=True)
class Image:
    """`channels`: float32 [C, X, Y, Z] on the file's own grid; `spacing`: mm per voxel; `affine`:
    [4, 4].
    """

    channels: np.ndarray
    spacing: tuple[float, float, float]
    affine: np.ndarray


@dataclass(frozen=True)
class Truth:
    """`masks`: bool [G, X, Y, Z] on the case's own grid; `spacing`: mm per voxel."""

    masks: np.ndarray
    spacing: tuple[float, float, float]


def open_volume(path: Path) -> Volume:
    """A file by its header; its voxels are read later, an uncompressed file is mapped.

    Raises:
        DataError: missing, empty, no NIfTI, voxels that are no real numbers, more of them than the
            file can hold, not 3D or 4D, or a header that gives no grid.
    """
    start = start_of(path)
    if path.name.lower().endswith(ITK_ENDINGS):
        stored, header = read_itk(path)
        _check_kind(path, stored)
        grid = grid_of(path, header, header.header.binaryblock)
        return Volume(grid, stored, nibabel.Nifti1Image)
    with named(path):
        opened = nibabel.load(path)
        if not isinstance(opened, nibabel.Nifti1Image):  # which Nifti2Image is, too
            raise DataError(f"{path}: is no volume of NIfTI but a {type(opened).__name__}")
        stored = opened.dataobj
    _check_kind(path, stored)
    check_promise(path, stored, packed=start.startswith(GZIP))
    with named(path), stream_of(path) as stream:
        raw = stream.read(opened.header.sizeof_hdr)
        return Volume(grid_of(path, opened, raw), stored, type(opened))


def _check_kind(path: Path, stored: Any) -> None:
    if len(stored.shape) not in (3, 4):
        raise DataError(f"{path}: 3D or 4D is needed, its shape is {stored.shape}")
    if stored.dtype.kind not in "biuf":
        raise DataError(f"{path}: real numbers are needed, its voxels are {stored.dtype}")


@contextlib.contextmanager
def open_whole(path: Path) -> Iterator[Volume]:
    """The same for reading all voxels: when the block ends, the rest of the file has been read,
    too, with gzip's checksum.

    Raises:
        DataError: as `open_volume`; a file that is damaged anywhere.
    """
    head = open_volume(path)
    if path.name.lower().endswith(ITK_ENDINGS):  # read to its end already
        yield head
        return
    with stream_of(path) as stream:
        with named(path):
            stored = head.kind.from_stream(stream).dataobj  # type: ignore[attr-defined]
        yield Volume(head.grid, stored, head.kind)
        with named(path):
            while stream.read(_CHUNK):
                pass


def read_image(images: Sequence[Path], channel: Channel = 0) -> Image:
    """One channel of a case's image, or all, intensities scaled as the headers say. Of a file with
    several, only the wanted one is read; several files are one image, their channels in the order
    of the files.

    Raises:
        DataError: as `open_volume`; no such channel; values that are not finite or too large; files
            of different grids.
    """
    volumes = [open_volume(path) for path in images]
    first = volumes[0].grid
    for volume in volumes[1:]:
        if problem := differs(first, volume.grid):
            raise DataError(problem)
    places = [(volume, place) for volume in volumes for place in range(volume.grid.channels)]
    if channel != "all" and channel >= len(places):
        four = len(volumes) > 1 or len(volumes[0].stored.shape) == 4
        has = f"has {len(places)} channels" if four else "is 3D and has one channel"
        raise DataError(f"{first.path}: {has}, channel {channel} was asked for")
    if channel == "all":
        read = np.concatenate([_channels(volume, slice(None)) for volume in volumes])
    else:
        volume, place = places[channel]
        read = _channels(volume, slice(place, place + 1))
    return Image(read, first.spacing, first.affine)


def _channels(volume: Volume, wanted: slice) -> np.ndarray:
    """Float32 [C, X, Y, Z] of one file, which is finite."""
    four = len(volume.stored.shape) == 4
    array = volume.scaled((..., wanted)) if four else volume.scaled()[..., None]
    if problems := unusable(volume.grid.path, *count_unusable(array)):
        raise DataError(problems[0])
    return np.moveaxis(np.asarray(array, dtype=np.float32), -1, 0)


def read_truth(case: Case, groups: Groups) -> Truth:
    """A case's label groups on its own grid.

    Raises:
        DataError: as `open_volume`; not 3D, or labels that are no whole numbers.
    """
    volume = open_volume(case.label)
    label = label_values(volume, volume.scaled())
    return Truth(group_masks(label, groups), volume.grid.spacing)


def group_masks(label: np.ndarray, groups: Groups) -> np.ndarray:
    """The label groups of a label's numbers [X, Y, Z]: bool [G, X, Y, Z], laid out as files are."""
    masks = np.empty((len(groups), *label.shape[::-1]), bool).transpose(0, 3, 2, 1)
    for mask, labels in zip(masks, groups.values(), strict=True):
        if labels == "all":
            np.greater(label, 0, out=mask)
            continue
        first, *others = (int(value) for value in labels)
        np.equal(label, first, out=mask)
        for value in others:
            mask |= label == value
    return masks


def label_values(volume: Volume, label: np.ndarray) -> np.ndarray:
    """A label file's numbers as [X, Y, Z], which are whole.

    Raises:
        DataError: not 3D, or numbers that are not finite, not whole, or too large for a label.
    """
    path = volume.grid.path
    if volume.grid.channels != 1:
        raise DataError(f"{path}: 3D is needed, its shape is {volume.stored.shape}")
    label = label[..., 0] if label.ndim == 4 else label
    if problems := unusable(path, *count_unusable(label)):
        raise DataError(problems[0])
    if label.dtype.kind == "f" and (broken := np.unique(label[label != np.round(label)])).size:
        raise DataError(
            f"{path}: labels must be whole numbers (round them and save it again), it holds "
            f"{', '.join(repr(float(x)) for x in broken[:5])}"
        )
    if label.min() < -LARGEST_LABEL or label.max() > LARGEST_LABEL:
        raise DataError(
            f"{path}: labels must lie within ±{LARGEST_LABEL}, it holds {label.min():g} to "
            f"{label.max():g}"
        )
    return label


def count_unusable(values: np.ndarray) -> tuple[int, int]:
    """How many values are NaN or infinite, and how many too large for a network."""
    if values.dtype.kind != "f":
        return 0, 0
    finite = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        large = np.abs(values) > LARGEST
    return int(np.count_nonzero(~finite)), int(np.count_nonzero(finite & large))


def unusable(path: Path, not_finite: int, large: int) -> list[str]:
    """What is wrong with a file that holds such values."""
    problems = []
    if not_finite:
        problems.append(f"{path}: holds {not_finite} values that are NaN or infinite")
    if large:
        problems.append(
            f"{path}: holds {large} values beyond ±{LARGEST:g}, too large for float32 arithmetic: "
            "is its slope right?"
        )
    return problems
