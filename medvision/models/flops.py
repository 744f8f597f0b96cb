"""Arithmetic of a model from its settings alone, for estimates; imports no torch.

Two operations per weight and place it is applied to, and 4 T S C for an attention of T tokens over
S of width C. Norms, activations and biases are left out; against torch's own counter the error is
below 2 % (`tests/medvision/models/test_flops.py`).
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from medvision.models import sizes
from medvision.models.compared import (
    MissFormerSettings,
    NnUNetSettings,
    SwinUNetSettings,
    TransUNetSettings,
    UNetPlusPlusSettings,
    UnetrSettings,
)
from medvision.models.matching import bridge_parameters, matched, vit_parameters
from medvision.models.settings import LlmViTSettings, ViTSettings

# Parameters of one layer of the paper's language models, used where the checkpoint is not here to
# be asked.
_PAPER_BLOCK = {"hidden_size": 4096, "parameters": 218_000_000}
_PAPER_BLOCKS = {
    "MedVision_BioBERT": {"hidden_size": 768, "parameters": 7_100_000},
    "MedVision_ClinicalBERT": {"hidden_size": 768, "parameters": 7_100_000},
    "MedVision_BioGPT": {"hidden_size": 1024, "parameters": 12_600_000},
}


def forward_flops(
    settings: Any,
    image_size: Sequence[int],
    patch_size: Sequence[int],
    *,
    out_channels: int = 1,
    block: Mapping[str, Any] | None = None,
) -> float:
    """Floating-point operations of one forward pass of one sample with one channel; training costs
    about three times that.

    Args:
        settings: of any label (`resolve_settings`).
        block: `hidden_size` and `parameters` of one language-model layer, the paper's where it is
            None.
    """
    if isinstance(settings, ViTSettings):
        return float(_vit(settings, image_size, patch_size, out_channels, block))
    return float(_NETWORKS[type(settings)](settings, image_size, out_channels))


def token_count(settings: Any, image_size: Sequence[int], patch_size: Sequence[int]) -> int | None:
    """Tokens of one sample, at the finest stage where a network has several; None for convolutional
    networks.
    """
    match settings:
        case ViTSettings():
            return math.prod(
                size // patch for size, patch in zip(image_size, patch_size, strict=True)
            )
        case UnetrSettings() | TransUNetSettings():
            return _voxels(image_size, sizes.UNETR_PATCH) // sizes.UNETR_PATCH**3
        case SwinUNetSettings():
            return _voxels(image_size, sizes.SWIN_MULTIPLE, sizes.SWIN_LEAST) // 2**3
        case MissFormerSettings():
            return _voxels(image_size, sizes.MISSFORMER_MULTIPLE) // 4**3
    return None


def _vit(
    settings: ViTSettings,
    image_size: Sequence[int],
    patch_size: Sequence[int],
    out_channels: int,
    block: Mapping[str, Any] | None,
) -> float:
    if settings.params:
        target = settings.params.match
        about = block or _PAPER_BLOCKS.get(target.label, _PAPER_BLOCK)
        total = vit_parameters(target, image_size, patch_size, 1, out_channels)
        total += bridge_parameters(target, about["hidden_size"], about["parameters"])
        # What cannot be matched is said when it is built; an estimate never fails.
        with contextlib.suppress(ValueError):
            settings = matched(
                settings,
                total,
                image_size=image_size,
                patch_size=patch_size,
                out_channels=out_channels,
            )
    tokens = token_count(settings, image_size, patch_size) or 0
    dim, voxels, depth = settings.embed_dim, math.prod(patch_size), settings.depth
    weights = depth * (4 + 2 * settings.mlp_ratio) * dim**2 + voxels * dim * (1 + out_channels)
    if settings.extra_width:
        weights += settings.extra_width**2 + 2 * dim * settings.extra_width
    elif settings.extra_mlp:
        weights += 2 * settings.mlp_ratio * dim**2
    weights += depth * (27 * dim + dim**2) if settings.attention == "hybrid" else 0
    weights += 3 * 27 * dim + 3 * dim**2 if settings.fusion else 0
    operations = 2 * tokens * weights + depth * 4 * tokens**2 * dim
    if isinstance(settings, LlmViTSettings):
        block = block or _PAPER_BLOCKS.get(settings.label, _PAPER_BLOCK)
        width, rank = block["hidden_size"], settings.lora.rank
        operations += 2 * tokens * 2 * dim * width
        if settings.mapper == "lora":
            operations += 2 * tokens * 2 * rank * (dim + width)
        if settings.llm.block == "layer":
            layers = len(settings.llm.layer) if isinstance(settings.llm.layer, list) else 1
            operations += layers * (2 * tokens * block["parameters"] + 4 * tokens**2 * width)
            operations += layers * 2 * tokens * len(settings.block_targets) * 2 * rank * width
    return operations


def _voxels(image_size: Sequence[int], multiple: int, least: int = 1) -> int:
    return math.prod(sizes.padded_size(image_size, (multiple,) * 3, least))


def _convolutions(*widths: int, edge: int = 3) -> int:
    """Operations a voxel of convolutions one after the other, through these numbers of channels."""
    return 2 * edge**3 * sum(inputs * outputs for inputs, outputs in itertools.pairwise(widths))


def _residual(inputs: int, outputs: int) -> int:
    """Operations a voxel of MONAI's residual block: two convolutions, and one of edge 1 where the
    width changes.
    """
    return _convolutions(inputs, outputs, outputs) + (
        2 * inputs * outputs if inputs != outputs else 0
    )


def _up(inputs: int, outputs: int) -> int:
    """Operations a voxel of UNETR's upsampling: doubling (each voxel made once), then a residual
    block over the skip.
    """
    return 2 * inputs * outputs + _residual(2 * outputs, outputs)


def _unet_plus_plus(
    settings: UNetPlusPlusSettings, image_size: Sequence[int], out_channels: int
) -> float:
    voxels = _voxels(image_size, sizes.UNET_PLUS_PLUS_MULTIPLE, sizes.UNET_PLUS_PLUS_LEAST)
    widths = settings.features
    total = voxels * (_convolutions(1, widths[0], widths[0]) + 2 * widths[5] * out_channels)
    for level in range(1, 5):
        total += voxels // 8**level * _convolutions(widths[level - 1], widths[level], widths[level])
    for level in range(4):
        for node in range(1, 5 - level):
            below, here = widths[level + 1], widths[level]
            raised = below // 2 if level else below
            made = widths[5] if (level, node) == (0, 4) else here
            place = 2 * below * raised + _convolutions(here * node + raised, made, made)
            total += voxels // 8**level * place
    return total


def _nnu_net(settings: NnUNetSettings, image_size: Sequence[int], out_channels: int) -> float:
    strides = sizes.nnunet_strides(image_size, len(settings.features))
    widths = settings.features[: len(strides)]
    whole = [math.prod(stride[axis] for stride in strides) for axis in range(3)]
    voxels = math.prod(sizes.padded_size(image_size, whole))
    total = voxels * 2 * widths[0] * out_channels
    for level, (stride, width) in enumerate(zip(strides, widths, strict=True)):
        above = widths[level - 1] if level else 1
        if level:
            total += voxels * (2 * width * above + _convolutions(2 * above, above, above))
        voxels //= math.prod(stride)
        total += voxels * _convolutions(above, width, width)
    return total


def _unetr(settings: UnetrSettings, image_size: Sequence[int], out_channels: int) -> float:
    voxels = _voxels(image_size, sizes.UNETR_PATCH)
    tokens, dim, base = voxels // sizes.UNETR_PATCH**3, settings.embed_dim, settings.feature_size
    layer = 2 * tokens * (4 * dim**2 + 2 * dim * settings.mlp_dim) + 4 * tokens**2 * dim
    total = 2 * voxels * dim + 12 * layer  # patch embedding, then MONAI's 12 layers
    total += voxels * (_residual(1, base) + 2 * base * out_channels)
    for layers, width in ((2, 2 * base), (1, 4 * base), (0, 8 * base)):
        total += tokens * 8 * 2 * dim * width
        total += sum(
            tokens * 8 ** (2 + step) * (2 * width**2 + _residual(width, width))
            for step in range(layers)
        )
    for step, (inputs, outputs) in enumerate(
        ((dim, 8 * base), (8 * base, 4 * base), (4 * base, 2 * base), (2 * base, base))
    ):
        total += tokens * 8 ** (step + 1) * _up(inputs, outputs)
    return total


def _swin(settings: SwinUNetSettings, image_size: Sequence[int], out_channels: int) -> float:
    padded = sizes.padded_size(image_size, (sizes.SWIN_MULTIPLE,) * 3, sizes.SWIN_LEAST)
    voxels, base = math.prod(padded), settings.feature_size
    total = 2 * voxels * base  # patches of 2^3 voxels with one channel, base weights a voxel
    for stage, depth in enumerate(settings.depths):
        grid, dim = [size // 2 ** (stage + 1) for size in padded], base * 2**stage
        windows = [min(edge, settings.window) for edge in grid]
        inside = math.prod(
            -(-edge // window) * window for edge, window in zip(grid, windows, strict=True)
        )
        attention = 2 * inside * 4 * dim**2 + 4 * inside * math.prod(windows) * dim
        total += depth * (attention + 2 * math.prod(grid) * 8 * dim**2)
        total += 2 * math.prod(grid) // 8 * 16 * dim**2  # merging of patches
    total += voxels * (_residual(1, base) + 2 * base * out_channels)
    for level, width in ((1, base), (2, 2 * base), (3, 4 * base), (5, 16 * base)):
        total += voxels // 8**level * _residual(width, width)
    for level, width in enumerate((base, base, 2 * base, 4 * base, 8 * base)):
        total += voxels // 8**level * _up(base if level == 0 else 2 * width, width)
    return total


def _trans_unet(settings: TransUNetSettings, image_size: Sequence[int], out_channels: int) -> float:
    voxels = _voxels(image_size, sizes.TRANSUNET_MULTIPLE)
    widths, dim, tokens = (1, *settings.features), settings.embed_dim, voxels // 16**3
    layer = 2 * tokens * (4 + 2 * settings.mlp_ratio) * dim**2 + 4 * tokens**2 * dim
    total = settings.depth * layer + tokens * (2 * widths[4] * dim + _convolutions(dim, widths[4]))
    half = sizes.transunet_half(settings.features[0])
    for level in range(1, 5):
        inputs, width = widths[level - 1], widths[level]
        total += voxels // 8**level * (_convolutions(inputs, width, width) + 2 * inputs * width)
        above, skip = (widths[level - 1], widths[level - 1]) if level > 1 else (half, 0)
        place = 2 * width * above + _convolutions(above + skip, above, above)
        total += voxels // 8 ** (level - 1) * place
    return total + voxels * _convolutions(half, out_channels)


def _miss_former(
    settings: MissFormerSettings, image_size: Sequence[int], out_channels: int
) -> float:
    voxels, base, ratio = (
        _voxels(image_size, sizes.MISSFORMER_MULTIPLE),
        settings.base_dim,
        settings.mlp_ratio,
    )
    widths = [base * heads for heads in settings.heads]
    places = [voxels // 4**3 // 8**stage for stage in range(4)]
    factors = [factor**3 for factor in sizes.MISSFORMER_REDUCTIONS]
    total = places[0] * 2 * 7**3 * widths[0] + voxels * (
        2 * widths[0] * (base // 2) + 2 * (base // 2) * out_channels
    )
    seen = sum(
        place // factor * heads
        for place, factor, heads in zip(places, factors, settings.heads, strict=True)
    )
    split = sum(place * heads for place, heads in zip(places, settings.heads, strict=True))
    bridge = 2 * base**2 * (2 * split + 2 * seen) + 4 * split * seen * base
    for stage, (place, width, factor) in enumerate(zip(places, widths, factors, strict=True)):
        feed = 2 * place * ratio * width * (2 * width + 27)
        merge = 2 * place * width**2 if factor > 1 else 0
        kept = place // factor
        block = (
            2 * place * 2 * width**2
            + merge
            + 2 * kept * 2 * width**2
            + 4 * place * kept * width
            + feed
        )
        total += settings.depth * block * (2 if stage < 3 else 1)  # the last stage has no decoder
        bridge += feed + merge
        if stage:
            total += place * _convolutions(widths[stage - 1], width)
            total += places[stage - 1] * (
                2 * width * widths[stage - 1] + 2 * 2 * widths[stage - 1] ** 2
            )
    return total + settings.bridge_depth * bridge


_NETWORKS: dict[type, Any] = {
    UNetPlusPlusSettings: _unet_plus_plus,
    NnUNetSettings: _nnu_net,
    UnetrSettings: _unetr,
    SwinUNetSettings: _swin,
    TransUNetSettings: _trans_unet,
    MissFormerSettings: _miss_former,
}
