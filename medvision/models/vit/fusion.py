"""Multi-scale fusion of the paper's first version (arXiv 2410.02458v1).

That version describes it in words and has no code, so this is our reading of it, written small.
"""

from __future__ import annotations

import torch
from torch import nn

from medvision.models.sizes import Size

DILATIONS = (1, 2, 4)


class MultiScaleFusion(nn.Module):
    """Tokens and what lies around them at three distances, mixed: [B, T, C] to [B, T, C].

    Depthwise 3x3x3 convolutions with dilations 1, 2 and 4 (no pooling, whose gradient is not
    deterministic on GPUs), side by side into one linear map, with a residual around all.
    """

    def __init__(self, dim: int, grid: Size) -> None:
        super().__init__()
        self.grid = grid
        self.norm = nn.LayerNorm(dim)
        self.scales = nn.ModuleList(
            nn.Conv3d(dim, dim, 3, padding=dilation, dilation=dilation, groups=dim)
            for dilation in DILATIONS
        )
        self.activation = nn.GELU()
        self.mix = nn.Linear(len(DILATIONS) * dim, dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        volume = self.norm(tokens).transpose(1, 2).unflatten(2, self.grid)
        scales = torch.cat([scale(volume) for scale in self.scales], dim=1)
        return tokens + self.mix(self.activation(scales.flatten(2).transpose(1, 2)))
