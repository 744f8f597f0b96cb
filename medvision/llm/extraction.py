"""From a checkpoint to a block in the cache: the tensors of the asked layers, checked and kept."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from medvision.llm import block_cache as cache
from medvision.llm.block import expected_shapes, resolve_config
from medvision.llm.configs import read_config
from medvision.llm.conversion import converted
from medvision.llm.errors import BlockError
from medvision.llm.families import Family, row_of
from medvision.llm.layer_index import from_zero
from medvision.llm.native_block import names_in_model, native_shapes
from medvision.llm.sources import Checkpoint, HubId, open_checkpoint
from medvision.llm.stacks import open_stack
from medvision.llm.tensors import named_tensors, open_tensors
from medvision.llm.weight_files import Slot


def extract(
    place: Path | HubId, layer: int | tuple[int, ...], *, keep: torch.dtype | None
) -> tuple[cache.Stored, dict[str, torch.Tensor]]:
    """Read a block from its checkpoint into the cache, and into memory unless `keep` (a dtype) is
    None.
    """
    checkpoint = open_checkpoint(place)
    raw = read_config(checkpoint)
    family = row_of(raw, checkpoint.where)
    if family is None:
        return _native(place, checkpoint, raw, layer, keep)
    layers = from_zero(layer, raw["num_hidden_layers"], checkpoint.where)
    config = resolve_config(family, raw, layers, checkpoint.where)
    slots = _slots(
        checkpoint, family, raw, layers, expected_shapes(family, config, checkpoint.where)
    )
    names = _keys(place, layer, layers)
    return cache.write(names, slots, family=family.name, config=config, layers=layers, keep=keep)


def _keys(place: Path | HubId, layer: int | tuple[int, ...], layers: tuple[int, ...]) -> list[str]:
    """Kept under the plain index and, where it differs, under what the user wrote (-1)."""
    plain = layers[0] if isinstance(layer, int) else layers
    return [cache.key(place, plain), cache.key(place, layer)]


def _native(
    place: Path | HubId,
    checkpoint: Checkpoint,
    raw: Mapping[str, Any],
    layer: int | tuple[int, ...],
    keep: torch.dtype | None,
) -> tuple[cache.Stored, dict[str, torch.Tensor]]:
    """The same of a family that transformers alone knows."""
    where = checkpoint.where
    stack = open_stack(raw, where)
    layers = from_zero(layer, len(stack.layers), where)
    names, get = named_tensors(checkpoint)
    config, expected = stack.config(), native_shapes(stack, layers, where)
    inside = {name: names_in_model(stack, layers, name) for name in expected}
    wanted = "|".join(
        sorted({re.escape(name.rpartition(".")[0]) + r"(\.|$)" for name in inside.values()})
        + [re.escape(f"{stack.prefix}{stack.path}.{index}.") for index in layers]
    )

    def slot(name: str) -> Slot:
        found = get(name)
        assert found is not None  # noqa: S101
        return found

    found = converted(stack.model, names, slot, wanted, where)
    slots: dict[str, Slot] = {}
    for name, original in inside.items():
        if original in found:
            slots[name] = _finite(
                _fitting(found[original], expected[name], original, stack.family, where),
                original,
                where,
            )
    missing = [original for name, original in inside.items() if name not in slots]
    _refuse_missing(missing, len(expected), stack.family, layers, where)
    return cache.write(
        _keys(place, layer, layers),
        slots,
        family=stack.family,
        config=config,
        layers=layers,
        keep=keep,
    )


def _fitting(slot: Slot, shape: tuple[int, ...], name: str, family: str, where: str) -> Slot:
    """The slot, if it has this shape."""
    if slot.shape != shape:
        raise BlockError(
            f"{where}: {name} has shape {list(slot.shape)}, but by the configuration a {family} "
            f"layer needs {list(shape)}"
        )
    return slot


def _refuse_missing(
    missing: Sequence[str], expected: int, family: str, layers: Sequence[int], where: str
) -> None:
    if missing:
        raise BlockError(
            f"{where} lacks {len(missing)} of the {expected} tensors of {family} layer "
            f"{', '.join(map(str, layers))}: {', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}; is the copy complete, and the configuration "
            "its own?"
        )


def _slots(
    checkpoint: Checkpoint,
    family: Family,
    raw: Mapping[str, Any],
    layers: Sequence[int],
    expected: Mapping[str, tuple[int, ...]],
) -> dict[str, Slot]:
    """The checkpoint's slot for every tensor of the block, before any of them is read.

    Raises:
        BlockError: tensors are missing, have other shapes, or biases are there that the
            configuration denies.
    """
    lookup = open_tensors(checkpoint, family, raw)
    slots: dict[str, Slot] = {}
    missing: list[str] = []
    for name, shape in expected.items():
        original = _original_name(name, family, layers)
        slot = lookup(original)
        if slot is None:
            missing.append(original)
            continue
        slot = _fitting(slot, shape, original, family.name, checkpoint.where)
        bias = name.removesuffix("weight") + "bias"
        if bias not in expected and lookup(_original_name(bias, family, layers)) is not None:
            raise BlockError(
                f"{checkpoint.where}: {original} comes with a bias that the configuration does not "
                "allow"
            )
        slots[name] = _finite(slot, original, checkpoint.where)
    _refuse_missing(missing, len(expected), family.name, layers, checkpoint.where)
    if checkpoint.layout.format == "gguf" and family.rotary and (factors := lookup("rope_factors")):
        slots["rope_factors"] = _finite(factors, "rope_freqs.weight", checkpoint.where)
    return slots


def _finite(slot: Slot, name: str, where: str) -> Slot:
    """The slot, refusing NaN and infinite values when read, also those that float32 makes of
    float64.
    """

    def read() -> torch.Tensor:
        tensor = slot.read()
        values = tensor.float()
        if (finite := torch.isfinite(values)).all():
            return tensor
        nan = int(values.isnan().sum())
        infinite = int((~finite).sum()) - nan
        raise BlockError(
            f"{where}: {name} holds {nan} NaN and {infinite} infinite values of {values.numel()} "
            f"({str(slot.dtype).removeprefix('torch.')}), with which no model can be trained: take "
            "the original checkpoint (float16 made of bfloat16 or float32 overflows above 65504)"
        )

    return Slot(slot.shape, slot.dtype, read)


def _original_name(name: str, family: Family, layers: Sequence[int]) -> str:
    """A block's tensor name (`layers.0.x`, `norm.x`) as the checkpoint has it (`layers.31.x`)."""
    first, _, rest = name.partition(".")
    if first == "norm":
        return f"{family.norm}.{rest}"
    position, _, rest = rest.partition(".")
    return f"{family.layers}.{layers[int(position)]}.{rest}"
