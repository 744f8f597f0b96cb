"""Between grids of one field of view with voxels of other sizes, as nnU-Net does it: images by
cubic splines, everything else linearly, and across thick slices by the nearest one.

Voxel centres lie at i + 1/2. Slices are thick where they are more than three times as far apart as
the voxels of the other two axes; a spline through them would invent what lies between them (Isensee
et al. 2021, supplementary note 2).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

THICK = 3.0


def thick_axis(spacing: Sequence[float], target: Sequence[float]) -> int | None:
    """The axis of thick slices of a case, or of the grid that it is shown on; None without one.

    Args:
        spacing: of the case, in mm.
        target: of the other grid, in mm.
    """
    for voxels in (spacing, target):
        longest = max(voxels)
        if longest > THICK * min(voxels):
            axes = [axis for axis in range(3) if voxels[axis] > longest / THICK]
            return axes[0] if len(axes) == 1 else None
    return None


def by_splines(volume: np.ndarray, shape: Sequence[int], thick: int | None) -> np.ndarray:
    """An image [X, Y, Z] on a grid of another shape, by cubic splines, float32."""
    if thick is not None:
        volume = np.take(volume, nearest(volume.shape[thick], shape[thick]), thick)
    factors = [to / of for to, of in zip(shape, volume.shape, strict=True)]
    if set(factors) == {1.0}:
        return volume.astype(np.float32)
    zoomed = ndimage.zoom(volume, factors, np.float32, order=3, mode="nearest", grid_mode=True)
    return np.asarray(zoomed)


def linearly(volume: torch.Tensor, shape: Sequence[int], thick: int | None) -> torch.Tensor:
    """Float [X, Y, Z] on a grid of another shape, linearly along each axis."""
    if thick is not None:
        places = torch.from_numpy(nearest(volume.shape[thick], shape[thick])).to(volume.device)
        volume = volume.index_select(thick, places)
    return F.interpolate(volume[None, None], tuple(shape), mode="trilinear")[0, 0]


def nearest(length: int, wanted: int) -> np.ndarray:
    """Of each of `wanted` voxels along an axis the one of `length` in which its centre lies."""
    return np.minimum(((np.arange(wanted) + 0.5) * length / wanted).astype(np.int64), length - 1)
