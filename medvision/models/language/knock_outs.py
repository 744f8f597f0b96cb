"""Knocks out the language-model block of a trained network, to see whether the network uses it.

Nothing is trained and no weight changes: while a block is knocked out, what it gives is replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import nn

from medvision.models.language.bridge import LanguageBridge

KnockOut = Literal["none", "identity", "permuted", "mean", "swapped"]
KNOCK_OUTS: tuple[KnockOut, ...] = get_args(KnockOut)


def bridges(model: nn.Module) -> dict[str, LanguageBridge]:
    """The bridges of a network by their names in it; empty where it has no block."""
    return {name: part for name, part in model.named_modules() if isinstance(part, LanguageBridge)}


@contextmanager
def knocked_out(
    model: nn.Module, how: KnockOut, *, seed: int = 0, other: nn.Module | None = None
) -> Iterator[None]:
    """Inside, the model runs without its block; afterwards it is as it was.

    Args:
        how: what stands for the block's output [B, T, C]. none: itself, which shows what the
            machine alone changes; identity: the block's input; permuted: the same tokens in
            another order, one for all images; mean: at every token the mean over the image's
            tokens; swapped: the whole bridge, mappers and block, is that of `other`.
        seed: decides the order of `permuted`.
        other: for `swapped`, the same network from another training.

    Raises:
        ValueError: the model has no block, or `swapped` has no other.
    """
    own = bridges(model)
    if not own:
        raise ValueError("the model has no language-model block that could be knocked out")
    if how == "swapped":
        if other is None or bridges(other).keys() != own.keys():
            raise ValueError("swapped needs `other`, the same network from another training")
        for name, bridge in bridges(other).items():
            model.set_submodule(name, bridge)
        try:
            yield
        finally:
            for name, bridge in own.items():
                model.set_submodule(name, bridge)
        return
    instead = _INSTEAD[how]
    handles = [
        bridge.block.register_forward_hook(
            lambda _, inputs, output: instead(inputs[0], output, seed)
        )
        for bridge in own.values()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _permuted(tokens: torch.Tensor, output: torch.Tensor, seed: int) -> torch.Tensor:
    order = torch.randperm(output.shape[1], generator=torch.Generator().manual_seed(seed))
    return output[:, order.to(output.device)]


def _mean(tokens: torch.Tensor, output: torch.Tensor, seed: int) -> torch.Tensor:
    return output.mean(dim=1, keepdim=True).expand_as(output)


_INSTEAD: dict[str, Callable[[torch.Tensor, torch.Tensor, int], Any]] = {
    "none": lambda tokens, output, seed: output,
    "identity": lambda tokens, output, seed: tokens,
    "permuted": _permuted,
    "mean": _mean,
}
