"""Settings of Swin-UNet; sizes default to those of its paper. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from medvision.models.arithmetic import (
    Layer,
    attention,
    convolution,
    doubling_block,
    linear,
    norm,
    repeated,
    residual_block,
)
from medvision.models.bottleneck import BottleneckSettings
from medvision.models.sizes import Sizes
from medvision.settings import Since

MULTIPLE, LEAST = 32, 64  # voxels of a padded image along each axis
_PATCH = 2


class SwinUNetSettings(BottleneckSettings):
    """Swin-UNet in 3D as Swin UNETR (Hatamizadeh et al. 2022, arXiv 2201.01266), MONAI's; Swin-UNet
    itself is 2D.
    """

    code = "medvision.models.swin_unet.network:swin_unet"
    label: Literal["Swin-UNet"]
    feature_size: PositiveInt = Field(
        default=48, multiple_of=12, description="width of the first stage"
    )
    depths: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = Field(
        default=(2, 2, 2, 2), description="blocks of the four stages"
    )
    heads: Annotated[
        tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt],
        Since("0.1", before=(3, 6, 12, 24)),
    ] = Field(
        default=(3, 6, 12, 24),
        description="heads of the four stages, whose widths are 1, 2, 4 and 8 times feature_size",
    )
    window: PositiveInt = Field(
        default=7, description="edge of the windows of attention, in tokens"
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="after the attention and in the MLPs"
    )

    @model_validator(mode="after")
    def _divisible(self) -> SwinUNetSettings:
        widths = [self.feature_size * 2**stage for stage in range(4)]
        if any(width % heads for width, heads in zip(widths, self.heads, strict=True)):
            raise ValueError(
                f"the stages' widths {widths} must be multiples of their heads {list(self.heads)}"
            )
        return self

    def tokens(self, sizes: Sizes) -> int:
        """Its own patches of the padded image."""
        return sizes.voxels(MULTIPLE, LEAST) // _PATCH**3

    def coarsest(self, sizes: Sizes) -> tuple[int, int]:
        """Of what the fourth stage's merged patches are made into, an axis halved five times."""
        return 16 * self.feature_size, sizes.voxels(MULTIPLE, LEAST) // MULTIPLE**3

    def layers(self, sizes: Sizes) -> Iterator[Layer]:
        """The four stages of the encoder, then the convolutional decoder."""
        padded, base = sizes.padded(MULTIPLE, LEAST), self.feature_size
        voxels = math.prod(padded)
        yield convolution(sizes.in_channels, base, voxels // _PATCH**3, edge=_PATCH)
        for stage in range(4):
            grid, width = [size // 2 ** (stage + 1) for size in padded], base * 2**stage
            yield repeated(self.depths[stage], self._block(stage, grid))
            merged = math.prod(grid) // 8
            yield from (norm(8 * width), linear(8 * width, 2 * width, merged, bias=False))
        yield from residual_block(sizes.in_channels, base, voxels)
        yield linear(base, sizes.out_channels, voxels)
        for level, width in ((1, base), (2, 2 * base), (3, 4 * base), (5, 16 * base)):
            yield from residual_block(width, width, voxels // 8**level)
        for level, width in enumerate((base, base, 2 * base, 4 * base, 8 * base)):
            below = 2 * width if level else base
            yield from doubling_block(below, width, voxels // 8**level)

    def _block(self, stage: int, grid: list[int]) -> Iterator[Layer]:
        """Attention inside windows, whose last ones are padded, and an MLP."""
        dim, tokens = self.feature_size * 2**stage, math.prod(grid)
        windows = [min(edge, self.window) for edge in grid]
        inside = math.prod(
            -(-edge // window) * window for edge, window in zip(grid, windows, strict=True)
        )
        yield from (norm(dim), linear(dim, 3 * dim, inside), linear(dim, dim, inside))
        yield attention(inside, math.prod(windows), dim)
        yield Layer((2 * self.window - 1) ** 3 * self.heads[stage])  # relative positions
        yield from (norm(dim), linear(dim, 4 * dim, tokens), linear(4 * dim, dim, tokens))
