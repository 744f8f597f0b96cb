"""Sizes that networks choose by themselves, shared by their code and by the estimates; imports no
torch.
"""

from __future__ import annotations

from collections.abc import Sequence

UNET_PLUS_PLUS_MULTIPLE, UNET_PLUS_PLUS_LEAST = 16, 32
UNETR_PATCH = 16
SWIN_MULTIPLE, SWIN_LEAST = 32, 64
TRANSUNET_MULTIPLE = 16
MISSFORMER_MULTIPLE = 32
MISSFORMER_REDUCTIONS = (
    8,
    4,
    2,
    1,
)  # keys and values of a stage come from one token in so many along each axis
_SMALLEST_EDGE = 4


def padded_size(
    image_size: Sequence[int], multiples: Sequence[int], least: int = 1
) -> tuple[int, ...]:
    """The smallest size that holds the image, whose axes are multiples and not below `least`."""
    sizes = zip(image_size, multiples, strict=True)
    return tuple(-(-max(size, least) // multiple) * multiple for size, multiple in sizes)


def nnunet_strides(image_size: Sequence[int], levels: int) -> list[tuple[int, ...]]:
    """Strides of nnU-Net's levels: an axis is halved until its features would be shorter than 4
    voxels.

    Args:
        levels: at most so many; there are at least three, the last ones with stride 1 where the
            image is small.
    """
    edges = list(image_size)
    strides: list[tuple[int, ...]] = [(1,) * len(edges)]
    while len(strides) < levels:
        stride = tuple(2 if edge >= 2 * _SMALLEST_EDGE else 1 for edge in edges)
        if set(stride) == {1} and len(strides) >= 3:
            break
        strides.append(stride)
        edges = [-(-edge // step) for edge, step in zip(edges, stride, strict=True)]
    return strides


def transunet_half(width: int) -> int:
    """Channels of TransUNet's last decoder step: half as many as at 1/2 of the image, in whole
    groups of 8.
    """
    return max(8, width // 2 // 8 * 8)
