"""Positions that models hold or compute beside their layers, switched on or off: the relative ones
of T5, DeBERTa and MPNet, and ALiBi of BLOOM and MPT.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from medvision.llm.stacks import Stack

# Parts of these models' attention that compare places and nothing else.
_OF_POSITIONS = {
    *("relative_attention_bias", "rel_embeddings"),
    *("pos_proj", "pos_q_proj", "pos_key_proj", "pos_query_proj"),
}


def position_only(name: str) -> bool:
    """Whether a block's parameter has a part in relative positions alone."""
    parts = name.split(".")
    return parts[0] == "extras" or not set(parts).isdisjoint(_OF_POSITIONS)


def extra_path(stack: Stack, name: str) -> str:
    """Path in the trunk of one of `Positions.extras`."""
    holder = stack.path.rpartition(".")[0]
    if name == "bias":
        if hasattr(stack.trunk.get_submodule(holder), "relative_attention_bias"):
            return f"{holder}.relative_attention_bias"
        first = next(
            path
            for path, module in stack.layers[0].named_modules()
            if path.endswith("relative_attention_bias")
        )
        return f"{stack.path}.0.{first}"
    return f"{holder}.{name}"


def relative(stack: Stack, layer: nn.Module, extras: nn.ModuleDict, *, on: bool) -> bool:
    """Give a layer its relative positions, or take them away; False where it has none.

    T5 holds them in its first layer alone, DeBERTa beside its layers.
    """
    found = False
    for module in layer.modules():
        if hasattr(module, "has_relative_attention_bias"):
            found = True
            if not module.has_relative_attention_bias:
                if "bias" not in extras:
                    extras["bias"] = stack.trunk.get_submodule(extra_path(stack, "bias"))
                # Not registered a second time, so that its tensors have one name.
                object.__setattr__(module, "relative_attention_bias", extras["bias"])
            module.has_relative_attention_bias = on
        elif "rel_embeddings" in forward_of(module) and hasattr(module, "relative_attention"):
            found = bool(module.relative_attention) or found
            module.relative_attention = module.relative_attention and on
    if "rel_embeddings" in forward_of(layer) and found:
        holder = stack.trunk.get_submodule(stack.path.rpartition(".")[0])
        for name in ("rel_embeddings", "LayerNorm"):
            if hasattr(holder, name):
                extras[name] = getattr(holder, name)
    return found


def relative_embeddings(extras: nn.ModuleDict) -> torch.Tensor | None:
    """DeBERTa's vectors of the distances, [2 x span, C], None without."""
    if "rel_embeddings" not in extras:
        return None
    weight = extras["rel_embeddings"].get_parameter("weight")
    if "LayerNorm" not in extras:
        return weight
    normed: torch.Tensor = extras["LayerNorm"](weight)
    return normed


def biases(holder: Any) -> frozenset[str]:
    """What a layer takes of the biases that `bias` makes, with the methods of what holds layers."""
    if hasattr(holder, "build_alibi_tensor"):
        return frozenset({"alibi"})
    if hasattr(holder, "build_mpt_alibi_tensor") or hasattr(holder, "compute_position_bias"):
        return frozenset({"position_bias"})
    return frozenset()


def bias(holder: Any, hidden: torch.Tensor, *, on: bool) -> torch.Tensor | None:
    """What a model with such a method adds to the attention between the places of `hidden`,
    [B, T, C]: ALiBi (Press et al. 2022, arXiv 2108.12409) [B x heads, 1, T] in BLOOM and [heads, 1,
    T] in MPT, a learned bias of the distance [B, heads, T, T] in MPNet. None where its layers can
    do without, and `on` is False.
    """
    batch, length, _ = hidden.shape
    if hasattr(holder, "build_alibi_tensor"):
        ones = hidden.new_ones(batch, length)
        made: torch.Tensor = holder.build_alibi_tensor(ones, holder.num_heads, hidden.dtype)
        return made if on else torch.zeros_like(made)
    if not on:
        return None
    if hasattr(holder, "build_mpt_alibi_tensor"):
        made = holder.build_mpt_alibi_tensor(holder.num_heads, length, device=hidden.device)
    else:
        made = holder.compute_position_bias(hidden)
    return made


def forward_of(module: nn.Module) -> Mapping[str, inspect.Parameter]:
    """What the forward pass of a module takes."""
    return inspect.signature(module.forward).parameters
