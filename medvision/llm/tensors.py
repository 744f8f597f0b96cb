"""The tensors of a checkpoint by transformers' names, each read only when asked for, whatever the
format.

Here are the names, the order of rows and the shards; how a weight file is read is in
`weight_files`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch

from medvision.llm.bytefile import ByteFile, check_range
from medvision.llm.errors import BlockError
from medvision.llm.families import Family
from medvision.llm.gguf_header import TensorInfo
from medvision.llm.quantisation import quantisation
from medvision.llm.quantised import dequantised
from medvision.llm.sources import Checkpoint
from medvision.llm.weight_files import Slot, read_safetensors, read_torch

# Meta's name of a tensor in layer N -> transformers', and the axis along which model parallelism
# splits it.
_META = {
    "self_attn.q_proj.weight": ("attention.wq.weight", 0),
    "self_attn.k_proj.weight": ("attention.wk.weight", 0),
    "self_attn.v_proj.weight": ("attention.wv.weight", 0),
    "self_attn.o_proj.weight": ("attention.wo.weight", 1),
    "mlp.gate_proj.weight": ("feed_forward.w1.weight", 0),
    "mlp.down_proj.weight": ("feed_forward.w2.weight", 1),
    "mlp.up_proj.weight": ("feed_forward.w3.weight", 0),
    "input_layernorm.weight": ("attention_norm.weight", None),
    "post_attention_layernorm.weight": ("ffn_norm.weight", None),
}
Lookup = Callable[[str], Slot | None]


def open_tensors(checkpoint: Checkpoint, family: Family, config: Mapping[str, Any]) -> Lookup:
    """A function from a tensor's name to its slot, or None where the checkpoint has no such tensor.

    Names are transformers' without the model's prefix: `layers.31.self_attn.q_proj.weight`,
    `norm.weight`. Rows that a format stores in another order, or norms that it stores shifted, are
    put right when read.

    Raises:
        BlockError: damaged, foreign or unsafe files.
    """
    layout, repository = checkpoint.layout, checkpoint.repository
    if layout.format == "gguf":
        return _gguf(
            repository.open(layout.weights[0]), checkpoint.gguf_header.tensors, family, config
        )
    if layout.format == "meta":
        return _meta([read_torch(repository.open(name)) for name in layout.weights], config)
    _, get = named_tensors(checkpoint)
    return _with_prefixes(family, get)


def named_tensors(checkpoint: Checkpoint) -> tuple[Collection[str], Lookup]:
    """The names of all tensors in a safetensors or torch checkpoint, and a function from such a
    name to its slot, or None where there is no such tensor.

    Raises:
        BlockError: damaged, foreign or unsafe files.
    """
    how = quantisation(checkpoint.json(checkpoint.layout.config))
    names, get = _stored_tensors(checkpoint, packed=bool(how))
    return dequantised(names, get, how, checkpoint.where) if how else (names, get)


def _stored_tensors(checkpoint: Checkpoint, *, packed: bool) -> tuple[Collection[str], Lookup]:
    """The same as they are stored; `packed`: quantised ones, too."""
    layout, repository = checkpoint.layout, checkpoint.repository
    read_table: Callable[[ByteFile], dict[str, Slot]] = read_torch
    if layout.format == "safetensors":
        read_table = functools.partial(read_safetensors, packed=packed)
    if layout.index is None:
        table = read_table(repository.open(layout.weights[0]))
        return table, table.get

    index = checkpoint.json(layout.index).get("weight_map")
    if not isinstance(index, dict):
        raise BlockError(
            f"{checkpoint.where}/{layout.index} has no weight_map; is it an index of shards?"
        )
    tables: dict[str, dict[str, Slot]] = {}

    def in_shards(name: str) -> Slot | None:
        shard = index.get(name)
        if shard is None:
            return None
        if shard not in repository.names:  # also keeps '../' in an index from leaving the folder
            raise BlockError(
                f"{checkpoint.where}: {layout.index} puts {name} into {shard!r}, which is not there"
            )
        if shard not in tables:
            tables[shard] = read_table(repository.open(shard))
        if name not in tables[shard]:
            raise BlockError(
                f"{checkpoint.where}: {layout.index} puts {name} into {shard}, which does not hold "
                "it"
            )
        return tables[shard][name]

    return index, in_shards


def _with_prefixes(family: Family, get: Lookup) -> Lookup:
    """Try the family's prefixes, and for LayerNorm the names that TensorFlow gave (gamma, beta)."""

    def lookup(name: str) -> Slot | None:
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        )
        spellings = (prefix + spelling for spelling in (name, old) for prefix in family.prefixes)
        return next((slot for spelling in spellings if (slot := get(spelling))), None)

    return lookup


def unpermute(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Put query or key rows in transformers' order.

    Meta and GGUF let the rotary embedding turn neighbouring rows (0 with 1, 2 with 3); transformers
    turns a row of a head's first half with the one of its second half. `rows` is [heads * width,
    ...].
    """
    width = rows.shape[0] // heads
    pairs = rows.reshape(heads, width // 2, 2, *rows.shape[1:])
    return pairs.transpose(1, 2).reshape(rows.shape)


def _heads(name: str, config: Mapping[str, Any]) -> int | None:
    """How many heads' rows a query or key projection has; None for other tensors."""
    if ".q_proj." in name:
        return int(config["num_attention_heads"])
    return (
        int(config.get("num_key_value_heads") or config["num_attention_heads"])
        if ".k_proj." in name
        else None
    )


def _meta(shards: list[dict[str, Slot]], config: Mapping[str, Any]) -> Lookup:
    def lookup(name: str) -> Slot | None:
        layer, _, rest = name.removeprefix("layers.").partition(".")
        meta, axis = _META.get(rest, (None, None))
        spelled = "norm.weight" if name == "norm.weight" else f"layers.{layer}.{meta}"
        parts = [shard[spelled] for shard in shards if spelled in shard]
        if not parts or (axis is not None and len(parts) != len(shards)):
            return None
        if axis is None or len(parts) == 1:
            parts, axis = parts[:1], 0  # norms are repeated in every shard
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        heads = _heads(name, config)

        def read() -> torch.Tensor:
            tensor = (
                parts[0].read()
                if len(parts) == 1
                else torch.cat([part.read() for part in parts], axis)
            )
            return unpermute(tensor, heads) if heads else tensor

        return Slot(tuple(shape), parts[0].dtype, read)

    return lookup


def _gguf(
    file: ByteFile, table: Mapping[str, TensorInfo], family: Family, config: Mapping[str, Any]
) -> Lookup:
    import gguf

    architecture = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == family.gguf)
    names = gguf.get_tensor_name_map(architecture, int(config["num_hidden_layers"]))

    def lookup(name: str) -> Slot | None:
        if name == "rope_factors":
            return (
                _gguf_slot(file, table["rope_freqs.weight"], None, 0)
                if "rope_freqs.weight" in table
                else None
            )
        stem, _, ending = name.rpartition(".")
        spellings = (names.get_name(prefix + stem) for prefix in family.prefixes)
        spelled = next((s for s in spellings if s), None)
        info = table.get(f"{spelled}.{ending}")
        if info is None:
            return None
        heads = _heads(name, config) if family.gguf_permuted else None
        shift = -family.norm_offset if name.endswith("norm.weight") else 0
        return _gguf_slot(file, info, heads, shift)

    return lookup


def _gguf_slot(file: ByteFile, info: TensorInfo, heads: int | None, shift: int) -> Slot:
    import numpy as np
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    try:
        kind = GGMLQuantizationType(info.type)
    except ValueError as error:
        raise BlockError(
            f"{file.name}: unknown ggml type {info.type}; a newer gguf package may know it"
        ) from error
    per_block, block_bytes = GGML_QUANT_SIZES[kind]
    rows, columns = math.prod(info.shape[:-1]), info.shape[-1]
    if columns % per_block:
        raise BlockError(
            f"{file.name}: rows of {columns} do not fit {kind.name}, which packs {per_block}"
        )
    row_bytes = columns // per_block * block_bytes
    check_range(file, info.offset, rows * row_bytes)

    def read() -> torch.Tensor:
        raw = np.frombuffer(file.read(info.offset, rows * row_bytes), dtype=np.uint8).reshape(
            rows, row_bytes
        )
        try:
            values = dequantize(raw, kind)
        except NotImplementedError as error:
            raise BlockError(
                f"{file.name}: gguf cannot dequantise {kind.name}; take a Q8_0 or F16 file"
            ) from error
        tensor = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).reshape(
            info.shape
        )
        tensor = unpermute(tensor, heads) if heads else tensor
        return tensor + shift if shift else tensor

    return Slot(info.shape, torch.float32, read)
