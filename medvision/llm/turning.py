"""Rotary embeddings that turn nothing are left out: a cosine of 1 and a sine of 0 for all places.

Multiplied by 1, and with 0 times others added, queries and keys would be the same, bit by bit.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch


def leave_unturned(module: Any) -> bool:
    """Let a module of transformers give queries and keys back as they are where it is told to turn
    them by `nothing_turned`.

    Returns:
        Whether it turns queries and keys by cosines and sines, and in that one way alone: DeepSeek
        v3 has another that also changes the order of their values.
    """
    turn = getattr(module, "apply_rotary_pos_emb", None)
    if turn is None or hasattr(module, "apply_rotary_pos_emb_interleave"):
        return False
    if list(inspect.signature(turn).parameters)[:4] != ["q", "k", "cos", "sin"]:
        return False
    if hasattr(turn, "__wrapped__"):
        return True

    @functools.wraps(turn)
    def turned(query: Any, key: Any, cosines: Any, sines: Any, *more: Any, **named: Any) -> Any:
        if cosines.shape[-1] == 1:
            return query, key
        return turn(query, key, cosines, sines, *more, **named)

    module.apply_rotary_pos_emb = turned
    return True


def nothing_turned(hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The one cosine and the one sine, [1, 1, 1], of tokens that all stand at position 0."""
    return hidden.new_ones(1, 1, 1), hidden.new_zeros(1, 1, 1)
