"""The one reader of NIfTI files, for the check of a task and for training alike: what one takes,
the other takes, and both refuse the rest in the same words.

A file is opened by its header, which is examined (`medvision.data.header`) before memory is taken
for its voxels.
"""

from __future__ import annotations

import contextlib
import gzip
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np
from nibabel.volumeutils import apply_read_scaling

from medvision.data.header import UNEQUAL, Grid, grid_of
from medvision.data.readers.base import Case
from medvision.errors import DataError
from medvision.placeholders import HEAD, placeholder

Groups = Mapping[str, Sequence[int] | str]
Channel = int | Literal["all"]
ENDINGS = (".nii.gz", ".nii")  # in capitals, too
LARGEST = 1e37  # networks see float32, which ends at 3.4e38, and sums of some values
LARGEST_LABEL = 2**31
logging.getLogger("nibabel.global").setLevel(
    logging.ERROR
)  # what it mends is told in `Grid.doubts`
_GZIP = b"\x1f\x8b"
_MOST_PACKED = 1032  # bytes that DEFLATE makes of one at most
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
        """All numbers as they lie in the file."""
        return self._read(self.stored.get_unscaled)

    def scaled(self, part: tuple[Any, ...] | None = None) -> np.ndarray:
        """The numbers (or a part of them) with the header's slope and intercept applied."""
        return self._read(lambda: np.asanyarray(self.stored if part is None else self.stored[part]))

    def scale(self, unscaled: np.ndarray) -> np.ndarray:
        """The same of numbers that were read unscaled."""
        slope, inter = np.float64(self.stored.slope), np.float64(self.stored.inter)
        with np.errstate(over="ignore"):
            return apply_read_scaling(unscaled, slope, inter)

    def _read(self, read: Callable[[], np.ndarray]) -> np.ndarray:
        # a file may be truncated, or a gzip stream damaged
        with _told(self.grid.path), np.errstate(over="ignore"):
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
    start = _start(path)
    with _told(path):
        opened = nibabel.load(path)
        if not isinstance(opened, nibabel.Nifti1Image):  # which Nifti2Image is, too
            raise DataError(f"{path}: is no volume of NIfTI but a {type(opened).__name__}")
        stored = opened.dataobj
    if len(stored.shape) not in (3, 4):
        raise DataError(f"{path}: 3D or 4D is needed, its shape is {stored.shape}")
    if stored.dtype.kind not in "biuf":
        raise DataError(f"{path}: real numbers are needed, its voxels are {stored.dtype}")
    _check_promise(path, stored, packed=start.startswith(_GZIP))
    with _told(path), _stream(path) as stream:
        raw = stream.read(opened.header.sizeof_hdr)
        return Volume(grid_of(path, opened, raw), stored, type(opened))


@contextlib.contextmanager
def open_whole(path: Path) -> Iterator[Volume]:
    """The same for one who reads all voxels: when the block ends, the rest of the file has been
    read, too, with gzip's checksum.

    Raises:
        DataError: as `open_volume`; a file that is damaged anywhere.
    """
    head = open_volume(path)
    with _stream(path) as stream:
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
    masks = [
        label > 0 if labels == "all" else np.isin(label, [int(x) for x in labels])
        for labels in groups.values()
    ]
    return Truth(np.stack(masks), volume.grid.spacing)


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
    """What is wrong with a file of so many such values."""
    told = []
    if not_finite:
        told.append(f"{path}: holds {not_finite} values that are NaN or infinite")
    if large:
        told.append(
            f"{path}: holds {large} values beyond ±{LARGEST:g}, too large for float32 arithmetic: "
            "is its slope right?"
        )
    return told


def differs(image: Grid, other: Grid) -> str | None:
    """Why two files cannot lie on each other voxel by voxel, if so."""
    if image.shape != other.shape:
        return (
            f"{other.path}: shape {other.shape} differs from its image's {image.shape} "
            f"({image.path})"
        )
    if image.orientation != other.orientation:
        return (
            f"{other.path}: orientation {other.orientation} differs from its image's "
            f"{image.orientation}"
        )
    if any(
        abs(one / two - 1) > UNEQUAL for one, two in zip(image.spacing, other.spacing, strict=True)
    ):
        shown = [" x ".join(f"{edge:g}" for edge in grid.spacing) for grid in (other, image)]
        return f"{other.path}: its voxels are {shown[0]} mm, its image's {shown[1]} mm"
    return None


def _start(path: Path) -> bytes:
    """The first bytes of a file that may be a volume.

    Raises:
        DataError: it is none, by its name or its beginning.
    """
    if not path.is_file():
        raise DataError(f"{path}: is missing")
    with _told(path), path.open("rb") as file:
        start = file.read(HEAD)
    if not start:
        raise DataError(f"{path}: is empty (0 bytes)")
    if instead := placeholder(start):
        raise DataError(f"{path}: {instead}")
    ending = next((each for each in ENDINGS if path.name.lower().endswith(each)), None)
    if ending is None:
        raise DataError(
            f"{path}: only {' and '.join(ENDINGS)} files are read, by their ending; convert it, "
            "for example with nibabel or mri_convert"
        )
    if (packed := start.startswith(_GZIP)) != (ending == ".nii.gz"):
        raise DataError(
            f"{path}: cannot be read as NIfTI: its name ends with {path.name[-len(ending) :]}, but "
            f"it is {'' if packed else 'not '}compressed by gzip"
        )
    return start


def _check_promise(path: Path, stored: Any, *, packed: bool) -> None:
    """Refuse a header that promises more voxels than the file can hold, before memory is taken for
    them.

    Raises:
        DataError: it does.
    """
    if 0 in stored.shape:
        raise DataError(f"{path}: holds no voxels, its shape is {stored.shape}")
    needed, size = math.prod(stored.shape) * stored.dtype.itemsize, path.stat().st_size
    if needed > size * (_MOST_PACKED if packed else 1):
        raise DataError(
            f"{path}: is damaged or cut off: {size} bytes cannot hold a volume of shape "
            f"{stored.shape}"
        )


def _stream(path: Path) -> Any:
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")


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
