"""From two mask arrays to rows of words: checks, packing, and the part of the grid that holds
voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medvision.metrics import kernels
from medvision.metrics.bitmask import TOP, Bitmask

_SLAB = 1 << 18  # voxels that are converted at a time: they stay in the cache


@dataclass(frozen=True)
class Pair:
    """Two masks on one grid: voxel counts, and both masks as words, cropped to the box around their
    union.

    The words are [X', Y', W]; index 0 and the last one of the first two axes and the last bit are
    empty.
    """

    voxels: int
    predicted: int
    true: int
    both: int
    prediction: Bitmask
    truth: Bitmask


def check_mask(name: str, mask: ArrayLike) -> NDArray[np.integer | np.bool_]:
    """The mask as an array; nothing is copied.

    Raises:
        ValueError: not 3D, empty, or not of a boolean or integer type.
    """
    array = np.asarray(mask)
    if array.ndim != 3:
        hint = "; 2D is not supported" if array.ndim == 2 else ""
        raise ValueError(f"{name} must be a 3D mask [X, Y, Z], got shape {array.shape}{hint}")
    if array.size == 0:
        raise ValueError(f"{name} has no voxels: shape {array.shape}")
    if array.dtype.kind not in "biu":
        wrong = ""
        if array.dtype.kind == "f" and (nan := int(np.isnan(array).sum())):
            wrong = f" with {nan} NaN voxels"
        raise ValueError(
            f"{name} must be boolean or integer, got {array.dtype}{wrong}: threshold probabilities "
            "(mask > 0.5) or cast label values (mask.astype(np.uint8))"
        )
    return array


def check_spacing(spacing: Sequence[float] | NDArray[np.floating]) -> NDArray[np.float64]:
    """The voxel size as float64 [3].

    Raises:
        ValueError: not three positive finite numbers.
    """
    array = np.asarray(spacing, dtype=np.float64)
    if array.shape != (3,) or not np.isfinite(array).all() or (array <= 0).any():
        raise ValueError(
            f"spacing must be three positive finite numbers in mm, one per axis, got {spacing!r}"
        )
    return array


def read_pair(prediction: ArrayLike, truth: ArrayLike) -> Pair:
    """Check, pack, count and crop two masks; every voxel that is not 0 is inside.

    Raises:
        ValueError: a mask that `check_mask` rejects, or two different shapes.
    """
    first, second = check_mask("prediction", prediction), check_mask("truth", truth)
    if first.shape != second.shape:
        raise ValueError(
            f"prediction and truth must have the same shape, got {first.shape} and {second.shape}: "
            "resample the prediction to the grid of the truth"
        )
    words = pack(first), pack(second)
    predicted, true, both, (x0, x1, y0, y1), rows = kernels.count_and_bound(*words)
    used = np.flatnonzero(rows)
    w0, w1 = (int(used[0]), int(used[-1]) + 1 + int(rows[used[-1]] >> TOP)) if len(used) else (0, 0)
    cropped = [_bordered(w[x0 : x1 + 1, y0 : y1 + 1, w0:w1]) for w in words]
    return Pair(first.size, predicted, true, both, *cropped)


def _bordered(words: Bitmask) -> Bitmask:
    """With an empty index before and after on the first two axes (np.pad takes as long as all the
    rest of a small mask).
    """
    bordered = np.zeros((words.shape[0] + 2, words.shape[1] + 2, words.shape[2]), np.uint64)
    bordered[1:-1, 1:-1] = words
    return bordered


def pack(mask: NDArray[np.integer | np.bool_]) -> Bitmask:
    """One bit a voxel, in words along the last axis, [X, Y, Z // 64 + 1]; the last bit is always
    empty.
    """
    nx, ny, nz = mask.shape
    words = np.zeros((nx, ny, nz // 64 + 1), np.uint64)
    if mask.flags.f_contiguous and not mask.flags.c_contiguous:
        for w in range((nz + 63) // 64):
            slab = mask.T[64 * w : 64 * w + 64]
            if slab.any():
                kernels.pack_columns(
                    (slab if mask.dtype == bool else slab != 0).view(np.uint8), words, w
                )
        return words
    row_bytes = words.view(np.uint8)
    thickness = max(1, _SLAB // (ny * nz))
    for x in range(0, nx, thickness):
        slab = np.ascontiguousarray(mask[x : x + thickness])
        if slab.any():
            packed = np.packbits(
                slab if slab.itemsize == 1 else slab != 0, axis=-1, bitorder="little"
            )
            row_bytes[x : x + thickness, :, : packed.shape[-1]] = packed
    return words
