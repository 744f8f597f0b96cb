"""Settings of TransUNet; sizes default to those of its paper. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from medvision.models.arithmetic import (
    Layer,
    convolution,
    linear,
    norm,
    repeated,
    transformer_block,
)
from medvision.models.family import NetworkSettings
from medvision.models.sizes import Sizes

MULTIPLE = 16  # voxels of a token, and what images are padded to multiples of


class TransUNetSettings(NetworkSettings):
    """A 3D adaptation of TransUNet (Chen et al. 2021, arXiv 2102.04306), which is 2D."""

    code = "medvision.models.trans_unet.network:trans_unet"
    label: Literal["TransUNet"]
    features: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = Field(
        default=(32, 64, 128, 256),
        description="channels at 1/2, 1/4, 1/8 and 1/16 of the image, multiples of 8",
    )
    embed_dim: PositiveInt = Field(default=768, description="width of a token")
    depth: PositiveInt = Field(default=12, description="transformer blocks")
    heads: PositiveInt = Field(
        default=12, description="attention heads of a block; they divide embed_dim"
    )
    mlp_ratio: float = Field(
        default=4.0, gt=0, description="hidden width of a block's MLP in multiples of embed_dim"
    )
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="after the attention and in the MLPs"
    )

    @model_validator(mode="after")
    def _divisible(self) -> TransUNetSettings:
        if self.embed_dim % self.heads:
            raise ValueError(f"embed_dim {self.embed_dim} must be a multiple of heads {self.heads}")
        if any(feature % 8 for feature in self.features):
            raise ValueError(
                f"features {list(self.features)} must be multiples of 8, the groups of its norms"
            )
        return self

    @property
    def half(self) -> int:
        """Channels of the last decoder step: half as many as at 1/2 of the image, in whole groups
        of 8.
        """
        return max(8, self.features[0] // 2 // 8 * 8)

    def tokens(self, sizes: Sizes) -> int:
        """Places of the encoder's last level."""
        return sizes.voxels(MULTIPLE) // MULTIPLE**3

    def layers(self, sizes: Sizes) -> Iterator[Layer]:
        """The transformer at the bottom, then each level's encoder and decoder."""
        voxels, tokens, dim = sizes.voxels(MULTIPLE), self.tokens(sizes), self.embed_dim
        yield from (linear(self.features[3], dim, tokens), Layer(tokens * dim))  # positions
        yield repeated(self.depth, transformer_block(dim, self.mlp_ratio, tokens))
        yield from (norm(dim), *_conv_norm(dim, self.features[3], tokens))
        above = sizes.in_channels
        for level, width in enumerate(self.features):
            outside, inside = voxels // 8**level, voxels // 8 ** (level + 1)
            yield from _conv_norm(above, width, inside)
            yield from _conv_norm(width, width, inside)
            yield linear(above, width, inside, bias=False)
            made, skip = (above, above) if level else (self.half, 0)
            yield convolution(width, made, inside, edge=2)
            yield from _conv_norm(made + skip, made, outside)
            yield from _conv_norm(made, made, outside)
            above = width
        yield convolution(self.half, sizes.out_channels, voxels)


def _conv_norm(inputs: int, outputs: int, voxels: int) -> Iterator[Layer]:
    yield from (convolution(inputs, outputs, voxels, bias=False), norm(outputs))
