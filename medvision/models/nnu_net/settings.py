"""Settings of nnU-Net's network; sizes default to those of its paper. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from medvision.models.arithmetic import Layer, convolution, linear, norm
from medvision.models.bottleneck import BottleneckSettings
from medvision.models.sizes import Sizes, padded_size
from medvision.settings import Since

_SMALLEST_EDGE = 4


class NnUNetSettings(BottleneckSettings):
    """nnU-Net's network (Isensee et al. 2021), MONAI's DynUNet planned by nnU-Net's rule; one
    recipe for all models here.
    """

    code = "medvision.models.nnu_net.network:nnu_net"
    gpu_rates = (6e13, 9.5e13)
    label: Literal["nnU-Net"]
    features: Annotated[tuple[PositiveInt, ...], Field(min_length=3)] = Field(
        default=(32, 64, 128, 256, 320, 320),
        description="channels of the levels; small images use the first ones",
    )
    deep_supervision: Annotated[bool, Since("0.2", before=False)] = Field(
        default=False,
        description="in training, the decoder's coarser levels have outputs, too, but for the "
        "lowest two; each counts half of the one above",
    )

    def coarsest(self, sizes: Sizes) -> tuple[int, int]:
        """Of the last level that the image reaches."""
        levels = strides(sizes.image, len(self.features))
        steps = multiples(levels)
        padded = padded_size(sizes.image, steps)
        return self.features[len(levels) - 1], math.prod(padded) // math.prod(steps)

    def layers(self, sizes: Sizes) -> Iterator[Layer]:
        """Each level's encoder, and the decoder's step from it to the level above."""
        levels = strides(sizes.image, len(self.features))
        supervised = heads(levels) if self.deep_supervision else 0
        for level in range(1, supervised + 1):  # parameters; used in training only
            width = self.features[level]
            yield Layer((width + 1) * sizes.out_channels, 0)
        voxels = math.prod(padded_size(sizes.image, multiples(levels)))
        yield linear(self.features[0], sizes.out_channels, voxels)
        above = sizes.in_channels
        for level, (stride, width) in enumerate(zip(levels, self.features, strict=False)):
            inside = voxels // math.prod(stride)
            if level:
                weights = math.prod(stride) * width * above
                yield Layer(weights, 2 * weights * inside)  # transposed convolution
                yield from _two(2 * above, above, voxels)
            yield from _two(above, width, inside)
            voxels, above = inside, width


def _two(inputs: int, outputs: int, voxels: int) -> Iterator[Layer]:
    """MONAI's UnetBasicBlock: two convolutions, each with a norm."""
    for before in (inputs, outputs):
        yield from (convolution(before, outputs, voxels, bias=False), norm(outputs))


def strides(image_size: Sequence[int], levels: int) -> list[tuple[int, ...]]:
    """Strides of nnU-Net's levels: an axis is halved until its features would be shorter than 4
    voxels.

    Args:
        levels: at most so many; there are at least three, the last ones with stride 1 where the
            image is small.
    """
    edges = list(image_size)
    found: list[tuple[int, ...]] = [(1,) * len(edges)]
    while len(found) < levels:
        stride = tuple(2 if edge >= 2 * _SMALLEST_EDGE else 1 for edge in edges)
        if set(stride) == {1} and len(found) >= 3:
            break
        found.append(stride)
        edges = [-(-edge // step) for edge, step in zip(edges, stride, strict=True)]
    return found


def heads(levels: Sequence[Sequence[int]]) -> int:
    """Outputs of deep supervision below the network's own."""
    return max(1, len(levels) - 3)


def multiples(levels: Sequence[Sequence[int]]) -> list[int]:
    """What an image of these strides is padded to multiples of, along each axis."""
    return [math.prod(stride[axis] for stride in levels) for axis in range(3)]
