"""What a NIfTI header says of space, and where it contradicts itself.

Spacing and volume come from the affine, in mm. `pixdim` says the spacing once more, and `qform` the
whole affine: programs differ in which of them they believe, so a contradiction is reported. Source:
https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h (methods 1 to 3, xyzt_units).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError

from medvision.errors import DataError

FAR_VOXELS = 0.5  # two affines contradict each other where a corner is off by more of a voxel
NEAR_VOXELS = 0.01  # less than that is rounding in the header
ROUNDING = 1e-5  # relative; of float32 in pixdim and affine, with some room for products
DIFFERENT = 1e-3  # relative; pixdim and affine that differ by more contradict each other,
UNEQUAL = 0.01  # and so do the spacings of two files of a case; below, their corners decide
SKEWED = 1e-3  # cosine between two axes that should be perpendicular: more is reported,
SHEARED = 0.01  # and this is refused, because distances in mm would be wrong by as much
POSSIBLE_MM = (1e-4, 1e4)  # a voxel's edge; outside of it the header is refused
USUAL_MM = (1e-3, 100.0)  # outside of it the unit is probably wrong, and that is reported
_UNITS_MM = {1: (1000.0, "metres"), 3: (0.001, "microns")}  # of xyzt_units; mm and unknown are 1


@dataclass(frozen=True)
class Grid:
    """How a file's voxels lie in space. `shape`: X, Y, Z; `affine`: [4, 4], voxels to mm;
    `spacing`: mm per voxel along each axis; `voxel_mm3`: volume of a voxel; `channels`: 1 in 3D;
    `doubts`: what is odd about the header, each without the path."""

    path: Path
    shape: tuple[int, ...]
    affine: np.ndarray
    spacing: tuple[float, float, float]
    voxel_mm3: float
    channels: int
    doubts: tuple[str, ...] = ()

    @property
    def orientation(self) -> str:
        """The closest directions of the three axes, for example `RAS`; `?` where there is none."""
        return "".join(code or "?" for code in nibabel.aff2axcodes(self.affine))


def grid_of(path: Path, opened: Any, raw: bytes) -> Grid:
    """The grid of an opened image.

    Args:
        opened: nibabel's image, 3D or 4D.
        raw: the file's first bytes, decompressed; nibabel repairs a header before it shows it.

    Raises:
        DataError: the spacing is unknown; the affine is not finite, leaves out a direction, has
            axes that are not perpendicular, or voxels of an impossible size.
    """
    stored = type(opened.header)(raw[: opened.header.sizeof_hdr], check=False)
    factor, unit = _UNITS_MM.get(int(stored["xyzt_units"]) & 7, (1.0, ""))
    scale = np.diag([factor] * 3 + [1.0])
    affine = scale @ opened.affine
    if not np.isfinite(affine).all():
        raise DataError(f"{path}: the affine must be finite, it is {opened.affine.tolist()}")
    columns = affine[:3, :3]
    own = np.linalg.norm(columns, axis=0)
    pixdim = np.abs(np.asarray(stored["pixdim"][1:4], np.float64)) * factor
    if not int(opened.header["sform_code"]) and not (pixdim > 0).all():
        raise DataError(
            f"{path}: its spacing is unknown: pixdim says {_row(pixdim)} mm, and there is no sform"
        )
    doubts = [f"is in {unit}, which is taken as {factor:g} mm each"] if unit else []
    _check_directions(path, affine)
    if not all(POSSIBLE_MM[0] <= edge <= POSSIBLE_MM[1] for edge in own):
        raise DataError(
            f"{path}: a voxel of {_row(own)} mm by its affine is no spacing of an image; fix its "
            "affine or unit"
        )
    doubts += _skewed(path, columns / own)
    with np.errstate(all="ignore"):
        apart = np.abs(pixdim / own - 1)
    if not (apart <= DIFFERENT).all():
        doubts.append(
            f"pixdim says {_row(pixdim)} mm, the affine {_row(own)} mm; the affine is used"
        )
    if any(not USUAL_MM[0] <= edge <= USUAL_MM[1] for edge in own):
        doubts.append(f"a voxel is {_row(own)} mm large: is its unit right?")
    # where both agree, pixdim is the spacing as it was written, the affine a rounded product
    rounded = (apart <= ROUNDING).all()
    spacing = (pixdim if rounded else own).tolist()
    volume = abs(float(np.linalg.det(columns)))
    product = float(np.prod(np.array(spacing, np.float32)))
    shape = opened.shape[:3]
    doubts += _two_affines(opened, stored, affine, scale)
    return Grid(
        path,
        shape,
        affine,
        (spacing[0], spacing[1], spacing[2]),
        product if abs(volume / product - 1) <= 4 * ROUNDING else volume,
        opened.shape[3] if len(opened.shape) > 3 else 1,
        tuple(doubts),
    )


def differs(image: Grid, other: Grid, what: str = "image") -> str | None:
    """Why two files cannot lie on each other voxel by voxel, if so.

    Args:
        what: what `image` is of the other one.
    """
    if image.shape != other.shape:
        return (
            f"{other.path}: shape {other.shape} differs from its {what}'s {image.shape} "
            f"({image.path})"
        )
    if image.orientation != other.orientation:
        return (
            f"{other.path}: orientation {other.orientation} differs from its {what}'s "
            f"{image.orientation}"
        )
    if any(
        abs(one / two - 1) > UNEQUAL for one, two in zip(image.spacing, other.spacing, strict=True)
    ):
        shown = [" x ".join(f"{edge:g}" for edge in grid.spacing) for grid in (other, image)]
        return f"{other.path}: its voxels are {shown[0]} mm, its {what}'s {shown[1]} mm"
    return None


def misplaced(image: Grid, other: Grid, what: str = "image") -> tuple[list[str], list[str]]:
    """Errors and warnings of two grids that should be the same: of an image and its label or
    another channel, of a truth and a mask.

    Args:
        what: what `image` is of the other one.
    """
    if problem := differs(image, other, what):
        return [problem], []
    apart = corner_distance(image.shape, image.affine, other.affine)
    voxels = apart / min(*image.spacing, *other.spacing)
    if voxels <= NEAR_VOXELS:
        return [], []
    text = (
        f"{other.path}: its affine puts it {apart:.3g} mm ({voxels:.2g} voxels) away from its "
        f"{what}"
    )
    return ([text], []) if voxels > FAR_VOXELS else ([], [text])


def corner_distance(shape: tuple[int, ...], one: np.ndarray, other: np.ndarray) -> float:
    """How far apart two affines put the corner of a volume that they disagree about most, mm."""
    corners = np.array(
        [[*corner, 1] for corner in itertools.product(*((0, size - 1) for size in shape))]
    )
    return float(np.linalg.norm(corners @ (one - other).T, axis=1).max())


def _check_directions(path: Path, affine: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        codes = nibabel.aff2axcodes(affine)
    if None in codes:
        raise DataError(
            f"{path}: its affine leaves out a direction, so it is unknown how the volume lies in "
            "space"
        )


def _skewed(path: Path, directions: np.ndarray) -> list[str]:
    """What is odd about axes that are not perpendicular.

    Args:
        directions: unit vectors of the axes, as columns.
    """
    cosine = float(np.abs(directions.T @ directions - np.eye(3)).max())
    if cosine > SHEARED:
        degrees = 90 - float(np.degrees(np.arccos(min(cosine, 1.0))))
        raise DataError(
            f"{path}: its affine is sheared: two axes are {degrees:.3g} degrees off the right "
            "angle, and distances in mm would be wrong; resample it to perpendicular axes"
        )
    if cosine > SKEWED:
        return [f"its affine is slightly sheared: the cosine between two axes is {cosine:.2g}"]
    return []


def _two_affines(opened: Any, stored: Any, affine: np.ndarray, scale: np.ndarray) -> list[str]:
    """What is odd about sform and qform.

    Args:
        stored: the header as it is stored in the file; nibabel sets codes to 0 that it does not
            know.
    """
    header, doubts = opened.header, []
    qform, sform = int(header["qform_code"]), int(header["sform_code"])
    for name, code in (("qform", qform), ("sform", sform)):
        if int(stored[f"{name}_code"]) != code:
            doubts.append(
                f"its {name}_code {int(stored[f'{name}_code'])} is unknown, it is left out"
            )
    if not qform and not sform:
        return [*doubts, "has neither sform nor qform, so its directions are a guess"]
    if not (qform and sform):
        return doubts
    try:
        other = scale @ header.get_qform()
    except (ValueError, HeaderDataError) as error:
        return [*doubts, f"its qform cannot be read, the sform is used: {error}"]
    finest = float(np.linalg.norm(affine[:3, :3], axis=0).min())
    apart = corner_distance(opened.shape[:3], affine, other)
    if not apart / finest > FAR_VOXELS:
        return doubts
    return [
        *doubts,
        f"its qform puts a corner {apart:.3g} mm ({apart / finest:.2g} voxels) away from where its "
        "sform does; the sform is used",
    ]


def _row(values: Any) -> str:
    return " x ".join(f"{value:.6g}" for value in values)
