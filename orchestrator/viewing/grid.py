"""A case's voxels as a viewer takes them: turned to the patient's axes, reduced to what a browser
holds, and packed.
"""

from __future__ import annotations

import base64
import gzip
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))
UNKNOWN = (("x−", "x+"), ("y−", "y+"), ("z−", "z+"))


@dataclass(frozen=True)
class ViewGrid:
    """How the viewer's axes lie in a file. They run to the patient's right, front and head, as far
    as the affine says so.

    Attributes:
        axes: of the file, in the viewer's order.
        flipped: whether the viewer's axis runs against the file's.
        step: voxels of the file that are one of the viewer's, along its axes.
        shape: of the viewer's grid.
        spacing: mm of its voxels.
        letters: at the low and the high end of each axis.
    """

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    step: tuple[int, int, int]
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    letters: Sequence[tuple[str, str]]

    @classmethod
    def of(
        cls, shape: Sequence[int], spacing: Sequence[float], affine: np.ndarray, most: int
    ) -> ViewGrid:
        """The grid of a file with at most `most` voxels: where the file has more, every axis is
        halved in turn, the one of the smallest voxels first.
        """
        from nibabel.orientations import io_orientation

        try:
            turned = io_orientation(affine)
        except (ValueError, np.linalg.LinAlgError):  # one that is not finite
            turned = np.full((3, 2), np.nan)
        if np.isnan(turned).any() or sorted(turned[:, 0]) != [0, 1, 2]:
            axes, flipped, letters = (0, 1, 2), (False, False, False), UNKNOWN
        else:
            x, y, z = (int(np.flatnonzero(turned[:, 0] == k)[0]) for k in range(3))
            axes, letters = (x, y, z), LETTERS
            flipped = (turned[x, 1] < 0, turned[y, 1] < 0, turned[z, 1] < 0)
        sizes, edges = [shape[axis] for axis in axes], [float(spacing[axis]) for axis in axes]
        step = [1, 1, 1]
        while math.prod(_divided(sizes, step)) > most:
            candidates = [k for k in range(3) if sizes[k] > step[k]]
            finest = min(candidates, key=lambda k: edges[k] * step[k])
            step[finest] *= 2
        small = _divided(sizes, step)
        coarse = tuple(edge * by for edge, by in zip(edges, step, strict=True))
        ways = (bool(flipped[0]), bool(flipped[1]), bool(flipped[2]))
        return cls(axes, ways, tuple(step), tuple(small), coarse, letters)  # type: ignore[arg-type]

    def image(self, voxels: np.ndarray) -> np.ndarray:
        """An image [X, Y, Z] on this grid as uint8: means of blocks, the 0.5th to the 99.5th
        percentile of the file spread over the range.
        """
        low, high = np.percentile(voxels, [0.5, 99.5])
        means = self._means(voxels.astype(np.float32))
        scaled = (means - low) / max(float(high - low), 1e-12)
        return np.round(255 * np.clip(scaled, 0, 1)).astype(np.uint8)

    def mask(self, voxels: np.ndarray) -> np.ndarray:
        """A mask bool [X, Y, Z] on this grid: where it fills half a block or more."""
        if self.step == (1, 1, 1):
            return self._turned(voxels)
        return self._means(voxels.astype(np.float32)) >= 0.5

    def _turned(self, voxels: np.ndarray) -> np.ndarray:
        turned = voxels.transpose(self.axes)
        return turned[tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)]

    def _means(self, voxels: np.ndarray) -> np.ndarray:
        means = self._turned(voxels)
        for axis, by in enumerate(self.step):
            if by > 1:
                starts = np.arange(0, means.shape[axis], by)
                counts = np.diff([*starts, means.shape[axis]])
                sums = np.add.reduceat(means, starts, axis=axis)
                means = sums / np.moveaxis(counts[None, None], -1, axis).astype(np.float32)
        return means

    def centre(self, voxels: np.ndarray) -> list[int]:
        """The slices with most of a mask bool (on this grid), along each axis, the middle one of
        several; the middle of the grid for an empty one.
        """
        if not voxels.any():
            return [size // 2 for size in self.shape]
        areas = [voxels.sum(axis=rest) for rest in ((1, 2), (0, 2), (0, 1))]
        fullest = [np.flatnonzero(area == area.max()) for area in areas]
        return [int(places[len(places) // 2]) for places in fullest]

    def described(self, shape: Sequence[int]) -> list[dict[str, Any]]:
        """Each axis of the file: its size, the viewer's axis that shows it, the step, the way."""
        found = []
        for axis, size in enumerate(shape):
            shown = self.axes.index(axis)
            about = {"size": size, "shown": shown, "step": self.step[shown]}
            found.append({**about, "flipped": self.flipped[shown]})
        return found


def _divided(sizes: Sequence[int], steps: Sequence[int]) -> list[int]:
    return [-(-size // step) for size, step in zip(sizes, steps, strict=True)]


def packed_image(image: np.ndarray) -> str:
    """Bytes [X, Y, Z] as gzip in base64, x running fastest."""
    return _packed(image.ravel(order="F").tobytes())


def packed_masks(masks: Sequence[np.ndarray]) -> str:
    """Masks bool [X, Y, Z] as bits, x running fastest, the lowest bit first; each begins with a
    byte of its own.
    """
    parts = [np.packbits(mask.ravel(order="F"), bitorder="little").tobytes() for mask in masks]
    return _packed(b"".join(parts))


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode()
