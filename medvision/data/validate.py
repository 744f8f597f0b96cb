"""Opens image and label of a case once and tells what is wrong with them.

Values are compared as stored in the files, so an integer CT is never held as float64. Every message
begins with a path.
"""

from __future__ import annotations

import gzip
import itertools
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvision.data.readers.msd import Case, DataError

# image and label lie apart: a corner of the volume is off by more than this share of a voxel
FAR_VOXELS = 0.5
NEAR_VOXELS = 0.01  # less than that is rounding in the header
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Validation:
    """`errors` make a case unusable, `warnings` do not; `labels` are the label's values;
    `volume_mm3` is the volume of everything labelled above 0; `orientation` is the image's, for
    example `RAS`; `channels` are the image's, 1 in 3D."""

    errors: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    volume_mm3: float = 0.0
    orientation: str = ""
    channels: int = 1


@dataclass(frozen=True)
class _Grid:
    path: Path
    shape: tuple[int, ...]
    affine: Any
    spacing: tuple[float, ...]
    channels: int

    @property
    def orientation(self) -> str:
        import nibabel

        return "".join(code or "?" for code in nibabel.aff2axcodes(self.affine))


def validate(case: Case) -> Validation:
    """Both files to their last byte: existence, gzip checksum, header, values, and whether the two
    fit together.
    """
    import numpy as np

    errors: list[str] = []
    image = label = None
    labels: tuple[int, ...] = ()
    volume = 0.0
    try:
        image, values = _read(case.image, scaled=False)
        errors += _not_finite(case.image, values)
        del values  # the label comes next, and a CT is large
    except DataError as error:
        errors.append(str(error))
    try:
        label, values = _read(case.label, scaled=True)
        volume = float(np.count_nonzero(values > 0)) * float(
            np.prod(np.array(label.spacing, np.float32))
        )
        if problems := _not_finite(case.label, values):
            errors += problems
        else:
            labels = _whole_numbers(case.label, values)
    except DataError as error:
        errors.append(str(error))
    warnings = [f"{case.label}: nothing is labelled"] if label and labels == (0,) else []
    if image and label:
        fits_not, fits_nearly = _compare(image, label)
        errors += fits_not
        warnings += fits_nearly
    about = (image.orientation, image.channels) if image else ()
    return Validation(tuple(errors), tuple(warnings), labels, volume, *about)


def undeclared(case: Case, labels: Collection[int], declared: Collection[int]) -> list[str]:
    """One error where the label holds values but 0 that dataset.json does not name; none where it
    names no labels.
    """
    if not declared or not (unknown := sorted(set(labels) - set(declared) - {0})):
        return []
    listed = ", ".join(map(str, unknown))
    return [
        f"{case.label}: holds label {listed}, dataset.json declares "
        f"{', '.join(map(str, sorted(declared)))}"
    ]


def check_promise(path: Path, stored: Any) -> None:
    """Refuse a header that promises more voxels than the file can hold, before memory is taken for
    them.

    Args:
        stored: nibabel's array proxy.

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


def _read(path: Path, *, scaled: bool) -> tuple[_Grid, Any]:
    """Header and all values, with the header's slope and intercept applied where `scaled`.

    Raises:
        DataError: missing, empty, damaged, no NIfTI, or a header that gives no grid.
    """
    import nibabel
    import numpy as np

    if not path.is_file():
        raise DataError(f"{path}: is missing")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: is empty (0 bytes)")
    try:
        opened = nibabel.load(path)
        check_promise(path, opened.dataobj)
        kind = type(opened)
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            volume = kind.from_stream(stream)
            values = np.asanyarray(volume.dataobj) if scaled else volume.dataobj.get_unscaled()
            while stream.read(_CHUNK):  # gzip's checksum stands at the end
                pass
    except DataError:
        raise
    except Exception as error:  # nibabel raises many kinds for broken files
        raise DataError(
            f"{path}: cannot be read as NIfTI: {type(error).__name__}: {error}"
        ) from error
    spacing = tuple(float(zoom) for zoom in volume.header.get_zooms()[:3])
    dimensions = (3, 4) if not scaled or volume.shape[3:] == (1,) else (3,)
    if len(volume.shape) not in dimensions:
        raise DataError(
            f"{path}: {'3D or 4D' if not scaled else '3D'} is needed, its shape is {volume.shape}"
        )
    if values.dtype.kind not in "biuf":
        raise DataError(f"{path}: real numbers are needed, its voxels are {values.dtype}")
    if not all(zoom > 0 for zoom in spacing) or not np.isfinite(volume.affine).all():
        raise DataError(
            f"{path}: spacing must be positive and the affine finite, spacing is {spacing}"
        )
    grid = _Grid(path, volume.shape[:3], volume.affine, spacing, *volume.shape[3:] or (1,))
    if "?" in grid.orientation:
        raise DataError(
            f"{path}: its affine leaves out a direction, so nobody knows how the volume lies in "
            "space"
        )
    return grid, values


def _not_finite(path: Path, values: Any) -> list[str]:
    import numpy as np

    if values.dtype.kind != "f" or np.isfinite(values).all():
        return []
    count = np.count_nonzero(~np.isfinite(values))
    return [f"{path}: holds {count} values that are NaN or infinite"]


def _whole_numbers(path: Path, values: Any) -> tuple[int, ...]:
    """The distinct values, found slice by slice.

    Raises:
        DataError: some are no whole numbers.
    """
    import numpy as np

    found = np.unique(
        np.concatenate([np.unique(values[..., index]) for index in range(values.shape[-1])])
    )
    if (broken := found[found != np.round(found)]).size:
        raise DataError(
            f"{path}: labels must be whole numbers, it holds "
            f"{', '.join(f'{x:g}' for x in broken[:5])}"
        )
    return tuple(int(value) for value in found)


def _compare(image: _Grid, label: _Grid) -> tuple[list[str], list[str]]:
    """Errors and warnings of two grids that should be the same."""
    import numpy as np

    if image.shape != label.shape:
        return [
            f"{label.path}: shape {label.shape} differs from its image's {image.shape} "
            f"({image.path})"
        ], []
    if image.orientation != label.orientation:
        return [
            f"{label.path}: orientation {label.orientation} differs from its image's "
            f"{image.orientation}"
        ], []
    corners = np.array(
        [[*corner, 1] for corner in itertools.product(*((0, size - 1) for size in image.shape))]
    )
    apart = float(np.linalg.norm(corners @ (image.affine - label.affine).T, axis=1).max())
    voxels = apart / min(*image.spacing, *label.spacing)
    if voxels <= NEAR_VOXELS:
        return [], []
    text = (
        f"{label.path}: its affine puts it {apart:.3g} mm ({voxels:.2g} voxels) away from its image"
    )
    return ([text], []) if voxels > FAR_VOXELS else ([], [text])
