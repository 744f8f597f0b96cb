"""The one reader of NIfTI files, for the check of a task and for training alike: what one takes,
the other takes, and both refuse the rest in the same words.

A file is opened by its header, which is examined before memory is taken for its voxels.
"""

from __future__ import annotations

import contextlib
import gzip
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np

from medvision.data.readers.base import Case
from medvision.errors import DataError

Groups = Mapping[str, Sequence[int] | str]
Channel = int | Literal["all"]
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Grid:
    """How a file's voxels lie in space. `shape`: X, Y, Z; `affine`: [4, 4], voxels to mm;
    `spacing`: mm per voxel; `channels`: 1 in 3D."""

    path: Path
    shape: tuple[int, ...]
    affine: np.ndarray
    spacing: tuple[float, float, float]
    channels: int

    @property
    def orientation(self) -> str:
        """The closest directions of the three axes, for example `RAS`; `?` where there is none."""
        return "".join(code or "?" for code in nibabel.aff2axcodes(self.affine))


@dataclass(frozen=True)
class Volume:
    """An open file: `stored` is nibabel's array proxy, whose voxels are read when they are asked
    for.
    """

    grid: Grid
    stored: Any
    kind: type

    def unscaled(self) -> np.ndarray:
        """All numbers as they lie in the file."""
        return self._read(self.stored.get_unscaled)

    def scaled(self, part: tuple[Any, ...] | None = None) -> np.ndarray:
        """The numbers (or a part of them) with the header's slope and intercept applied."""
        return self._read(lambda: np.asanyarray(self.stored if part is None else self.stored[part]))

    def _read(self, read: Any) -> np.ndarray:
        with _told(self.grid.path):  # truncated, or a gzip stream that is damaged
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
    if not path.is_file():
        raise DataError(f"{path}: is missing")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: is empty (0 bytes)")
    with _told(path):
        opened = nibabel.load(path)
        stored = opened.dataobj
        _check_promise(path, stored)
        spacing = tuple(float(zoom) for zoom in opened.header.get_zooms()[:3])
    if len(opened.shape) not in (3, 4):
        raise DataError(f"{path}: 3D or 4D is needed, its shape is {opened.shape}")
    if stored.dtype.kind not in "biuf":
        raise DataError(f"{path}: real numbers are needed, its voxels are {stored.dtype}")
    if not all(zoom > 0 for zoom in spacing) or not np.isfinite(opened.affine).all():
        raise DataError(
            f"{path}: spacing must be positive and the affine finite, spacing is {spacing}"
        )
    millimetres = (spacing[0], spacing[1], spacing[2])
    grid = Grid(path, opened.shape[:3], opened.affine, millimetres, *opened.shape[3:] or (1,))
    if "?" in grid.orientation:
        raise DataError(
            f"{path}: its affine leaves out a direction, so nobody knows how the volume lies in "
            "space"
        )
    return Volume(grid, stored, type(opened))


@contextlib.contextmanager
def open_whole(path: Path) -> Iterator[Volume]:
    """The same for one who reads all voxels: when the block ends, the rest of the file has been
    read, too, with gzip's checksum.

    Raises:
        DataError: as `open_volume`; a file that is damaged anywhere.
    """
    head = open_volume(path)
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        with _told(path):
            stored = head.kind.from_stream(stream).dataobj  # type: ignore[attr-defined]
        yield Volume(head.grid, stored, head.kind)
        with _told(path):
            while stream.read(_CHUNK):
                pass


def read_image(images: Sequence[Path], channel: Channel = 0) -> Image:
    """One channel of a case's image, or all, intensities scaled as the headers say. Of a file with
    several, only the wanted one is read; several files are one image, their channels in the order
    of the files.

    Raises:
        DataError: as `open_volume`; no such channel; values that are not finite; files of different
            grids.
    """
    volumes = [open_volume(path) for path in images]
    first = volumes[0].grid
    for volume in volumes[1:]:
        if volume.grid.shape != first.shape:
            raise DataError(
                f"{volume.grid.path}: shape {volume.grid.shape} differs from {first.shape} of the "
                f"first channel ({first.path})"
            )
    places = [(volume, place) for volume in volumes for place in range(volume.grid.channels)]
    if channel != "all" and channel >= len(places):
        shape = volumes[0].stored.shape
        has = (
            f"has {len(places)} channels"
            if len(volumes) > 1 or len(shape) == 4
            else "is 3D and has one channel"
        )
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
    image = np.moveaxis(np.asarray(array, dtype=np.float32), -1, 0)
    if problems := not_finite(volume.grid.path, image):
        raise DataError(problems[0])
    return image


def read_truth(case: Case, groups: Groups) -> Truth:
    """A case's label groups on its own grid.

    Raises:
        DataError: as `open_volume`; not 3D, or labels that are no whole numbers.
    """
    volume = open_volume(case.label)
    label = label_values(volume, volume.scaled())
    masks = [
        label > 0 if labels == "all" else np.isin(label, [int(x) for x in labels])
        for labels in groups.values()
    ]
    return Truth(np.stack(masks), volume.grid.spacing)


def label_values(volume: Volume, label: np.ndarray) -> np.ndarray:
    """A label file's numbers as [X, Y, Z], which are whole.

    Raises:
        DataError: not 3D, or numbers that are not finite or not whole.
    """
    path = volume.grid.path
    if volume.grid.channels != 1:
        raise DataError(f"{path}: 3D is needed, its shape is {volume.stored.shape}")
    label = label[..., 0] if label.ndim == 4 else label
    if problems := not_finite(path, label):
        raise DataError(problems[0])
    if label.dtype.kind == "f" and (broken := np.unique(label[label != np.round(label)])).size:
        raise DataError(
            f"{path}: labels must be whole numbers, it holds "
            f"{', '.join(f'{x:g}' for x in broken[:5])}"
        )
    return label


def not_finite(path: Path, values: np.ndarray) -> list[str]:
    """What is wrong with a file whose values include NaN or infinity, if so."""
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return []
    count = np.count_nonzero(~np.isfinite(values))
    return [f"{path}: holds {count} values that are NaN or infinite"]


def _check_promise(path: Path, stored: Any) -> None:
    """Refuse a header that promises more voxels than the file can hold, before memory is taken for
    them.

    Raises:
        DataError: it does; DEFLATE makes at most 1032 bytes of one.
    """
    if 0 in stored.shape:
        raise DataError(f"{path}: holds no voxels, its shape is {stored.shape}")
    needed, size = math.prod(stored.shape) * stored.dtype.itemsize, path.stat().st_size
    if needed > size * {".nii": 1, ".gz": 1032}.get(path.suffix, 10**5):
        raise DataError(
            f"{path}: is damaged or cut off: {size} bytes cannot hold a volume of shape "
            f"{stored.shape}"
        )


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Whatever a library raises of a broken file, which is of many kinds, as one that names the
    file.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{path}: cannot be read as NIfTI: {type(error).__name__}: {error}"
        ) from error
