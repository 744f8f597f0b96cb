"""Compiled loops over masks as words: packing, counting, boundaries. One operation handles 64
voxels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medvision.metrics.bitmask import ONE, TOP, Bitmask, bit_count, compiled, zeros_below


@compiled
def pack_columns(slab: NDArray[np.uint8], words: Bitmask, w: int) -> None:
    """Pack word `w` of every row of a Fortran-ordered mask, given as its transpose [up to 64, Y,
    X].
    """
    depth, rows, columns = slab.shape
    packed = np.empty(columns, np.uint64)
    for y in range(rows):
        packed[:] = 0
        for z in range(depth):
            shift = np.uint64(z)
            for x in range(columns):
                packed[x] |= np.uint64(slab[z, y, x]) << shift
        for x in range(columns):
            words[x, y, w] = packed[x]


@compiled
def count_and_bound(
    prediction: Bitmask, truth: Bitmask
) -> tuple[int, int, int, NDArray[np.int64], Bitmask]:
    """Voxels in the prediction, in the truth and in both; the first and last index that the union
    has along the first axis and along the second, [4]; and the union of all rows, [W].
    """
    nx, ny, nw = truth.shape
    predicted = true = both = 0
    bounds = np.array([nx, -1, ny, -1])
    rows = np.zeros(nw, np.uint64)
    for x in range(nx):
        for y in range(ny):
            found = np.uint64(0)
            for w in range(nw):
                p, t = prediction[x, y, w], truth[x, y, w]
                if p | t:
                    found |= p | t
                    rows[w] |= p | t
                    predicted += bit_count(p)
                    true += bit_count(t)
                    both += bit_count(p & t)
            if found:
                bounds[0] = min(bounds[0], x)
                bounds[1] = max(bounds[1], x)
                bounds[2] = min(bounds[2], y)
                bounds[3] = max(bounds[3], y)
    return predicted, true, both, bounds, rows


@compiled
def voxel_boundary(mask: Bitmask) -> tuple[Bitmask, int]:
    """Voxels of the mask with one of their six neighbours outside, and how many there are.

    The mask's first and last index of the first two axes and its last bit are empty.
    """
    nx, ny, nw = mask.shape
    boundary = np.zeros(mask.shape, np.uint64)
    count = 0
    for x in range(1, nx - 1):
        for y in range(1, ny - 1):
            for w in range(nw):
                word = mask[x, y, w]
                if word:
                    below = word << ONE
                    if w > 0:
                        below |= mask[x, y, w - 1] >> TOP
                    above = word >> ONE
                    if w + 1 < nw:
                        above |= mask[x, y, w + 1] << TOP
                    beside = (
                        mask[x - 1, y, w]
                        & mask[x + 1, y, w]
                        & mask[x, y - 1, w]
                        & mask[x, y + 1, w]
                    )
                    boundary[x, y, w] = word & ~(below & above & beside)
                    count += bit_count(boundary[x, y, w])
    return boundary, count


@compiled
def surfel_boundary(mask: Bitmask) -> tuple[Bitmask, int]:
    """Corners whose eight voxels are neither all inside nor all outside, and how many there are.

    Corner (x, y, z) lies between the voxels of indices x - 1 and x, y - 1 and y, z - 1 and z. The
    mask's first and last index of the first two axes and its last bit are empty.
    """
    nx, ny, nw = mask.shape
    boundary = np.zeros(mask.shape, np.uint64)
    count = 0
    for x in range(1, nx):
        for y in range(1, ny):
            any_carry, all_carry = np.uint64(0), np.uint64(0)
            for w in range(nw):
                a, b, c, d = (
                    mask[x - 1, y - 1, w],
                    mask[x - 1, y, w],
                    mask[x, y - 1, w],
                    mask[x, y, w],
                )
                any_inside, all_inside = a | b | c | d, a & b & c & d
                some = any_inside | any_inside << ONE | any_carry
                full = all_inside & (all_inside << ONE | all_carry)
                boundary[x, y, w] = some & ~full
                count += bit_count(some & ~full)
                any_carry, all_carry = any_inside >> TOP, all_inside >> TOP
    return boundary, count


@compiled
def surfel_codes(mask: Bitmask, boundary: Bitmask, count: int) -> NDArray[np.uint8]:
    """The 2x2x2 code (see `medvision.metrics.surfels`) of each corner in the boundary, in scan
    order.
    """
    nx, ny, nw = mask.shape
    codes = np.empty(count, np.uint8)
    n = 0
    for x in range(1, nx):
        for y in range(1, ny):
            for w in range(nw):
                left = boundary[x, y, w]
                while left:
                    bit = np.uint64(zeros_below(left))
                    left &= left - ONE
                    code = np.uint64(0)
                    for row in range(4):
                        i, j = x - 1 + (row >> 1), y - 1 + (row & 1)
                        if bit:
                            pair = mask[i, j, w] >> (bit - ONE)
                        else:
                            pair = mask[i, j, w] << ONE
                            if w > 0:
                                pair |= mask[i, j, w - 1] >> TOP
                        code |= (pair & np.uint64(3)) << np.uint64(2 * row)
                    codes[n] = code
                    n += 1
    return codes


@compiled
def coordinates(boundary: Bitmask, count: int) -> NDArray[np.int32]:
    """Indices of the set bits in scan order, [count, 3]."""
    nx, ny, nw = boundary.shape
    indices = np.empty((count, 3), np.int32)
    n = 0
    for x in range(nx):
        for y in range(ny):
            for w in range(nw):
                left = boundary[x, y, w]
                while left:
                    indices[n, 0], indices[n, 1], indices[n, 2] = x, y, 64 * w + zeros_below(left)
                    left &= left - ONE
                    n += 1
    return indices
