"""Settings of UNet++; sizes default to those of its paper. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from medvision.models.arithmetic import Layer, convolution, linear, norm
from medvision.models.bottleneck import BottleneckSettings
from medvision.models.sizes import Sizes
from medvision.settings import Since

MULTIPLE, LEAST = 16, 32  # voxels of a padded image along each axis


class UNetPlusPlusSettings(BottleneckSettings):
    """UNet++ (Zhou et al. 2018), MONAI's BasicUNetPlusPlus; deep supervision, which its paper has,
    where it is set.
    """

    code = "medvision.models.unet_plus_plus.network:unet_plus_plus"
    gpu_rates = (6e13, 9.5e13)  # nnU-Net's; convolutions of the same kind, not measured
    label: Literal["UNet++"]
    features: Annotated[tuple[PositiveInt, ...], Field(min_length=6, max_length=6)] = Field(
        default=(32, 32, 64, 128, 256, 32),
        description="channels of the five levels, then of the last node",
    )
    deep_supervision: Annotated[bool, Since("0.2", before=False)] = Field(
        default=False,
        description="in training, the three nodes before the last one have outputs, too, all at "
        "full resolution; each counts half of the one after it",
    )

    def coarsest(self, sizes: Sizes) -> tuple[int, int]:
        """Of the fifth level."""
        return self.features[4], sizes.voxels(MULTIPLE, LEAST) // MULTIPLE**3

    def layers(self, sizes: Sizes) -> Iterator[Layer]:
        """The encoder's levels, then the nested nodes of the decoder."""
        voxels, widths = sizes.voxels(MULTIPLE, LEAST), self.features
        for _ in range(3 if self.deep_supervision else 0):  # parameters; used in training only
            yield Layer((widths[0] + 1) * sizes.out_channels, 0)
        yield from _two(sizes.in_channels, widths[0], voxels)
        for level in range(1, 5):
            yield from _two(widths[level - 1], widths[level], voxels // 8**level)
        for level in range(4):
            here, below, places = widths[level], widths[level + 1], voxels // 8**level
            raised = below // 2 if level else below
            for node in range(1, 5 - level):
                made = widths[5] if (level, node) == (0, 4) else here
                yield convolution(below, raised, places // 8, edge=2)
                yield from _two(here * node + raised, made, places)
        yield linear(widths[5], sizes.out_channels, voxels)


def _two(inputs: int, outputs: int, voxels: int) -> Iterator[Layer]:
    """MONAI's TwoConv: two convolutions, each with a norm."""
    for before in (inputs, outputs):
        yield from (convolution(before, outputs, voxels), norm(outputs))
