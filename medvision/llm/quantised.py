"""Quantised weights as the float32 matrices that they stand for, each made when it is read.

What is read, and where its layout is documented:

- bitsandbytes, 8 bits (`weight`, `SCB`): rows of int8 times SCB / 127 (Dettmers et al. 2022, arXiv
  2208.07339); 4 bits (`weight`, `weight.absmax`, `weight.quant_map`, `weight.quant_state.*`): two
  places of a 16-value table a byte, the first in the high half, times the largest value of its
  block, which can be quantised in the same way (Dettmers et al. 2023, arXiv 2305.14314; QuantState
  in bitsandbytes.functional).
- GPTQ (`qweight`, `qzeros`, `scales`, `g_idx`) of 2, 4 and 8 bits: 32 / bits input rows an int32,
  the lowest bits first; zeros are stored less 1 unless `checkpoint_format` is gptq_v2 (AutoGPTQ and
  GPTQModel).
- AWQ (`qweight`, `qzeros`, `scales`) of 4 bits in the layout `gemm`: eight output columns an int32
  in the order 0 2 4 6 1 3 5 7 (AutoAWQ).
- fp8 (`weight` in E4M3 with `weight_scale_inv` a block, or `weight_scale` a row or a tensor):
  DeepSeek's and the float-quantized format of compressed-tensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch

from medvision.llm.errors import BlockError
from medvision.llm.weight_files import Slot

Lookup = Callable[[str], Slot | None]
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
# What lies beside a weight, by the end of its name.
_BESIDE = (
    *("SCB", "weight_format", "qzeros", "scales", "g_idx", "weight_scale", "weight_scale_inv"),
    *("input_scale", "weight.absmax", "weight.quant_map", "weight.nested_absmax"),
    "weight.nested_quant_map",
)
_STATE = "weight.quant_state.bitsandbytes__"


def dequantised(
    names: Collection[str], get: Lookup, how: Mapping[str, Any], where: str
) -> tuple[list[str], Lookup]:
    """The names of all tensors as if nothing were quantised, and their slots.

    Args:
        names: of what the files hold.
        get: the slot of one of them.
        how: `quantization_config`, one that `refusal` has nothing against.
        where: of the checkpoint, for messages.
    """
    packed = {name.removesuffix(".qweight") for name in names if name.endswith(".qweight")}
    plain = [
        name
        for name in names
        if not name.endswith((".qweight", *(f".{end}" for end in _BESIDE))) and _STATE not in name
    ]

    def lookup(name: str) -> Slot | None:
        stem, _, kind = name.rpartition(".")
        if stem in packed and kind == "weight":
            return _gptq(stem, get, how, where) if _is_gptq(how) else _awq(stem, get, how, where)
        slot = get(name)
        if stem in packed and kind == "bias" and slot is not None and not slot.read().any():
            return None  # packers write a bias of zeros where the layer has none
        if kind != "weight" or slot is None:
            return slot
        if f"{stem}.SCB" in names:
            return _int8(stem, get, where)
        if state := next((one for one in names if one.startswith(f"{stem}.{_STATE}")), None):
            return _four_bits(stem, state, get, where)
        scale = next((n for n in (f"{name}_scale_inv", f"{name}_scale") if n in names), None)
        return _fp8(slot, name, scale, get, how, where) if scale else slot

    return [*plain, *(f"{stem}.weight" for stem in packed)], lookup


def _is_gptq(how: Mapping[str, Any]) -> bool:
    return how.get("quant_method") == "gptq"


def _needed(name: str, get: Lookup, where: str) -> Slot:
    slot = get(name)
    if slot is None:
        raise BlockError(f"{where} lacks {name}, without which its weight cannot be dequantised")
    return slot


def _slot(shape: tuple[int, ...], name: str, make: Callable[[], torch.Tensor], where: str) -> Slot:
    """A slot that is made; what does not fit together is said in one line."""

    def read() -> torch.Tensor:
        try:
            made = make().to(torch.float32)
        except (RuntimeError, ValueError, KeyError, IndexError, TypeError) as error:
            raise BlockError(
                f"{where}: {name} cannot be dequantised: {' '.join(str(error).split())[:200]}"
            ) from error
        if tuple(made.shape) != shape:
            raise BlockError(
                f"{where}: {name} is {list(made.shape)} once dequantised, not {list(shape)}"
            )
        return made.contiguous()

    return Slot(shape, torch.float32, read)


def _int8(stem: str, get: Lookup, where: str) -> Slot:
    weight, scale = (_needed(f"{stem}.{end}", get, where) for end in ("weight", "SCB"))
    return _slot(
        weight.shape,
        f"{stem}.weight",
        lambda: weight.read().float() * (scale.read().float().view(-1, 1) / 127),
        where,
    )


def _four_bits(stem: str, state: str, get: Lookup, where: str) -> Slot:
    name = f"{stem}.weight"
    try:
        about = json.loads(bytes(_needed(state, get, where).read().tolist()))
        shape, size = tuple(map(int, about["shape"])), int(about["blocksize"])
    except (ValueError, KeyError, TypeError) as error:
        raise BlockError(f"{where}: {state} does not describe a weight: {error!r}") from error

    def part(end: str) -> torch.Tensor:
        return _needed(f"{name}.{end}", get, where).read()

    def make() -> torch.Tensor:
        highest = part("absmax")
        if "nested_blocksize" in about:
            of_blocks = part("nested_quant_map")[highest.long()]
            scales = part("nested_absmax").repeat_interleave(int(about["nested_blocksize"]))
            highest = of_blocks * scales[: len(of_blocks)] + float(about["nested_offset"])
        codes = _needed(name, get, where).read().flatten()
        places = torch.stack([codes >> 4, codes & 15], dim=1).flatten().long()
        values = part("quant_map")[places]
        scaled = values * highest.repeat_interleave(size)[: len(values)]
        return scaled[: math.prod(shape)].view(shape)

    return _slot(shape, name, make, where)


def _unpacked(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """The numbers in each int32, the lowest bits first, along a new last axis."""
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    return (packed.unsqueeze(-1) >> shifts) & (2**bits - 1)


def _gptq(stem: str, get: Lookup, how: Mapping[str, Any], where: str) -> Slot:
    bits = int(how["bits"])
    packed, zeros, scales = (
        _needed(f"{stem}.{end}", get, where) for end in ("qweight", "qzeros", "scales")
    )
    rows, columns = packed.shape[0] * 32 // bits, packed.shape[1]

    def make() -> torch.Tensor:
        codes = _unpacked(packed.read(), bits).transpose(1, 2).reshape(rows, columns)
        zero = _unpacked(zeros.read(), bits).flatten(1)
        if how.get("checkpoint_format") != "gptq_v2":
            zero = (zero + 1) & (2**bits - 1)
        index = get(f"{stem}.g_idx")
        each = rows // scales.shape[0]
        groups = index.read().long() if index else torch.arange(rows) // each
        return ((codes - zero[groups]) * scales.read().float()[groups]).T

    return _slot((columns, rows), f"{stem}.weight", make, where)


def _awq(stem: str, get: Lookup, how: Mapping[str, Any], where: str) -> Slot:
    packed, zeros, scales = (
        _needed(f"{stem}.{end}", get, where) for end in ("qweight", "qzeros", "scales")
    )
    rows, columns = packed.shape[0], packed.shape[1] * 8
    places = torch.tensor(_AWQ_ORDER).argsort()

    def make() -> torch.Tensor:
        codes, zero = (_unpacked(one.read(), 4)[..., places].flatten(1) for one in (packed, zeros))
        each = rows // scales.shape[0]
        wide = (one.repeat_interleave(each, dim=0) for one in (zero, scales.read().float()))
        shift, scale = wide
        return ((codes - shift) * scale).T

    return _slot((columns, rows), f"{stem}.weight", make, where)


def _fp8(
    weight: Slot, name: str, scale: str, get: Lookup, how: Mapping[str, Any], where: str
) -> Slot:
    factors = _needed(scale, get, where)

    def make() -> torch.Tensor:
        values, wide = weight.read().float(), factors.read().float()
        if (wide.ndim == 2 and wide.shape[1] > 1) or scale.endswith("_inv"):
            block = how.get("weight_block_size") or (128, 128)
            for axis, size in enumerate(block):
                wide = wide.repeat_interleave(int(size), dim=axis)
            wide = wide[: values.shape[0], : values.shape[1]]
        elif wide.numel() > 1:
            wide = wide.view(-1, 1)
        return values * wide

    return _slot(weight.shape, name, make, where)
