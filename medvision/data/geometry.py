"""Where a network's grid lies in a case's own, and the way there and back.

The network's axes are those of the case, sorted and turned to the closest of right, anterior,
superior (RAS); along each axis its voxels have another size and start elsewhere. Nothing is rotated
or sheared, so what was put somewhere on the way there is found at the same place on the way back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import nibabel
import numpy as np
import torch

Box = tuple[tuple[int, int], ...]
EDGE = 1e-6  # voxels; a centre that lies on an edge is inside


@dataclass(frozen=True)
class Geometry:
    """The network's axis k runs along axis `axes[k]` of the case, backwards where `flips[k]`.

    Of that axis the case's voxels from `box[k][0]` up to `box[k][1]` are shown, counted the
    network's way; the network's voxel i has its centre `starts[k] + (i + 1/2) * steps[k]` voxels of
    the case behind the edge of the first one.
    """

    shape: tuple[int, ...]
    size: tuple[int, ...]
    axes: tuple[int, ...]
    flips: tuple[bool, ...]
    box: Box
    starts: tuple[float, ...]
    steps: tuple[float, ...]

    def to_network(self, volume: torch.Tensor, fill: float = 0.0) -> torch.Tensor:
        """Float [*shape] of the case to [*size]: linear, averaged where voxels grow; `fill` outside
        the box.
        """
        shown = volume.permute(self.axes).flip(self._flipped)[self._inside] - fill
        for axis in sorted(
            range(3), key=lambda axis: -self.steps[axis]
        ):  # what shrinks most comes first
            low, high = self.box[axis]
            centres = (
                self.starts[axis]
                + (np.arange(self.size[axis]) + 0.5) * self.steps[axis]
                - low
                - 0.5
            )
            shown = _along(shown, axis, _weights(centres, self.steps[axis], high - low))
        return shown + fill

    def to_case(self, volume: torch.Tensor) -> torch.Tensor:
        """Float [*size] of the network to [*shape] of the case, in the same manner; 0 outside the
        box. Along an axis where one voxel of the network shows the whole case, that one decides.
        """
        for axis in sorted(range(3), key=lambda axis: self.steps[axis]):
            own = np.arange(*self.box[axis]) + 0.5
            centres = (own - self.starts[axis]) / self.steps[axis] - 0.5
            weights = _weights(centres, 1 / self.steps[axis], self.size[axis])
            if (seen := self._seen(axis)).sum() == 1:
                weights = torch.from_numpy(seen).float().expand(len(own), -1)
            volume = _along(volume, axis, weights)
        whole = volume.new_zeros([self.shape[axis] for axis in self.axes])
        whole[self._inside] = volume
        return whole.flip(self._flipped).permute([self.axes.index(axis) for axis in range(3)])

    def _seen(self, axis: int) -> np.ndarray:
        """Which of the network's voxels have their centre in the box along an axis, bool [size]."""
        low, high = self.box[axis]
        places = self.starts[axis] + (np.arange(self.size[axis]) + 0.5) * self.steps[axis]
        return (places > low - EDGE) & (places < high + EDGE)

    @property
    def _inside(self) -> tuple[slice, ...]:
        return tuple(slice(low, high) for low, high in self.box)

    @property
    def _flipped(self) -> list[int]:
        return [axis for axis in range(3) if self.flips[axis]]


def orient(affine: np.ndarray) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """`axes` and `flips` of a `Geometry` that turn a volume with this affine [4, 4] to RAS as
    nearly as possible.

    Raises:
        ValueError: the affine gives an axis no direction.
    """
    found = nibabel.orientations.io_orientation(affine)
    if np.isnan(found).any():
        raise ValueError(
            f"the affine gives axis {int(np.isnan(found[:, 0]).argmax())} no direction: "
            f"{affine.tolist()}"
        )
    axes = np.argsort(found[:, 0])
    return tuple(int(axis) for axis in axes), tuple(bool(found[axis, 1] < 0) for axis in axes)


def place(
    shape: Sequence[int],
    spacing: Sequence[float],
    affine: np.ndarray,
    size: Sequence[int],
    *,
    target: Sequence[float] | None = None,
    box: Box | None = None,
) -> Geometry:
    """Centre a case, or a box of it, in a network's grid without changing its proportions.

    Args:
        shape: of the case, in voxels.
        spacing: of the case, in mm.
        affine: of the case, in mm.
        size: of the network's grid.
        target: mm of the network's voxels (in RAS), larger by one factor where the box would not
            fit; None: cubes, as small as the box allows.
        box: what is shown, first and last + 1 voxel along each axis of the case; everything where
            None.

    Raises:
        ValueError: the affine gives an axis no direction.
    """
    axes, flips = orient(affine)
    box = tuple(
        (shape[axis] - high, shape[axis] - low) if backwards else (low, high)
        for axis, backwards in zip(axes, flips, strict=True)
        for low, high in [box[axis] if box else (0, shape[axis])]
    )
    own = [spacing[axis] for axis in axes]
    extents = [(high - low) * voxel for (low, high), voxel in zip(box, own, strict=True)]
    wanted = target or (1.0, 1.0, 1.0)
    least = max(
        extent / (n * voxel) for extent, n, voxel in zip(extents, size, wanted, strict=True)
    )
    factor = least if target is None else max(1.0, least)
    steps = [voxel * factor / source for voxel, source in zip(wanted, own, strict=True)]
    steps = [
        1.0 if abs(step - 1) < 1e-6 else step for step in steps
    ]  # NIfTI's spacings are float32
    starts = [
        _start(low, high, n, step) for (low, high), n, step in zip(box, size, steps, strict=True)
    ]
    return Geometry(tuple(shape), tuple(size), axes, flips, box, tuple(starts), tuple(steps))


def _start(low: int, high: int, n: int, step: float) -> float:
    """Where an axis' n voxels of the network begin, so that the box lies in their middle."""
    if step == 1:
        return (low + high - n) // 2  # equal voxels lie on each other
    # the box would lie between the centres of the two middle voxels, and in neither: one gets it
    thin = n % 2 == 0 and high - low < step - 2 * EDGE
    return (low + high - (n + thin) * step) / 2


def _weights(centres: np.ndarray, width: float, length: int) -> torch.Tensor:
    """Row i: shares of an axis' voxels in a place (triangle as wide as the larger voxel); 0
    outside, otherwise sum 1.
    """
    distance = np.abs(centres[:, None] - np.arange(length)) / max(1.0, width)
    shares = np.round(np.clip(1 - distance, 0, None), 9)  # rounded, so that equal grids give a copy
    inside = (centres > -0.5 - EDGE) & (centres < length - 0.5 + EDGE)
    return torch.from_numpy(
        np.where(inside[:, None], shares / shares.sum(1, keepdims=True).clip(1e-9), 0)
    ).float()


def _along(volume: torch.Tensor, axis: int, weights: torch.Tensor) -> torch.Tensor:
    """Apply weights [m, n] along an axis of n voxels."""
    return (volume.movedim(axis, -1) @ weights.T.to(volume)).movedim(-1, axis)
