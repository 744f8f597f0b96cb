"""MISSFormer in 3D: a hierarchical transformer without convolutional stages, with a bridge between
its scales.

Adapted from Huang et al. 2021 (arXiv 2109.07162), which is 2D: 3D patch merging and depthwise
convolutions, and the enhanced Mix-FFN without its recursive skips. A token of the first stage
stands for 4 voxels along each axis.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from medvision.models.layers.padded import Padded
from medvision.models.miss_former.settings import MULTIPLE, REDUCTIONS, MissFormerSettings
from medvision.models.sizes import Sizes


def miss_former(settings: MissFormerSettings, sizes: Sizes) -> nn.Module:
    """MISSFormer in 3D on images padded to multiples of 32; it has patches of its own, whatever
    `patch_size` says.
    """
    network = MissFormer(settings, sizes)
    kinds = ("encoder", "bridge", "decoder")
    return Padded(
        network,
        image_size=sizes.image,
        multiples=(MULTIPLE,) * 3,
        least=1,
        head="head",
        checkpointed=[
            f"{kind}.{index}" for kind in kinds for index in range(len(getattr(network, kind)))
        ],
    )


def to_tokens(volume: torch.Tensor) -> torch.Tensor:
    """[B, C, X, Y, Z] to [B, X Y Z, C]."""
    return volume.flatten(2).transpose(1, 2)


def attend(query: torch.Tensor, key_value: torch.Tensor, heads: int) -> torch.Tensor:
    """Multi-head attention of queries [B, T, C] over keys and values [B, S, 2 C], [B, T, C]."""
    query = query.unflatten(2, (heads, -1)).transpose(1, 2)
    key, value = key_value.unflatten(2, (2, heads, -1)).permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


class MixFfn(nn.Module):
    """The enhanced Mix-FFN: linear, depthwise 3x3x3 convolution with a skip and a norm, GELU,
    linear.
    """

    def __init__(self, dim: int, ratio: float) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        self.widen = nn.Linear(dim, hidden)
        self.neighbours = nn.Conv3d(hidden, hidden, 3, padding=1, groups=hidden)
        self.norm = nn.LayerNorm(hidden)
        self.narrow = nn.Linear(hidden, dim)

    def forward(self, tokens: torch.Tensor, grid: torch.Size) -> torch.Tensor:
        hidden = self.widen(tokens)
        mixed = to_tokens(self.neighbours(hidden.transpose(1, 2).unflatten(2, grid)))
        return self.narrow(F.gelu(self.norm(mixed + hidden)))


class Reduction(nn.Module):
    """Keys and values from one token in `factor` along each axis."""

    def __init__(self, dim: int, factor: int) -> None:
        super().__init__()
        self.merge = nn.Conv3d(dim, dim, factor, stride=factor) if factor > 1 else None
        self.norm = nn.LayerNorm(dim) if factor > 1 else nn.Identity()

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        return self.norm(to_tokens(volume if self.merge is None else self.merge(volume)))


class EnhancedBlock(nn.Module):
    """Pre-norm block of efficient self-attention and Mix-FFN, on volumes [B, C, X, Y, Z]."""

    def __init__(self, dim: int, heads: int, reduction: int, ratio: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.reduction = Reduction(dim, reduction)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.projection = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.ffn = MixFfn(dim, ratio)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        grid = volume.shape[2:]
        tokens = to_tokens(volume)
        normed = self.norm1(tokens)
        context = self.reduction(normed.transpose(1, 2).unflatten(2, grid))
        mixed = attend(self.query(normed), self.key_value(context), self.heads)
        tokens = tokens + self.projection(mixed)
        tokens = tokens + self.ffn(self.norm2(tokens), grid)
        return tokens.transpose(1, 2).unflatten(2, grid)


class BridgeLayer(nn.Module):
    """The enhanced context bridge: every scale's tokens attend to all scales', then each scale's
    own Mix-FFN.

    A scale of k times the base width counts as k tokens of the base width at each place.
    """

    def __init__(self, base: int, multiples: tuple[int, ...], ratio: float) -> None:
        super().__init__()
        self.base = base
        self.norm = nn.LayerNorm(base)
        self.query = nn.Linear(base, base)
        self.reductions = nn.ModuleList(
            Reduction(base * k, factor) for k, factor in zip(multiples, REDUCTIONS, strict=True)
        )
        self.key_value = nn.Linear(base, 2 * base)
        self.projection = nn.Linear(base, base)
        self.norms = nn.ModuleList(nn.LayerNorm(base * k) for k in multiples)
        self.ffns = nn.ModuleList(MixFfn(base * k, ratio) for k in multiples)

    def forward(self, scales: list[torch.Tensor]) -> list[torch.Tensor]:
        split = [to_tokens(scale).unflatten(2, (-1, self.base)).flatten(1, 2) for scale in scales]
        reduced = [
            reduction(scale) for reduction, scale in zip(self.reductions, scales, strict=True)
        ]
        context = torch.cat(
            [tokens.unflatten(2, (-1, self.base)).flatten(1, 2) for tokens in reduced], dim=1
        )
        tokens = torch.cat(split, dim=1)
        mixed = attend(self.query(self.norm(tokens)), self.key_value(self.norm(context)), heads=1)
        tokens = tokens + self.projection(mixed)
        parts = tokens.split([part.shape[1] for part in split], dim=1)
        return [
            self._feed(index, part.reshape(scale.shape[0], -1, scale.shape[1]), scale.shape[2:])
            for index, (part, scale) in enumerate(zip(parts, scales, strict=True))
        ]

    def _feed(self, index: int, tokens: torch.Tensor, grid: torch.Size) -> torch.Tensor:
        tokens = tokens + self.ffns[index](self.norms[index](tokens), grid)
        return tokens.transpose(1, 2).unflatten(2, grid)


class MissFormer(nn.Module):
    """The network, for axes that are multiples of 32: images [B, C, X, Y, Z] to logits [B,
    out_channels, X, Y, Z].
    """

    def __init__(self, settings: MissFormerSettings, sizes: Sizes) -> None:
        super().__init__()
        base, multiples, ratio = settings.base_dim, settings.heads, settings.mlp_ratio
        widths = [base * k for k in multiples]

        def blocks(stage: int) -> list[nn.Module]:
            reduction = REDUCTIONS[stage]
            return [
                EnhancedBlock(widths[stage], multiples[stage], reduction, ratio)
                for _ in range(settings.depth)
            ]

        merges = [nn.Conv3d(sizes.in_channels, widths[0], 7, stride=4, padding=3)]
        merges += [
            nn.Conv3d(widths[stage - 1], widths[stage], 3, stride=2, padding=1)
            for stage in (1, 2, 3)
        ]
        self.encoder = nn.ModuleList(
            nn.Sequential(merges[stage], *blocks(stage)) for stage in range(4)
        )
        self.bridge = nn.ModuleList(
            BridgeLayer(base, multiples, ratio) for _ in range(settings.bridge_depth)
        )
        self.expand = nn.ModuleList(
            nn.ConvTranspose3d(widths[stage + 1], widths[stage], 2, stride=2) for stage in range(3)
        )
        self.join = nn.ModuleList(
            nn.Conv3d(2 * widths[stage], widths[stage], 1) for stage in range(3)
        )
        self.decoder = nn.ModuleList(nn.Sequential(*blocks(stage)) for stage in range(3))
        self.to_voxels = nn.ConvTranspose3d(widths[0], base // 2, 4, stride=4)
        self.head = nn.Conv3d(base // 2, sizes.out_channels, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scales: list[torch.Tensor] = []
        for stage in self.encoder:
            scales.append(stage(scales[-1] if scales else image))
        for layer in self.bridge:
            scales = layer(scales)
        hidden = scales[3]
        for stage in (2, 1, 0):
            hidden = self.join[stage](torch.cat([self.expand[stage](hidden), scales[stage]], dim=1))
            hidden = self.decoder[stage](hidden)
        return self.head(self.to_voxels(hidden))
