"""The layers that networks are made of, as numbers: what families count themselves with. Imports no
torch.

Two operations per weight and place it is applied to, and 4 T S C for an attention of T tokens over
S of width C. Norms, activations and biases count as parameters and not as operations; against
torch's own counter the error is below 2 % (`tests/medvision/models/test_flops.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Layer(NamedTuple):
    """Part of a network: its parameters, and the operations of one forward pass of one sample."""

    parameters: int
    operations: float = 0.0


def repeated(count: int, layers: Iterable[Layer]) -> Layer:
    """The same layers, so many times."""
    together = list(layers)
    return Layer(
        count * sum(layer.parameters for layer in together),
        count * sum(layer.operations for layer in together),
    )


def convolution(
    inputs: int, outputs: int, places: int, *, edge: int = 3, bias: bool = True
) -> Layer:
    """A convolution with a cubic kernel, or a transposed one.

    Args:
        places: how often the kernel is applied: output voxels, or input voxels of a transposed
            convolution.
    """
    weights = edge**3 * inputs * outputs
    return Layer(weights + outputs * bias, 2 * weights * places)


def depthwise(width: int, places: int) -> Layer:
    """A 3x3x3 convolution of every channel for itself."""
    return Layer(28 * width, 2 * 27 * width * places)


def linear(inputs: int, outputs: int, places: int, *, bias: bool = True) -> Layer:
    """A linear layer, applied to so many tokens or voxels."""
    return convolution(inputs, outputs, places, edge=1, bias=bias)


def norm(width: int) -> Layer:
    """The scale and the shift of a norm."""
    return Layer(2 * width)


def attention(queries: int, keys: int, width: int) -> Layer:
    """Scores and mixed values of all heads together, without the projections around them."""
    return Layer(0, 4 * queries * keys * width)


def mlp(dim: int, ratio: float, tokens: int) -> Layer:
    """A transformer's MLP, whose hidden width is `ratio` times `dim`."""
    hidden = int(dim * ratio)
    return Layer(2 * dim * hidden + hidden + dim, 4 * tokens * dim**2 * ratio)


def transformer_block(
    dim: int, mlp_ratio: float, tokens: int, *, local: bool = False
) -> Iterator[Layer]:
    """What `medvision.models.layers.transformer.Block` is made of.

    Args:
        local: with a local branch beside the attention.
    """
    yield from (norm(dim), norm(dim))
    yield from (linear(dim, 3 * dim, tokens), linear(dim, dim, tokens))
    yield attention(tokens, tokens, dim)
    yield mlp(dim, mlp_ratio, tokens)
    if local:
        yield from (depthwise(dim, tokens), linear(dim, dim, tokens))


def residual_block(inputs: int, outputs: int, voxels: int) -> Iterator[Layer]:
    """MONAI's UnetResBlock: two convolutions, and one of edge 1 where the width changes."""
    yield convolution(inputs, outputs, voxels, bias=False)
    yield convolution(outputs, outputs, voxels, bias=False)
    if inputs != outputs:
        yield linear(inputs, outputs, voxels, bias=False)


def doubling_block(inputs: int, outputs: int, voxels: int) -> Iterator[Layer]:
    """MONAI's UnetrUpBlock: doubles each axis, then a residual block over it and the skip.

    Args:
        voxels: after the doubling.
    """
    yield convolution(inputs, outputs, voxels // 8, edge=2, bias=False)
    yield from residual_block(2 * outputs, outputs, voxels)
