"""What stands in a block's place in two controls: a linear map, and an MLP. Both are trained."""

from __future__ import annotations

import torch
from torch import nn


class LinearStandIn(nn.Module):
    """One linear map of the block's width with as many parameters as the block: the product of two
    matrices, `width` to `inner` and back, with nothing between them, [B, T, C] to [B, T, C].
    """

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, inner, bias=False)
        self.second = nn.Linear(inner, width, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(tokens))


class MlpStandIn(LinearStandIn):
    """An MLP with one inner layer and as many operations as the block, [B, T, C] to [B, T, C]."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.second(nn.functional.gelu(self.first(tokens)))
