"""Blocks of the families with a row of their own: one or a few of transformers' layers with one
checkpoint's weights.

Attention runs through `scaled_dot_product_attention`, but for families whose row says `eager`:
there it is transformers' eager attention.
"""

from __future__ import annotations

import hashlib
import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from medvision.llm.errors import BlockError
from medvision.llm.families import Family
from medvision.llm.frozen import FrozenBlock
from medvision.llm.turning import leave_unturned, nothing_turned

_LEGACY_ROPE = ("rope_theta", "rope_scaling")
# These kinds of rotary embedding ignore the longest position, and formats differ in whether they
# state it.
_UNBOUNDED_ROPE, _ANY_LENGTH = ("default", "linear", "llama3"), 131072
_INITIAL_SPREAD = 0.02  # standard deviation of the linear maps in every family here


def resolve_config(
    family: Family, raw: Mapping[str, Any], layers: Sequence[int], where: str
) -> dict[str, Any]:
    """The settings that decide these layers' numbers, with transformers' defaults, as JSON values.

    Equal for equal layers in whatever format, and what `RowBlock` is built from.

    Raises:
        BlockError: transformers refuses the configuration.
    """
    wanted = {
        key: raw[key] for key in (*family.fields, *_LEGACY_ROPE, "num_hidden_layers") if key in raw
    }
    full = _config(family, wanted, where)
    config = {name: getattr(full, name) for name in family.fields if hasattr(full, name)}
    if types := config.get("layer_types"):
        if len(types) != full.num_hidden_layers:
            raise BlockError(
                f"{where}: {len(types)} layer_types for {full.num_hidden_layers} layers"
            )
        config["layer_types"] = [types[index] for index in layers]
    if config.get("rope_parameters", {}).get("rope_type") in _UNBOUNDED_ROPE:
        config["max_position_embeddings"] = _ANY_LENGTH
    config["num_hidden_layers"] = len(layers)
    return config


def _config(family: Family, values: Mapping[str, Any], where: str) -> Any:
    module = importlib.import_module(
        f"transformers.models.{family.name}.configuration_{family.name}"
    )
    try:
        config = getattr(module, f"{family.title}Config")(**values)
    except (
        Exception
    ) as error:  # validation raises several kinds, all of them a wrong value in the file
        raise BlockError(f"{where}: transformers refuses its configuration: {error}") from error
    config._attn_implementation = "eager" if family.eager else "sdpa"
    return config


class RowBlock(FrozenBlock):
    """The layers of a family that has a row in `medvision.llm.families`.

    It holds no buffers, so DistributedDataParallel has nothing to broadcast at each step.
    """

    in_halves = True

    def __init__(
        self,
        family: Family,
        config: Mapping[str, Any],
        layers: Sequence[int],
        *,
        rope: bool = False,
        causal: bool = False,
        final_norm: bool = True,
        fingerprint: str = "",
        rope_factors: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        if rope and not family.rotary:
            raise BlockError(
                f"rope=True: {family.name} has no rotary position embedding; leave rope at False"
            )
        module = importlib.import_module(family.module)
        if family.rotary:
            leave_unturned(module)
        settings = _config(family, config, family.name)
        self.hidden_size: int = settings.hidden_size
        self.heads: int = settings.num_attention_heads
        self.kv_heads: int = getattr(settings, "num_key_value_heads", None) or self.heads
        self.family = family.name
        self.fingerprint = fingerprint
        self.causal = causal
        self._eager, self._takes_positions = family.eager, family.rotary
        self._norm_offset = family.norm_offset
        layer_class = getattr(module, family.title + family.layer_class)
        self.layers = nn.ModuleList(
            layer_class(settings, layer_idx=index) for index in range(len(layers))
        )
        self._windows: list[int | None] = []
        for layer in self.layers:
            attention = layer.get_submodule(family.attention)
            # Under SDPA transformers' decoder layers are causal when no mask is given, unless they
            # are told otherwise.
            attention.is_causal = causal
            default = settings.sliding_window if family.windowed else None
            self._windows.append(getattr(attention, "sliding_window", default))
        self.norm = _final_norm(module, family, settings) if final_norm else None
        self.projections = {
            role: tuple(f"layers.{index}.{path}" for index in range(len(layers)))
            for role, path in family.projections.items()
        }
        # Kept out of the module tree, where its few constant frequencies would be buffers.
        with torch.device("cpu"):  # real also where the parameters are built on the meta device
            rotary = getattr(module, family.title + "RotaryEmbedding")(settings) if rope else None
        if rotary is not None and rope_factors is not None:
            rotary.inv_freq = rotary.inv_freq / rope_factors  # how GGUF stores Llama 3.1's scaling
        object.__setattr__(self, "_rotary", rotary)
        self._frozen(layers)

    def _through_layers(self, hidden: torch.Tensor) -> torch.Tensor:
        options: dict[str, Any] = {}
        if self._takes_positions:
            options["position_embeddings"] = self._positions(hidden)
        for layer, window in zip(self.layers, self._windows, strict=True):
            hidden = layer(hidden, attention_mask=self._mask(hidden, window), **options)
        return hidden

    def _positions(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of the rotary embedding."""
        if self._rotary is None:
            return nothing_turned(hidden)
        cosines, sines = self._rotary(
            hidden, torch.arange(hidden.shape[1], device=hidden.device)[None]
        )
        return cosines, sines

    def _mask(self, hidden: torch.Tensor, window: int | None) -> torch.Tensor | None:
        """The mask where SDPA's causal flag is not enough: for sliding windows and for eager
        attention.
        """
        length = hidden.shape[1]
        if not self.causal or (not self._eager and (window is None or length <= window)):
            return None
        at = torch.arange(length, device=hidden.device)
        back = at[:, None] - at[None, :]
        seen = (back >= 0) & (back < (window or math.inf))
        if not self._eager:
            return seen[None, None]
        mask = torch.zeros_like(seen, dtype=hidden.dtype).masked_fill_(
            ~seen, torch.finfo(hidden.dtype).min
        )
        return mask[None, None]

    def randomise(self, seed: int) -> RowBlock:
        """Replace the weights by random ones, in place: the control for whether they matter.

        Linear maps are drawn from N(0, 0.02²), the spread that the families here are initialised
        with; biases become zero and norms the identity. The fingerprint becomes that of
        architecture and seed.
        """
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if isinstance(module, nn.Linear) and name == "weight":
                    drawn = torch.empty(parameter.shape).normal_(
                        0.0, _INITIAL_SPREAD, generator=generator
                    )
                    parameter.data.copy_(drawn)
                else:
                    parameter.data.fill_(1.0 - self._norm_offset if name == "weight" else 0.0)
        shapes = [(name, list(parameter.shape)) for name, parameter in self.named_parameters()]
        self.fingerprint = hashlib.sha256(
            f"random {seed} {self.family} {shapes}".encode()
        ).hexdigest()
        return self

    def reset_final_norm(self) -> RowBlock:
        """Give the final norm the weights that it has before any training, in place: it then only
        normalises.
        """
        if self.norm is not None:
            for name, parameter in self.norm.named_parameters():
                parameter.data.fill_(1.0 - self._norm_offset if name == "weight" else 0.0)
        return self


def _final_norm(module: Any, family: Family, settings: Any) -> nn.Module | None:
    if family.norm is None:
        return None
    if family.norm_class == "LayerNorm":
        return nn.LayerNorm(settings.hidden_size)
    norm: nn.Module = getattr(module, family.title + family.norm_class)(
        settings.hidden_size, eps=settings.rms_norm_eps
    )
    return norm


def expected_shapes(
    family: Family, config: Mapping[str, Any], where: str
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a block's tensors (`layers.0. ...`, `norm. ...`), without allocating
    them.

    Raises:
        BlockError: transformers cannot build a layer from this configuration.
    """
    try:
        with torch.device("meta"):
            block = RowBlock(family, config, range(config["num_hidden_layers"]))
    except Exception as error:  # each layer class has its own ways to refuse sizes that do not fit
        raise BlockError(
            f"{where}: transformers cannot build its {family.name} layer: {error!r}"
        ) from error
    return {name: tuple(parameter.shape) for name, parameter in block.named_parameters()}
