"""Linear maps whose weights are kept in half the bytes, and give the same bits."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeGuard

import torch
from torch import nn
from torch.nn import functional as F

_HALVES = (torch.bfloat16, torch.float16)


class KeptLinear(nn.Linear):
    """A frozen linear map whose weight is kept in 16 bits and widened to the input's dtype for each
    product, forward and backward.

    The 16 bits hold the weight exactly, so output and gradient are those of the wide weight, bit by
    bit; under autocast the weight is what autocast would have made of the wide one.
    """

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if torch.is_autocast_enabled(tokens.device.type) or tokens.dtype == self.weight.dtype:
            return F.linear(tokens, self.weight, self.bias)
        made: torch.Tensor = _Widened.apply(tokens, self.weight, self.bias)
        return made


class _Widened(torch.autograd.Function):
    """Nothing wide is kept for backward."""

    @staticmethod
    def forward(
        ctx: Any, tokens: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(weight)
        return F.linear(tokens, weight.to(tokens.dtype), bias)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return gradient.matmul(weight.to(gradient.dtype)), None, None


def keep_halves(block: nn.Module, left_out: Collection[str] = ()) -> tuple[nn.Parameter, ...]:
    """Keep the weights of the block's linear maps in 16 bits, in place, where these hold them
    exactly: what comes of a checkpoint in bfloat16 or float16. All others stay as they are.

    Args:
        left_out: last names of maps that stay, too.

    Returns:
        The others.
    """
    halves = set()
    for name, module in list(block.named_modules()):
        if not _is_map(module) or module.weight.dtype != torch.float32:
            continue
        if name.rpartition(".")[2] in left_out:
            continue
        half = _exactly(module.weight.data)
        if half is None or module.weight.requires_grad:
            continue
        with torch.device("meta"):
            kept = KeptLinear(module.in_features, module.out_features, module.bias is not None)
        kept.weight = nn.Parameter(half, requires_grad=False)
        halves.add(kept.weight)
        kept.bias = module.bias
        block.set_submodule(name, kept)
    return tuple(parameter for parameter in block.parameters() if parameter not in halves)


def _is_map(module: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether a module computes what `nn.Linear` does; Falcon's own class does without a bias."""
    if type(module).__name__ == "FalconLinear":
        return module.bias is None
    return type(module) is nn.Linear


def _exactly(weight: torch.Tensor) -> torch.Tensor | None:
    """The weight in the first of the short dtypes that loses nothing."""
    for dtype in _HALVES:
        half = weight.to(dtype)
        if torch.equal(half.to(weight.dtype), weight):
            return half
    return None


def widened(module: nn.Linear) -> nn.Linear:
    """The map with its weight in float32, for who adds parameters of that dtype to it."""
    if not isinstance(module, KeptLinear):
        return module
    with torch.device("meta"):
        wide = nn.Linear(module.in_features, module.out_features, module.bias is not None)
    wide.weight = nn.Parameter(module.weight.data.float(), requires_grad=False)
    wide.bias = module.bias
    return wide
