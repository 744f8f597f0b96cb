"""What a network is built for: the sizes of its images and patches. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Size = tuple[int, int, int]


@dataclass(frozen=True)
class Sizes:
    """Sizes that a study decides, and that all its models share.

    Attributes:
        image: voxels (X, Y, Z) of the input.
        patch: voxels (X, Y, Z) of one token; networks that choose their own tokens ignore it.
        in_channels: image channels.
        out_channels: label groups, one logit each.

    Raises:
        ValueError: the image is no multiple of the patch.
    """

    image: Size
    patch: Size
    in_channels: int = 1
    out_channels: int = 1

    def __post_init__(self) -> None:
        if any(size % patch for size, patch in zip(self.image, self.patch, strict=True)):
            raise ValueError(
                f"image_size {self.image} must be a multiple of patch_size {self.patch}"
            )

    @property
    def grid(self) -> Size:
        """Patches along X, Y and Z."""
        (x, y, z), (px, py, pz) = self.image, self.patch
        return x // px, y // py, z // pz

    def padded(self, multiple: int, least: int = 1) -> Size:
        """The image's size once padded to multiples of one number, and to `least` voxels."""
        x, y, z = padded_size(self.image, (multiple,) * 3, least)
        return x, y, z

    def voxels(self, multiple: int = 1, least: int = 1) -> int:
        """Voxels of the image, padded as `padded` does."""
        return math.prod(self.padded(multiple, least))


def padded_size(
    image_size: Sequence[int], multiples: Sequence[int], least: int = 1
) -> tuple[int, ...]:
    """The smallest size that holds the image, whose axes are multiples and not below `least`."""
    sizes = zip(image_size, multiples, strict=True)
    return tuple(-(-max(size, least) // multiple) * multiple for size, multiple in sizes)
