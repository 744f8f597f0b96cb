"""Exact distances between the boundaries of two masks.

Most boundary voxels of a useful segmentation lie a few voxels from the other boundary: each looks
at the rows around it, nearest first, and one word operation finds the nearest boundary voxel within
a row. Where that goes too far, a distance transform of the planes in question takes over; its cost
does not depend on the distance.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from medvision.metrics import kernels, nearest
from medvision.metrics.bitmask import Bitmask

_ROWS = 800  # how many rows a voxel may look at: 16 voxels around it where the spacing is the same
_FEW = 32  # how many when the plane-wise transform is the cheaper way


def boundary_distances(
    source: Bitmask, source_count: int, target: Bitmask, spacing: NDArray[np.float64], limit: float
) -> NDArray[np.float64]:
    """Distance in mm from every set bit of `source`, in scan order, to the nearest set bit of
    `target`.

    Args:
        source: a boundary as words, [X, Y, W].
        source_count: the number of its set bits.
        target: a boundary on the same grid, not empty.
        spacing: voxel size in mm, [3].
        limit: distances above this (mm) may come back as infinity instead; those up to it are
            exact.

    Returns:
        float64 [source_count].
    """
    nx, ny, nw = source.shape
    limit *= 1 + 1e-12  # in squares, rounding could put a distance that equals the limit beyond it
    squares = [
        (np.arange(size) * step) ** 2 for size, step in zip((nx, ny, 64 * nw), spacing, strict=True)
    ]
    offsets, lateral = _nearest_rows((nx, ny), (float(spacing[0]), float(spacing[1])), limit)
    # The transform takes about as long as two looks a voxel of the grid: far looks may cost half of
    # that.
    patience = 64 * source.size
    squared = nearest.by_rows(
        source,
        target,
        source_count,
        offsets,
        lateral,
        squares[2],
        limit**2,
        min(_FEW, len(offsets)),
        patience,
    )
    undecided = np.flatnonzero(squared < 0)
    if len(undecided):
        queries = kernels.coordinates(source, source_count)[undecided]
        order = np.argsort(queries[:, 2], kind="stable")
        squared[undecided[order]] = nearest.by_planes(target, queries[order], *squares)
    distance: NDArray[np.float64] = np.sqrt(squared)
    return distance


@functools.lru_cache(maxsize=16)
def _nearest_rows(
    grid: tuple[int, int], spacing: tuple[float, float], limit: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Offsets of the rows around a row, nearest first, at most `_ROWS` and none further than
    `limit` (mm), [n, 2]; and their squared distances (mm²), followed by that of the first row left
    out, [n + 1].
    """
    radius = min(limit, 2 * (_ROWS * spacing[0] * spacing[1] / np.pi) ** 0.5)
    reach = [min(size, int(radius / step) + 2) for size, step in zip(grid, spacing, strict=True)]
    x, y = (np.arange(-n, n + 1) for n in reach)
    squared = ((x[:, None] * spacing[0]) ** 2 + (y * spacing[1]) ** 2).ravel()
    order = np.argsort(squared, kind="stable")
    # No row that was left out of the box is nearer than this; a row outside of the grid does not
    # count.
    outside = min(
        ((n + 1) * step if n < size else np.inf)
        for n, size, step in zip(reach, grid, spacing, strict=True)
    )
    sorted_squared = np.minimum(squared[order], outside**2)
    rows = int(np.searchsorted(sorted_squared, min(limit, outside) ** 2, side="right"))
    rows = min(rows, _ROWS, len(order) - 1)
    offsets = np.stack((x[order // len(y)], y[order % len(y)]), axis=-1)
    return offsets[:rows], sorted_squared[: rows + 1]
