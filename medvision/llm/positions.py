"""What a layer of transformers takes beside the tokens: positions, and the mask of its model."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

import torch
from torch import nn

from medvision.llm.errors import BlockError
from medvision.llm.proven import PROVEN_LAYERS
from medvision.llm.relative import (
    bias,
    biases,
    extra_path,
    forward_of,
    relative,
    relative_embeddings,
)
from medvision.llm.stacks import Stack
from medvision.llm.turning import leave_unturned, nothing_turned

# Layers can take these and more; without a cache, and called in evaluation, none is needed.
_UNUSED = {
    "attention_mask",
    "position_ids",
    "past_key_values",
    "past_key_value",
    "layer_past",
    "use_cache",
    "output_attentions",
    "output_router_logits",
    "cache_position",
    "encoder_hidden_states",
    "encoder_attention_mask",
    "encoder_decoder_position_bias",
    "query_states",
}
_REASONS = {
    "alibi": "ALiBi, a bias of the attention that its model computes",
    "position_bias": "a bias of the attention that its model computes",
    "per_layer_input": "an embedding of the words for each layer",
    "cross_attention_states": "the states of an image encoder",
    "cu_seqlens": "the lengths of packed images",
    "interpolate_pos_encoding": "the image's size, for biases of the places in it",
    "cache_params": "the state of a recurrence",
}


class Positions:
    """The arguments of each layer's forward pass.

    Attributes:
        extras: small modules outside the layers that hold their relative positions.
    """

    def __init__(
        self,
        stack: Stack,
        layers: Sequence[int],
        taken: Iterable[nn.Module],
        *,
        rope: bool,
        causal: bool,
    ) -> None:
        """As of `NativeBlock`, for its layers `taken`, which are switched to these settings.

        Raises:
            BlockError: a layer takes something that only its whole model has, or has no positions
                that `rope` could switch on.
        """
        self.config = stack.trunk.config
        self.rope, self.causal = rope, causal
        taken = list(taken)
        self._takes = [_parameters(layer) for layer in taken]
        rotary = _rotary(stack)
        self._typed = rotary is not None and "layer_type" in forward_of(rotary)
        self._three = "mrope_section" in (getattr(self.config, "rope_parameters", None) or {})
        self._kinds = [_kind(self.config, index) for index in layers]
        self._holder: Any = copy.copy(stack.trunk.get_submodule(stack.path.rpartition(".")[0]))
        self._holder._modules = {}  # its methods alone are called
        self._biases = biases(self._holder)
        for layer, takes in zip(taken, self._takes, strict=True):
            _check(stack, layer, takes.keys() - self._biases, rotary is not None)
        self.extras = nn.ModuleDict()
        if hasattr(self._holder, "compute_position_bias"):  # with weights of its own
            self.extras["bias"] = stack.trunk.get_submodule(extra_path(stack, "bias"))
            object.__setattr__(self._holder, "relative_attention_bias", self.extras["bias"])
        placed = [relative(stack, layer, self.extras, on=rope) for layer in taken]
        # Rotary embeddings that a layer computes by itself, from its tokens' positions.
        inside = [
            _rotary_inside(takes, layer) for takes, layer in zip(self._takes, taken, strict=True)
        ]
        used = rotary is not None and any("position_embeddings" in takes for takes in self._takes)
        if rope and not (used or any(placed) or any(inside) or self._biases):
            raise BlockError(
                f"rope=True: {stack.family} has no positions inside its layers; leave rope at False"
            )
        self._rotary = _real(rotary, self.config) if used else None
        self._still: set[str | None] = set()  # kinds of layers in which nothing is turned
        if not rope and stack.family in PROVEN_LAYERS and _left_unturned(taken):
            self._still = {kind for kind in self._kinds if self._turns_nothing(kind)}
        self._two_ways = not any(
            getattr(module, "is_causal", False) for layer in taken for module in layer.modules()
        )
        for layer in taken:
            for module in layer.modules():
                if hasattr(module, "is_causal"):
                    module.is_causal = causal

    def given(self, hidden: torch.Tensor, extras: nn.ModuleDict) -> list[dict[str, Any]]:
        """For each layer, what it gets beside `hidden`, [B, T, C]."""
        length = hidden.shape[1]
        at = torch.arange(length, device=hidden.device)[None]
        if not self.rope:
            at = torch.zeros_like(at)
        options: list[dict[str, Any]] = []
        for takes, kind in zip(self._takes, self._kinds, strict=True):
            one: dict[str, Any] = {"attention_mask": self._mask(hidden, kind)}
            if "rel_embeddings" in takes:
                batch = hidden.shape[0]
                one["attention_mask"] = (
                    hidden.new_ones(batch, 1, length, length)
                    .bool()
                    .tril(0 if self.causal else length)
                )
                one["rel_embeddings"] = relative_embeddings(extras)
                one["relative_pos"] = self._holder.get_rel_pos(hidden) if self.rope else None
            if self._rotary is not None and "position_embeddings" in takes:
                one["position_embeddings"] = self._embedded(hidden, at, kind)
            for name in self._biases:
                one[name] = bias(self._holder, hidden, on=self.rope)
            if "position_ids" in takes:
                one["position_ids"] = at
            for name, parameter in takes.items():
                if parameter.default is parameter.empty and name not in one:
                    one[name] = None
            options.append(one)
        return options

    def _embedded(self, hidden: torch.Tensor, at: torch.Tensor, kind: str | None) -> Any:
        assert self._rotary is not None  # noqa: S101
        if kind in self._still:
            return nothing_turned(hidden)
        at = at if self.rope else at[:, :1]  # one position serves every token
        if self._three:
            at = at.expand(3, hidden.shape[0], -1)
        return self._rotary(hidden, at, kind) if self._typed else self._rotary(hidden, at)

    def _turns_nothing(self, kind: str | None) -> bool:
        """Whether position 0 has the cosine 1 and the sine 0, without a scale beside them."""
        if self._rotary is None:
            return False
        with torch.device("cpu"):
            made = self._embedded(torch.zeros(1, 1, 1), torch.zeros(1, 1, dtype=torch.long), kind)
        if not isinstance(made, tuple):
            return False  # complex numbers
        cosines, sines = made
        return bool((cosines == 1).all() and (sines == 0).all())

    def _mask(self, hidden: torch.Tensor, kind: str | None) -> torch.Tensor | None:
        """The mask that the model makes for such a layer; None where every token sees every other,
        or the attention's own causal switch is enough.
        """
        from transformers import masking_utils

        make: Callable[..., torch.Tensor | None]
        more: dict[str, Any] = {}
        if self.causal:
            more["past_key_values"] = None
            make = {
                "sliding_attention": masking_utils.create_sliding_window_causal_mask,
                "chunked_attention": masking_utils.create_chunked_causal_mask,
            }.get(str(kind), masking_utils.create_causal_mask)
        elif self._two_ways and kind == "sliding_attention":
            make = masking_utils.create_bidirectional_sliding_window_mask
        else:
            return None
        mask = make(config=self.config, inputs_embeds=hidden, attention_mask=None, **more)
        if mask is not None and hasattr(self._holder, "build_mpt_alibi_tensor"):
            return mask.to(torch.bool)  # MPT's layers ask for what is not seen
        return mask


def _rotary(stack: Stack) -> nn.Module | None:
    for path, module in stack.trunk.named_modules():
        if type(module).__name__.endswith("RotaryEmbedding") and not path.startswith(
            f"{stack.path}."
        ):
            return module
    return None


def _real(rotary: nn.Module, config: Any) -> nn.Module:
    """The same with its few constants, which were never computed on the meta device."""
    with torch.device("cpu"):
        made: nn.Module = type(rotary)(config=config)
    return made


def _left_unturned(layers: Iterable[nn.Module]) -> bool:
    """Whether the layers' queries and keys can be left as they are (`leave_unturned`)."""
    names = {type(module).__module__ for layer in layers for module in layer.modules()}
    turning = [
        sys.modules[name] for name in names if hasattr(sys.modules[name], "apply_rotary_pos_emb")
    ]
    return bool(turning) and all(leave_unturned(module) for module in turning)


def _kind(config: Any, index: int) -> str | None:
    """How far a layer sees in its model: full_attention, sliding_attention, chunked_attention."""
    if types := getattr(config, "layer_types", None):
        return str(types[index])
    window = getattr(config, "sliding_window", None)
    if window is not None and getattr(config, "use_sliding_window", True):
        return "sliding_attention"
    return None


def _rotary_inside(takes: Mapping[str, inspect.Parameter], layer: nn.Module) -> bool:
    return "position_ids" in takes and any(
        hasattr(module, "embed_positions") or hasattr(module, "rotary_dim")
        for module in layer.modules()
    )


def _check(stack: Stack, layer: nn.Module, takes: Set[str], rotary: bool) -> None:
    """Refuse layers that cannot be called without the rest of their model."""
    config = stack.trunk.config
    known = _UNUSED | ({"position_embeddings"} if rotary else set())
    if any(hasattr(module, "has_relative_attention_bias") for module in layer.modules()):
        known = known | {"position_bias"}
    if "rel_embeddings" in takes:
        known = known | {"rel_embeddings", "relative_pos"}
    if "alibi" in takes and not getattr(config, "alibi", True):
        known = known | {"alibi"}
    # Also what is optional: where the whole model gives it, the numbers would be others without.
    needed = takes - known
    if needed:
        name = sorted(needed)[0]
        what = _REASONS.get(name, "which only its whole model computes")
        raise BlockError(
            f"a layer of {stack.family} cannot stand alone: it takes {name!r} ({what}); "
            "take another family (python -m medvision.models --families)"
        )


def _parameters(layer: nn.Module) -> dict[str, inspect.Parameter]:
    """What the forward pass of a layer takes beside the tokens."""
    named = list(forward_of(layer).values())[1:]
    return {one.name: one for one in named if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)}
