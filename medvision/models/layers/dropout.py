"""Dropout that is cheap on a CPU, where torch's own draws one Bernoulli number an element (a
quarter of a ViT's step).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Dropout(nn.Module):
    """Zeroes each element with probability `p` and scales the others by 1 / (1 - p) while training.

    On a CPU each 64-bit random number serves four elements, so p is exact to 1 / 65,536; elsewhere
    torch's own dropout.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return tensor
        if tensor.device.type != "cpu":
            return F.dropout(tensor, self.p)
        bits = torch.empty((tensor.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        draws = bits.view(torch.int16)[: tensor.numel()].view(tensor.shape)
        keep = draws >= round(self.p * 65536) - 32768
        return tensor * (keep.to(tensor.dtype) * (1 / (1 - self.p)))

    def extra_repr(self) -> str:
        return f"p={self.p}"
