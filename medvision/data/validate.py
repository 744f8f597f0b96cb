"""Opens image and label of a case once and tells what is wrong with them.

Values are compared as stored in the files, so an integer CT is never held as float64. Every message
begins with a path.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medvision.data.readers.base import Case
from medvision.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from medvision.data.nifti import Grid

# image and label lie apart: a corner of the volume is off by more than this share of a voxel
FAR_VOXELS = 0.5
NEAR_VOXELS = 0.01  # less than that is rounding in the header


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


def validate(case: Case) -> Validation:
    """All files to their last byte: existence, gzip checksum, header, values, and whether they fit
    together.
    """
    import numpy as np

    from medvision.data.nifti import label_values, not_finite, open_whole

    errors: list[str] = []
    images: list[Grid] = []
    label: Grid | None = None
    labels: tuple[int, ...] = ()
    volume = 0.0
    for path in case.images:
        try:
            with open_whole(path) as opened:
                values = opened.unscaled()
            images.append(opened.grid)
            errors += not_finite(path, values)
            del values  # the next file comes, and a CT is large
        except DataError as error:
            errors.append(str(error))
    try:
        with open_whole(case.label) as opened:
            values = opened.scaled()
        label = opened.grid
        volume = float(np.count_nonzero(values > 0)) * float(
            np.prod(np.array(label.spacing, np.float32))
        )
        labels = _distinct(label_values(opened, values))
    except DataError as error:
        errors.append(str(error))
    warnings = [f"{case.label}: nothing is labelled"] if label and labels == (0,) else []
    for grid in (*images[1:], *([label] if label else ())) if images else ():
        fits_not, fits_nearly = _compare(images[0], grid)
        errors += fits_not
        warnings += fits_nearly
    about = (images[0].orientation, sum(grid.channels for grid in images)) if images else ()
    return Validation(tuple(errors), tuple(warnings), labels, volume, *about)


def undeclared(case: Case, labels: Collection[int], declared: Collection[int]) -> list[str]:
    """One error where the label holds values but 0 that the task does not name; none where it names
    no labels.
    """
    if not declared or not (unknown := sorted(set(labels) - set(declared) - {0})):
        return []
    listed = ", ".join(map(str, unknown))
    return [
        f"{case.label}: holds label {listed}, dataset.json declares "
        f"{', '.join(map(str, sorted(declared)))}"
    ]


def _distinct(label: np.ndarray) -> tuple[int, ...]:
    """The distinct values, found slice by slice."""
    import numpy as np

    slices = [np.unique(label[..., index]) for index in range(label.shape[-1])]
    return tuple(int(value) for value in np.unique(np.concatenate(slices)))


def _compare(image: Grid, other: Grid) -> tuple[list[str], list[str]]:
    """Errors and warnings of two grids that should be the same: of the image, and of its label or
    of another channel.
    """
    import numpy as np

    if image.shape != other.shape:
        return [
            f"{other.path}: shape {other.shape} differs from its image's {image.shape} "
            f"({image.path})"
        ], []
    if image.orientation != other.orientation:
        return [
            f"{other.path}: orientation {other.orientation} differs from its image's "
            f"{image.orientation}"
        ], []
    corners = np.array(
        [[*corner, 1] for corner in itertools.product(*((0, size - 1) for size in image.shape))]
    )
    apart = float(np.linalg.norm(corners @ (image.affine - other.affine).T, axis=1).max())
    voxels = apart / min(*image.spacing, *other.spacing)
    if voxels <= NEAR_VOXELS:
        return [], []
    text = (
        f"{other.path}: its affine puts it {apart:.3g} mm ({voxels:.2g} voxels) away from its image"
    )
    return ([text], []) if voxels > FAR_VOXELS else ([], [text])
