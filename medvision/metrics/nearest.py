"""Compiled search for the nearest boundary voxel: row by row, or by a distance transform of a
plane.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medvision.metrics.bitmask import ONE, TOP, Bitmask, compiled, zeros_above, zeros_below

FAR = 1 << 40  # more voxels than any row has


@compiled
def _row_gap(target: Bitmask, x: int, y: int, w: int, bit: np.uint64, reach: int) -> int:
    """Voxels from bit `bit` of word `w` to the nearest set bit in row (x, y), or more than
    `reach`.
    """
    gap = FAR
    above = target[x, y, w] >> bit
    if above:
        gap = zeros_below(above)
    below = target[x, y, w] << (TOP - bit)
    if below:
        gap = min(gap, zeros_above(below))
    start, v = 64 - np.int64(bit), w + 1
    while v < target.shape[2] and start < gap and start <= reach:
        if target[x, y, v]:
            gap = min(gap, start + zeros_below(target[x, y, v]))
        start, v = start + 64, v + 1
    start, v = np.int64(bit) + 1, w - 1
    while v >= 0 and start < gap and start <= reach:
        if target[x, y, v]:
            gap = min(gap, start + zeros_above(target[x, y, v]))
        start, v = start + 64, v - 1
    return gap


@compiled
def by_rows(
    source: Bitmask,
    target: Bitmask,
    count: int,
    offsets: NDArray[np.int64],
    lateral: NDArray[np.float64],
    squares: NDArray[np.float64],
    limit: float,
    few: int,
    patience: int,
) -> NDArray[np.float64]:
    """Squared distance (mm²) from each set bit of `source`, in scan order, to the nearest one of
    `target`.

    Args:
        count: set bits in `source`.
        offsets: offsets of the rows to look at, nearest first, [n, 2].
        lateral: their squared distances, then that of the first row left out, [n + 1].
        squares: squared distance of a gap along the last axis, by its number of voxels.
        limit: what lies further (mm²) may come back as infinity.
        few: rows that every voxel may look at.
        patience: once this many looks have gone beyond the first `few` rows, the rest look no
            further.

    Returns:
        float64 [count]; -1 where the rows do not decide.
    """
    nx, ny, nw = source.shape
    result = np.empty(count)
    n, rows = 0, len(offsets)
    for x in range(nx):
        for y in range(ny):
            for w in range(nw):
                left = source[x, y, w]
                same = target[x, y, w]
                while left:
                    bit = np.uint64(zeros_below(left))
                    left &= left - ONE
                    best, reach, k = np.inf, len(squares) - 1, 0
                    if same >> bit & ONE:
                        best = 0.0
                    while k < rows and lateral[k] < best:
                        i, j = x + offsets[k, 0], y + offsets[k, 1]
                        if 0 <= i < nx and 0 <= j < ny:
                            gap = _row_gap(target, i, j, w, bit, reach)
                            if gap <= reach and lateral[k] + squares[gap] < best:
                                best, reach = lateral[k] + squares[gap], gap
                        k += 1
                    if best > lateral[k]:
                        best = np.inf if lateral[k] > limit else -1.0
                    if k > few:
                        patience -= k - few
                        if patience < 0:
                            rows = few
                    result[n] = best
                    n += 1
    return result


@compiled
def by_planes(
    target: Bitmask,
    queries: NDArray[np.int32],
    squares_x: NDArray[np.float64],
    squares_y: NDArray[np.float64],
    squares_z: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Squared distance (mm²) from each voxel in `queries` to the nearest set bit of `target`,
    however far.

    A separable distance transform of those planes across the last axis that are asked for: within
    rows by bits, along the second axis by the lower envelope of parabolas (Felzenszwalb and
    Huttenlocher, "Distance transforms of sampled functions", Theory of Computing 8, 2012), along
    the first axis by looking outwards.

    Args:
        queries: voxel indices by ascending last index, [n, 3].
        squares_x: squared distance of a gap along the first axis, by its number of voxels.
        squares_y: the same along the second axis.
        squares_z: the same along the last axis.
    """
    nx, ny, nw = target.shape
    filled = np.zeros((nx, ny), np.bool_)
    for x in range(nx):
        for y in range(ny):
            for w in range(nw):
                filled[x, y] |= target[x, y, w] != 0
    plane = np.full((nx, ny), np.inf)
    sites, values = np.empty(ny, np.int64), np.empty(ny)
    heights, starts = np.empty(ny), np.empty(ny)
    result = np.empty(len(queries))
    n = 0
    while n < len(queries):
        z = queries[n, 2]
        w, bit = z >> 6, np.uint64(z & 63)
        for x in range(nx):
            last = -1
            for y in range(ny):
                if not filled[x, y]:
                    continue
                value = squares_z[_row_gap(target, x, y, w, bit, FAR)]
                height = value / squares_y[1] + y * y
                start = -np.inf
                while last >= 0:
                    start = (height - heights[last]) / (2 * (y - sites[last]))
                    if start > starts[last]:
                        break
                    last -= 1
                    start = -np.inf
                last += 1
                sites[last], values[last], heights[last], starts[last] = y, value, height, start
            if last >= 0:
                k = 0
                for y in range(ny):
                    while k < last and starts[k + 1] < y:
                        k += 1
                    plane[x, y] = values[k] + squares_y[abs(y - sites[k])]
        while n < len(queries) and queries[n, 2] == z:
            x, y = queries[n, 0], queries[n, 1]
            best, step = plane[x, y], 1
            while step < nx and squares_x[step] < best:
                if x - step >= 0:
                    best = min(best, plane[x - step, y] + squares_x[step])
                if x + step < nx:
                    best = min(best, plane[x + step, y] + squares_x[step])
                step += 1
            result[n] = best
            n += 1
    return result
