"""TransUNet in 3D: a convolutional encoder, a transformer at the bottom, a decoder with skips.

Adapted from Chen et al. 2021 (arXiv 2102.04306), which is 2D and starts from ImageNet weights: 3D
convolutions, fewer channels, no pre-training, and a residual encoder with group norms in place of
the ResNet-50.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from medvision.models.layers.dropout import Dropout
from medvision.models.layers.padded import Padded
from medvision.models.layers.transformer import Block
from medvision.models.sizes import Sizes
from medvision.models.trans_unet.settings import MULTIPLE, TransUNetSettings

GROUPS = 8


def trans_unet(settings: TransUNetSettings, sizes: Sizes) -> nn.Module:
    """TransUNet in 3D on images padded to multiples of 16; a token stands for 16 voxels along each
    axis, as in the paper.
    """
    network = TransUNet(settings, sizes)
    names = [
        f"{kind}.{index}"
        for kind in ("encoder", "blocks", "decoder")
        for index in range(len(getattr(network, kind)))
    ]
    return Padded(
        network,
        image_size=sizes.image,
        multiples=(MULTIPLE,) * 3,
        least=1,
        head="head",
        checkpointed=names,
    )


class ConvNorm(nn.Sequential):
    """Convolution of edge 3, group norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.GroupNorm(GROUPS, outputs),
            nn.ReLU(inplace=True),
        )


class Down(nn.Module):
    """Halves each axis: two convolutions with a residual around them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            ConvNorm(inputs, outputs, stride=2), ConvNorm(outputs, outputs)
        )
        self.shortcut = nn.Conv3d(inputs, outputs, 1, stride=2, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.convolutions(features) + self.shortcut(features)


class Up(nn.Module):
    """Doubles each axis by a transposed convolution, then two convolutions over it and the
    encoder's skip.
    """

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose3d(inputs, outputs, 2, stride=2)
        self.convolutions = nn.Sequential(
            ConvNorm(outputs + skip, outputs), ConvNorm(outputs, outputs)
        )

    def forward(self, features: torch.Tensor, skip: torch.Tensor | None) -> torch.Tensor:
        features = self.upsample(features)
        return self.convolutions(features if skip is None else torch.cat([features, skip], dim=1))


class TransUNet(nn.Module):
    """The network, for axes that are multiples of 16: images [B, C, X, Y, Z] to logits [B,
    out_channels, X, Y, Z].
    """

    def __init__(self, settings: TransUNetSettings, sizes: Sizes) -> None:
        super().__init__()
        features, dim = settings.features, settings.embed_dim
        self.grid = tuple(size // MULTIPLE for size in sizes.padded(MULTIPLE))
        widths = (sizes.in_channels, *features)
        self.encoder = nn.ModuleList(Down(widths[level], widths[level + 1]) for level in range(4))
        self.embedding = nn.Conv3d(features[3], dim, 1)
        self.positions = nn.Parameter(torch.zeros(1, math.prod(self.grid), dim))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.dropout = Dropout(settings.dropout)
        self.blocks = nn.ModuleList(
            Block(dim, settings.heads, settings.mlp_ratio, settings.dropout)
            for _ in range(settings.depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.bottom = ConvNorm(dim, features[3])
        self.decoder = nn.ModuleList(
            Up(inputs, skip, outputs)
            for inputs, skip, outputs in (
                (features[3], features[2], features[2]),
                (features[2], features[1], features[1]),
                (features[1], features[0], features[0]),
                (features[0], 0, settings.half),
            )
        )
        self.head = nn.Conv3d(settings.half, sizes.out_channels, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        skips = []
        hidden = image
        for down in self.encoder:
            hidden = down(hidden)
            skips.append(hidden)
        tokens = self.embedding(hidden).flatten(2).transpose(1, 2)
        tokens = self.dropout(tokens + self.positions)
        for block in self.blocks:
            tokens = block(tokens)
        hidden = self.bottom(self.norm(tokens).transpose(1, 2).unflatten(2, self.grid))
        for up, skip in zip(self.decoder, (*reversed(skips[:-1]), None), strict=True):
            hidden = up(hidden, skip)
        return self.head(hidden)
