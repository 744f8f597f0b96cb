"""Blocks of any family of transformers: its own layers, called as its own model calls them."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from medvision.llm.errors import BlockError
from medvision.llm.frozen import FrozenBlock
from medvision.llm.positions import Positions
from medvision.llm.proven import PROVEN_LAYERS
from medvision.llm.relative import extra_path
from medvision.llm.stacks import Stack, kept_stack, norm_path

# What a layer's query, key, value and output projections are called.
_ROLES = {
    "q": ("q_proj", "query", "q_lin", "query_proj", "q"),
    "k": ("k_proj", "key", "k_lin", "key_proj", "k"),
    "v": ("v_proj", "value", "v_lin", "value_proj", "v"),
    "o": ("o_proj", "out_proj", "out_lin", "output.dense", "Wo", "dense", "o"),
}

# Their attention masks what autocast made bfloat16 with float32's lowest number, which is an error.
_WITHOUT_AUTOCAST = ("deberta",)


class NativeBlock(FrozenBlock):
    """Layers of a family without a row in `medvision.llm.families`, built by transformers.

    Args:
        config: of `Stack.config`.
        layers: indices in the model, counted from 0.
        rope: positions inside the layers, as the model was trained: rotary ones, or biases of the
            attention that depend on the distance. Without it every token stands at position 0, and
            there is no bias.
        causal: the mask that its causal model gives each layer, with windows and chunks. Without it
            every token sees every other; models that look both ways keep the windows that they
            have.

    Raises:
        BlockError: the layer takes something that only its whole model has.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        layers: Sequence[int],
        *,
        rope: bool = False,
        causal: bool = False,
        final_norm: bool = True,
        fingerprint: str = "",
    ) -> None:
        super().__init__()
        stack = kept_stack(config)
        settings = stack.trunk.config
        self.hidden_size = settings.hidden_size
        self.heads = getattr(settings, "num_attention_heads", 1)
        self.kv_heads = getattr(settings, "num_key_value_heads", None) or self.heads
        self.family, self.fingerprint, self.causal = stack.family, fingerprint, causal
        taken = [stack.layers[index] for index in layers]
        self.layers = nn.ModuleList(
            layer if layer not in taken[:at] else copy.deepcopy(layer)
            for at, layer in enumerate(taken)
        )
        self.in_halves = self.family in PROVEN_LAYERS
        # What transformers itself keeps in float32, such as T5's `wo`, whose dtype T5 asks for.
        self.left_wide = tuple(stack.trunk._keep_in_fp32_modules or ())
        self._sent: int = getattr(settings, "num_experts_per_tok", 1)  # experts of a token
        path = norm_path(stack) if final_norm else None
        self.norm = stack.trunk.get_submodule(path) if path else None
        self.projections = _projections(self.layers)
        positions = Positions(stack, layers, self.layers, rope=rope, causal=causal)
        self.extras = positions.extras
        object.__setattr__(self, "_positions", positions)  # its constants are no buffers
        object.__setattr__(self, "_trunk", _bare(stack))
        _fill_buffers(stack.trunk, self.layers)
        self._frozen(layers)

    @property
    def active_parameters(self) -> int:
        """Parameters that one token meets: of a mixture's experts those that it is sent to."""
        return sum(
            parameter.numel() * self._sent // parameter.shape[0]
            if parameter.ndim == 3 and ".experts." in name
            else parameter.numel()
            for name, parameter in self.named_parameters()
        )

    def _through_layers(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.family in _WITHOUT_AUTOCAST:
            with torch.autocast(hidden.device.type, enabled=False):
                return self._each_layer(hidden)
        return self._each_layer(hidden)

    def _each_layer(self, hidden: torch.Tensor) -> torch.Tensor:
        given = self._positions.given(hidden, self.extras)
        for layer, options in zip(self.layers, given, strict=True):
            made = layer(hidden, **options)
            hidden = made if isinstance(made, torch.Tensor) else made[0]
        return hidden

    def randomise(self, seed: int) -> NativeBlock:
        """Draw the weights as transformers draws an untrained model of the family, in place."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for module in self.modules():
                self._start(module)
        shapes = [(name, list(parameter.shape)) for name, parameter in self.named_parameters()]
        self.fingerprint = hashlib.sha256(
            f"random {seed} {self.family} {shapes}".encode()
        ).hexdigest()
        return self

    def reset_final_norm(self) -> NativeBlock:
        """Give the final norm the weights that it has before any training, in place."""
        if self.norm is not None:
            self._start(self.norm)
        return self

    def _start(self, module: nn.Module) -> None:
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            tensor._is_hf_initialized = False  # type: ignore[attr-defined]
        with torch.no_grad():
            self._trunk._init_weights(module)


def _bare(stack: Stack) -> Any:
    """The trunk without its layers, for how it starts their weights."""
    trunk = stack.trunk
    for name, _ in list(trunk.named_children()):
        delattr(trunk, name)
    return trunk


def _projections(layers: nn.ModuleList) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for role, endings in _ROLES.items():
        paths = []
        for index, layer in enumerate(layers):
            attention = [
                name
                for name, module in layer.named_modules()
                if isinstance(module, nn.Linear) and "att" in name.lower()
            ]
            matching = (
                name
                for ending in endings
                for name in attention
                if name == ending or name.endswith(f".{ending}")
            )
            if path := next(matching, None):
                paths.append(f"layers.{index}.{path}")
        if len(paths) == len(layers):
            found[role] = tuple(paths)
    return found


def _fill_buffers(trunk: Any, layers: nn.ModuleList) -> None:
    """Compute the constants that no checkpoint holds; the parameters stay as they are."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        for module in layers.modules():
            names = module._non_persistent_buffers_set
            empty = {
                name: buffer
                for name, buffer in module.named_buffers(recurse=False)
                if name in names and buffer.is_meta
            }
            for name, buffer in empty.items():
                module._buffers[name] = torch.empty_like(buffer, device="cpu")
            if empty:
                trunk._init_weights(module)


def native_shapes(stack: Stack, layers: Sequence[int], where: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a block's tensors, as `expected_shapes` of the families with a row.

    Raises:
        BlockError: the layers cannot stand alone.
    """
    try:
        with torch.device("meta"):
            block = NativeBlock(stack.config(), layers)
    except BlockError as error:
        raise BlockError(f"{where}: {error}") from error
    return {name: tuple(tensor.shape) for name, tensor in block.state_dict().items()}


def names_in_model(stack: Stack, layers: Sequence[int], name: str) -> str:
    """A tensor of the block by its name in the whole model."""
    first, _, rest = name.partition(".")
    if first == "norm":
        return f"{stack.prefix}{norm_path(stack)}.{rest}"
    if first == "extras":
        key, _, rest = rest.partition(".")
        return f"{stack.prefix}{extra_path(stack, key)}.{rest}"
    position, _, rest = rest.partition(".")
    return f"{stack.prefix}{stack.path}.{layers[int(position)]}.{rest}"
