"""Patches of a case's arrays: where they begin, and how they are cut out. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

POINTS = 1024  # voxels of a structure that are kept to be the middle of a patch


def structure_points(masks: np.ndarray) -> np.ndarray:
    """Voxels of each label group, int32 [G, POINTS, 3], drawn with replacement and the same every
    time; -1 for a group that is not there.

    Args:
        masks: [G, X, Y, Z].
    """
    points = np.full((len(masks), POINTS, 3), -1, np.int32)
    rng = np.random.default_rng(0)
    for found, mask in zip(points, masks, strict=True):
        if len(inside := np.flatnonzero(mask)):
            chosen = np.sort(rng.choice(inside, POINTS))
            found[:] = np.stack(np.unravel_index(chosen, mask.shape), -1)
    return points


def drawn_start(
    points: np.ndarray,
    shape: Sequence[int],
    size: Sequence[int],
    foreground: float,
    draw: int,
) -> tuple[int, ...]:
    """First voxel of a random patch, which lies inside the image, or around it where the image is
    smaller: with the probability `foreground` the patch is centred on a voxel of a structure, of
    any group alike, otherwise every place is as likely.

    Args:
        points: of `structure_points`.
        shape: of the image.
        size: of the patch.
        draw: seed that decides.
    """
    rng = np.random.default_rng(draw)
    centred, group, point = rng.random(3)
    anywhere = rng.random(3)
    there = [places for places in points if places[0, 0] >= 0]
    if there and centred < foreground:
        places = there[int(group * len(there))]
        return _around(places[int(point * len(places))], shape, size)
    return tuple(
        int(share * (length - n + 1)) if length > n else (length - n) // 2
        for share, length, n in zip(anywhere, shape, size, strict=True)
    )


def example_start(points: np.ndarray, shape: Sequence[int], size: Sequence[int]) -> tuple[int, ...]:
    """The same of the patch around the middle of all structures, or of the image without any."""
    there = [places for places in points if places[0, 0] >= 0]
    middle = np.mean(np.concatenate(there), 0) if there else np.array(shape) / 2
    return _around(middle.round(), shape, size)


def _around(centre: np.ndarray, shape: Sequence[int], size: Sequence[int]) -> tuple[int, ...]:
    return tuple(
        min(max(int(place) - n // 2, 0), length - n) if length > n else (length - n) // 2
        for place, length, n in zip(centre, shape, size, strict=True)
    )


def cut_out(array: np.ndarray, start: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """A patch [C, *size] of an array [C, X, Y, Z], a copy; 0 outside of the array."""
    patch = np.empty((len(array), *size), array.dtype)
    cut_into(patch, array, start)
    return patch


def cut_into(patch: Any, array: Any, start: Sequence[int]) -> None:
    """The same into a patch that is there already; both are numpy's arrays or torch's tensors."""
    size, shape = tuple(patch.shape[1:]), tuple(array.shape[1:])
    inside = [
        (max(first, 0), min(first + n, length))
        for first, n, length in zip(start, size, shape, strict=True)
    ]
    target = tuple(
        slice(low - first, high - first) for first, (low, high) in zip(start, inside, strict=True)
    )
    if any(high - low < n for (low, high), n in zip(inside, size, strict=True)):
        patch[...] = 0
    patch[(slice(None), *target)] = array[(slice(None), *(slice(*ends) for ends in inside))]
