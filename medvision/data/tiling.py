"""Arithmetic of windows that slide over a volume: where they stop, how many they are, and what
memory the volume takes. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

DOUBLE, FLOAT, HALF = 8, 4, 2  # bytes of a number
SPLINE_MARGIN = 12  # voxels by which scipy.ndimage.zoom extends an image on each side


def starts(length: int, size: int, overlap: float) -> list[int]:
    """First voxels of the windows along an axis: evenly spread, from one end to the other, as few
    as overlap by this share of their length at least.
    """
    if length <= size:
        return [0]
    steps = math.ceil((length - size) / max(size * (1 - overlap), 1.0) - 1e-9)
    return [round(step * (length - size) / steps) for step in range(steps + 1)]


def windows(shape: Sequence[int], size: Sequence[int], overlap: float) -> int:
    """Windows of a volume of this shape."""
    along = zip(shape, size, strict=True)
    return math.prod(len(starts(length, n, overlap)) for length, n in along)


def resampled_shape(
    shape: Sequence[int], spacing: Sequence[float], target: Sequence[float]
) -> tuple[int, ...]:
    """Voxels of the target spacing (mm) that fill the field of view most closely; at least one."""
    return tuple(
        max(1, round(n * own / wanted))
        for n, own, wanted in zip(shape, spacing, target, strict=True)
    )


def prediction_bytes(shape: Sequence[int], grid: Sequence[int], channels: int, groups: int) -> int:
    """Most bytes that the arrays of a case's size take while it is segmented
    (`medvision.evaluation`, `medvision.data.windows`); windows and network come on top.

    Args:
        shape: of the case.
        grid: of what windows slide over.
        channels: of the image.
        groups: label groups.
    """
    case, seen = math.prod(shape), math.prod(grid)
    sliding = FLOAT * seen * (2 * channels + groups + 1)  # image, padded, sums, their weights
    # image and sums, and on the case's own grid a group in three steps, and the masks
    coming_back = FLOAT * seen * (channels + groups) + (3 * FLOAT + 2 * groups) * case
    return max(sliding, coming_back) + HALF * channels * seen  # the mapped file


def preparation_bytes(shape: Sequence[int], grid: Sequence[int], channels: int) -> int:
    """The same while it is prepared: the image as it is read, and one channel that is scaled and
    resampled (by splines, whose coefficients are float64 and reach beyond the image), into what is
    kept of all.
    """
    case, seen, kept = math.prod(shape), math.prod(grid), HALF * channels * math.prod(grid)
    if tuple(shape) == tuple(grid):
        return FLOAT * case * (channels + 3) + kept
    padded = math.prod(n + 2 * SPLINE_MARGIN for n in shape)
    return FLOAT * case * (channels + 1) + (FLOAT + DOUBLE) * padded + FLOAT * seen + kept
