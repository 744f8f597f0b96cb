"""Reads the images and labels of cases: any orientation, spacing and number type of NIfTI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np

from medvision.data.geometry import Geometry
from medvision.data.readers.msd import Case, DataError
from medvision.data.validate import check_promise

Groups = Mapping[str, Sequence[int] | str]


@dataclass(frozen=True)
class Image:
    """`channels`: float32 [C, X, Y, Z] on the file's own grid; `spacing`: mm per voxel; `affine`:
    [4, 4].
    """

    channels: np.ndarray
    spacing: tuple[float, ...]
    affine: np.ndarray


@dataclass(frozen=True)
class Truth:
    """`masks`: bool [G, X, Y, Z] on the case's own grid; `spacing`: mm per voxel."""

    masks: np.ndarray
    spacing: tuple[float, float, float]


@dataclass(frozen=True)
class PreprocessedCase:
    """Network input: `image` float16 [C, *image_size], `masks` uint8 [G, *image_size].

    `geometry` leads back to the case's own grid; None: the whole case was stretched to image_size
    (protocol `paper`).
    """

    image: np.ndarray
    masks: np.ndarray
    geometry: Geometry | None = None


def read_volume(path: Path, channel: int | Literal["all"] = 0) -> Image:
    """An image file, one channel of it or all, intensities scaled as its header says.

    An uncompressed file is mapped, and of a 4D file only the wanted channel is read.

    Raises:
        DataError: unreadable, not 3D (or 4D with that channel), or not finite.
    """
    header, stored = _open(path)
    if len(stored.shape) not in (3, 4):
        raise DataError(f"{path}: a 3D volume is needed, its shape is {stored.shape}")
    channels = stored.shape[3] if len(stored.shape) == 4 else 1
    if channel != "all" and channel >= channels:
        has = f"has {channels} channels" if len(stored.shape) == 4 else "is 3D and has one channel"
        raise DataError(f"{path}: {has}, channel {channel} was asked for")
    wanted = slice(None) if channel == "all" else slice(channel, channel + 1)
    array = (
        _read(path, stored, (..., wanted))
        if len(stored.shape) == 4
        else _read(path, stored)[..., None]
    )
    image = np.moveaxis(np.asarray(array, dtype=np.float32), -1, 0)
    if not np.isfinite(image).all():
        raise DataError(
            f"{path}: holds {np.count_nonzero(~np.isfinite(image))} values that are NaN or infinite"
        )
    return Image(image, _spacing(path, header), header.affine)


def read_image(case: Case, channel: int = 0) -> np.ndarray:
    """One channel of a case's image as float32 [X, Y, Z]; see `read_volume`."""
    return read_volume(case.image, channel).channels[0]


def read_truth(case: Case, groups: Groups) -> Truth:
    """A case's label groups on its own grid.

    Raises:
        DataError: unreadable, not 3D, or labels that are no whole numbers.
    """
    header, stored = _open(case.label)
    label = _read(case.label, stored)
    if label.ndim == 4 and label.shape[3] == 1:
        label = label[..., 0]
    if label.ndim != 3:
        raise DataError(f"{case.label}: a 3D label is needed, its shape is {label.shape}")
    if label.dtype.kind == "f" and not (
        np.isfinite(label).all() and (label == np.round(label)).all()
    ):
        raise DataError(f"{case.label}: labels must be whole numbers")
    masks = [
        label > 0 if labels == "all" else np.isin(label, [int(x) for x in labels])
        for labels in groups.values()
    ]
    return Truth(np.stack(masks), _spacing(case.label, header))


def _open(path: Path) -> tuple[Any, Any]:
    """The header with the affine, and the array as it lies in the file."""
    try:
        volume = nibabel.load(str(path))
        stored = volume.dataobj
    except Exception as error:  # nibabel raises many kinds for broken files
        raise DataError(
            f"{path}: cannot be read as NIfTI: {type(error).__name__}: {error}"
        ) from error
    if stored.dtype.kind not in "biuf":
        raise DataError(f"{path}: real numbers are needed, its voxels are {stored.dtype}")
    check_promise(path, stored)
    return volume, stored


def _read(path: Path, stored: Any, part: tuple[Any, ...] | None = None) -> np.ndarray:
    try:
        return np.asanyarray(stored if part is None else stored[part])
    except Exception as error:  # truncated, or a gzip stream that is damaged
        raise DataError(
            f"{path}: cannot be read as NIfTI: {type(error).__name__}: {error}"
        ) from error


def _spacing(path: Path, volume: Any) -> tuple[float, float, float]:
    zooms = tuple(float(zoom) for zoom in volume.header.get_zooms()[:3])
    if any(not zoom > 0 for zoom in zooms):
        raise DataError(
            f"{path}: voxel spacing must be three positive numbers of mm, it is {zooms}"
        )
    return zooms  # type: ignore[return-value]
