"""Settings of MISSFormer; sizes default to those of its paper. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from medvision.models.arithmetic import (
    Layer,
    attention,
    convolution,
    depthwise,
    linear,
    norm,
    repeated,
)
from medvision.models.family import NetworkSettings
from medvision.models.sizes import Sizes
from medvision.settings import Since

MULTIPLE = 32  # what images are padded to multiples of
# Keys and values of a stage come from one token in so many along each axis.
REDUCTIONS = (8, 4, 2, 1)
_PATCH, _KERNEL = 4, 7  # of the first stage, which is overlapping


class MissFormerSettings(NetworkSettings):
    """A 3D adaptation of MISSFormer (Huang et al. 2021, arXiv 2109.07162), which is 2D."""

    code = "medvision.models.miss_former.network:miss_former"
    label: Literal["MissFormer"]
    base_dim: int = Field(default=64, ge=2, description="width of one head and of the bridge")
    # The ids of the first results left out such heads whatever the network, so they still do.
    heads: Annotated[
        tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt],
        Since("0.1", before=(3, 6, 12, 24)),
    ] = Field(
        default=(1, 2, 5, 8),
        description="heads of the four stages; a stage is base_dim times as wide",
    )
    depth: PositiveInt = Field(default=2, description="blocks of every stage")
    bridge_depth: PositiveInt = Field(
        default=4, description="layers of the context bridge between the scales"
    )
    mlp_ratio: float = Field(
        default=4.0, gt=0, description="hidden width of an MLP in multiples of its stage's width"
    )

    def tokens(self, sizes: Sizes) -> int:
        """Tokens of the first stage."""
        return sizes.voxels(MULTIPLE) // _PATCH**3

    def layers(self, sizes: Sizes) -> Iterator[Layer]:
        """The stages of encoder and decoder, the bridge between the scales, then the way back to
        voxels.
        """
        base, widths = self.base_dim, [self.base_dim * heads for heads in self.heads]
        places = [self.tokens(sizes) // 8**stage for stage in range(4)]
        yield convolution(sizes.in_channels, widths[0], places[0], edge=_KERNEL)
        for stage, (width, place) in enumerate(zip(widths, places, strict=True)):
            times = 2 if stage < 3 else 1  # the last stage has no decoder
            yield repeated(times * self.depth, self._block(stage, width, place))
            if stage:
                above, outside = widths[stage - 1], places[stage - 1]
                yield convolution(above, width, place)
                yield convolution(width, above, place, edge=2)
                yield linear(2 * above, above, outside)
        yield repeated(self.bridge_depth, self._bridge(widths, places))
        yield convolution(widths[0], base // 2, places[0], edge=_PATCH)
        yield linear(base // 2, sizes.out_channels, places[0] * _PATCH**3)

    def _block(self, stage: int, width: int, place: int) -> Iterator[Layer]:
        kept = place // REDUCTIONS[stage] ** 3
        yield from (norm(width), linear(width, width, place))
        yield from _reduction(stage, width, kept)
        yield from (linear(width, 2 * width, kept), attention(place, kept, width))
        yield from (linear(width, width, place), norm(width))
        yield from self._feed_forward(width, place)

    def _bridge(self, widths: list[int], places: list[int]) -> Iterator[Layer]:
        """A scale of k times the base width counts as k tokens of the base width at each place."""
        base = self.base_dim
        reduced = [place // factor**3 for place, factor in zip(places, REDUCTIONS, strict=True)]
        queries, keys = (
            sum(count * heads for count, heads in zip(counts, self.heads, strict=True))
            for counts in (places, reduced)
        )
        yield from (norm(base), linear(base, base, queries), linear(base, 2 * base, keys))
        yield from (attention(queries, keys, base), linear(base, base, queries))
        for stage, (width, place, kept) in enumerate(zip(widths, places, reduced, strict=True)):
            yield from _reduction(stage, width, kept)
            yield norm(width)
            yield from self._feed_forward(width, place)

    def _feed_forward(self, width: int, place: int) -> Iterator[Layer]:
        hidden = int(width * self.mlp_ratio)
        yield from (linear(width, hidden, place), depthwise(hidden, place), norm(hidden))
        yield linear(hidden, width, place)


def _reduction(stage: int, width: int, kept: int) -> Iterator[Layer]:
    if REDUCTIONS[stage] > 1:
        yield from (convolution(width, width, kept, edge=REDUCTIONS[stage]), norm(width))
