"""What every view gives: the network's input, and the way back to the case's own grid.

A view shows an image as the network's input and gives a `Placement`, which knows the way of
everything else: of the label to the network's grid, and of the network's answer to the case's own.
A new way of showing a case (patches, slices) is a module next to this one with a view and a
placement, and two lines in `registry`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from medvision.data.nifti import Image
from medvision.data.patches import cut_out, drawn_start, example_start

Network = Callable[[torch.Tensor], torch.Tensor]  # [B, C, *size] to probabilities [B, G, *size]


class Patches(NamedTuple):
    """What a training sees of a case at once: a patch of `size` voxels, a share of them
    (`foreground`) around a voxel of a structure.
    """

    size: tuple[int, ...]
    foreground: float


class Placement(Protocol):
    """Where what a network saw lies in the case. Its grid has the size of a view's image, which is
    the network's own but where it sees patches.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the case's own grid, X, Y, Z."""

    @property
    def patches(self) -> Patches | None:
        """What a training sees at once; None where that is all."""

    def show_mask(self, mask: torch.Tensor) -> torch.Tensor:
        """A mask of the case, bool [*shape], on the view's grid, bool [*size].

        Raises:
            ValueError: nothing of a structure is shown, by a view that never drops one.
        """

    def infer(self, network: Network, image: torch.Tensor, overlap: float) -> torch.Tensor:
        """Probabilities [G, *size] of a view's image [C, *size].

        Args:
            overlap: of two patches that are neighbours, as a share of their length.
        """

    def to_case(self, volume: torch.Tensor) -> torch.Tensor:
        """Probabilities [*size] on the case's own grid, [*shape]: the inverse of how the image was
        made. They are cut there, so that the boundary is not that of the coarse grid.
        """

    def to_json(self) -> dict[str, Any]:
        """As it is stored with a prepared case; the class's `from_json` reads it."""


@dataclass(frozen=True)
class PreprocessedCase:
    """Network input: `image` float16 [C, *size], `masks` uint8 [G, *size]; `placement` leads back
    to the case's own grid. `points`: voxels of each group, int32 [G, N, 3], for a view of patches.
    """

    image: np.ndarray
    masks: np.ndarray
    placement: Placement
    points: np.ndarray | None = None

    def sample(self, draw: int) -> tuple[np.ndarray, np.ndarray]:
        """What a training sees of the case, image and masks: all of it, or the patch that the seed
        `draw` decides. Of a mapped file nothing else is read.
        """
        if (place := self.seen(draw)) is None:
            return self.image, self.masks
        return self._patch(*place)

    def seen(self, draw: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """First voxel and size of the patch that the seed `draw` decides; None where it is all."""
        if (patches := self.placement.patches) is None or self.points is None:
            return None
        start = drawn_start(self.points, self.image.shape[1:], *patches, draw)
        return start, patches.size

    def example(self) -> tuple[np.ndarray, np.ndarray]:
        """The same for a picture: of patches the one around the middle of the structures."""
        if (patches := self.placement.patches) is None or self.points is None:
            return self.image, self.masks
        return self._patch(
            example_start(self.points, self.image.shape[1:], patches.size), patches.size
        )

    def _patch(
        self, start: tuple[int, ...], size: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        return cut_out(self.image, start, size), cut_out(self.masks, start, size)


class View(Protocol):
    """One way of showing a case."""

    def placement(self, shape: tuple[int, ...]) -> Placement | None:
        """Where a case of this shape lies; None where only its image tells."""

    def show(self, source: Image) -> tuple[np.ndarray, Placement]:
        """The case's image, float16 [C, *size], and where it lies in the case. The size is
        image_size but for a view of patches, whose patches have that.

        Raises:
            ValueError: the image cannot be shown in this way.
        """
