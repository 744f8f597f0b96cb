"""Settings of UNETR; sizes default to those of its paper. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

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

PATCH = 16  # voxels of a token along each axis
_DEPTH = 12  # MONAI's


class UnetrSettings(BottleneckSettings):
    """UNETR (Hatamizadeh et al. 2022), MONAI's, with its own patches of 16 voxels; MONAI fixes the
    depth at 12 layers.
    """

    code = "medvision.models.unetr.network:unetr"
    label: Literal["UNETR"]
    feature_size: PositiveInt = Field(
        default=16, description="channels of the first convolutional level"
    )
    embed_dim: PositiveInt = Field(default=768, description="width of a token")
    mlp_dim: PositiveInt = Field(default=3072, description="hidden width of a layer's MLP")
    heads: PositiveInt = Field(
        default=12, description="attention heads of a layer; they divide embed_dim"
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="after the attention and in the MLPs"
    )

    @model_validator(mode="after")
    def _divisible(self) -> UnetrSettings:
        if self.embed_dim % self.heads:
            raise ValueError(f"embed_dim {self.embed_dim} must be a multiple of heads {self.heads}")
        return self

    def tokens(self, sizes: Sizes) -> int:
        """Its own patches of the padded image."""
        return sizes.voxels(PATCH) // PATCH**3

    def coarsest(self, sizes: Sizes) -> tuple[int, int]:
        """Of what the transformer's last layer gives."""
        return self.embed_dim, self.tokens(sizes)

    def layers(self, sizes: Sizes) -> Iterator[Layer]:
        """The transformer, then the decoder over what its layers give, raised to its levels."""
        tokens, dim, base = self.tokens(sizes), self.embed_dim, self.feature_size
        yield linear(sizes.in_channels * PATCH**3, dim, tokens)
        yield Layer(tokens * dim)  # positions
        yield from (repeated(_DEPTH, self._block(tokens)), norm(dim))
        voxels = tokens * PATCH**3
        yield from residual_block(sizes.in_channels, base, voxels)
        yield linear(base, sizes.out_channels, voxels)
        for steps, width in ((2, 2 * base), (1, 4 * base), (0, 8 * base)):
            yield convolution(dim, width, tokens, edge=2, bias=False)
            for step in range(1, steps + 1):
                yield convolution(width, width, tokens * 8**step, edge=2, bias=False)
                yield from residual_block(width, width, tokens * 8 ** (step + 1))
        widths = (dim, 8 * base, 4 * base, 2 * base, base)
        for step in range(4):
            yield from doubling_block(widths[step], widths[step + 1], tokens * 8 ** (step + 1))

    def _block(self, tokens: int) -> Iterator[Layer]:
        dim = self.embed_dim
        yield from (norm(dim), linear(dim, 3 * dim, tokens, bias=False))
        yield from (attention(tokens, tokens, dim), linear(dim, dim, tokens))
        yield from (norm(dim), linear(dim, self.mlp_dim, tokens), linear(self.mlp_dim, dim, tokens))
