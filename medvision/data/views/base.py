"""What every view gives: the network's input, and the way back to the case's own grid.

A view shows an image as the network's input and gives a `Placement`, which knows the way of
everything else: of the label to the network's grid, and of the network's answer to the case's own.
A new way of showing a case (patches, slices) is a module next to this one with a view and a
placement, and two lines in `registry`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from medvision.data.nifti import Image

Network = Callable[[torch.Tensor], torch.Tensor]  # [B, C, *size] to probabilities [B, G, *size]


class Placement(Protocol):
    """Where what a network saw lies in the case."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the case's own grid, X, Y, Z."""

    def show_mask(self, mask: torch.Tensor) -> torch.Tensor:
        """A mask of the case, bool [*shape], on the network's grid, bool [*size].

        Raises:
            ValueError: nothing of a structure is shown, by a view that never drops one.
        """

    def segment(self, network: Network, image: torch.Tensor) -> torch.Tensor:
        """What a network finds in an input [C, *size]: bool [G, *shape] on the case's own grid.

        The probabilities are resampled (the inverse of how the input was made) and then cut at one
        half, so that the boundary is not that of the coarse grid.
        """

    def to_json(self) -> dict[str, Any]:
        """As it is stored with a prepared case; the class's `from_json` reads it."""


@dataclass(frozen=True)
class PreprocessedCase:
    """Network input: `image` float16 [C, *image_size], `masks` uint8 [G, *image_size]; `placement`
    leads back to the case's own grid.
    """

    image: np.ndarray
    masks: np.ndarray
    placement: Placement


class View(Protocol):
    """One way of showing a case."""

    def placement(self, shape: tuple[int, ...]) -> Placement | None:
        """Where a case of this shape lies; None where only its image tells."""

    def show(self, source: Image) -> tuple[np.ndarray, Placement]:
        """The network's input, float16 [C, *image_size], and where it lies in the case.

        Raises:
            ValueError: the image cannot be shown in this way.
        """
