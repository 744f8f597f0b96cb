"""Quantised checkpoints: the asked layers as the float matrices that they stand for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from medvision.llm import BlockError, load_block
from medvision.llm.quantisation import refusal
from medvision.llm.quantised import dequantised
from medvision.llm.weight_files import Slot

HERE = Path(__file__).parent
# Made by bitsandbytes 0.50.2 (quantize_4bit, int8_vectorwise_quant), with what it makes of them.
BITSANDBYTES = HERE / "bitsandbytes.npz"
# The same by AutoGPTQ 0.7.1 (qlinear_cuda on a CPU), GPTQModel 7.7.0
# (convert_gptq_v1_to_v2_format_module), AutoAWQ 0.2.9 (WQLinear_GEMM, dequantize_gemm) and
# compressed-tensors 0.20.0 (quantize, dequantize).
OTHERS = HERE / "gptq_awq_fp8.npz"
GOLDEN: dict[str, tuple[Path, dict[str, Any]]] = {
    **dict.fromkeys(
        ("nf4", "nf4_nested", "fp4_nested", "int8"), (BITSANDBYTES, {"load_in_4bit": True})
    ),
    "gptq4": (OTHERS, {"quant_method": "gptq", "bits": 4}),
    "gptq8": (OTHERS, {"quant_method": "gptq", "bits": 8}),
    "gptq2_act": (OTHERS, {"quant_method": "gptq", "bits": 2, "desc_act": True}),
    "gptq4_v2": (OTHERS, {"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq_v2"}),
    "awq": (OTHERS, {"quant_method": "awq", "bits": 4, "version": "gemm"}),
    "fp8_rows": (OTHERS, {"quant_method": "compressed-tensors", "format": "float-quantized"}),
    "fp8_tensor": (OTHERS, {"quant_method": "compressed-tensors", "format": "float-quantized"}),
}
GROUP = 32
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # of AutoAWQ's columns in an int32
Packed = tuple[dict[str, torch.Tensor], torch.Tensor]  # what is stored, and what it stands for


def slots(tensors: Mapping[str, torch.Tensor]) -> Callable[[str], Slot | None]:
    def get(name: str) -> Slot | None:
        tensor = tensors.get(name)
        if tensor is None:
            return None
        return Slot(tuple(tensor.shape), tensor.dtype, lambda: tensor)

    return get


@pytest.mark.parametrize("name", GOLDEN)
def test_the_packers_own_numbers(name: str) -> None:
    path, how = GOLDEN[name]
    with np.load(path, allow_pickle=False) as file:
        stored = {key: torch.from_numpy(file[key]) for key in file.files}
    if name.startswith("fp8"):  # NumPy has no such dtype
        stored[f"{name}.weight"] = stored[f"{name}.weight"].view(torch.float8_e4m3fn)
    expected = stored.pop(f"{name}.weight.expected")
    names, get = dequantised(list(stored), slots(stored), how, "here")
    slot = get(f"{name}.weight")
    assert slot is not None
    assert slot.shape == tuple(expected.shape)
    torch.testing.assert_close(slot.read(), expected, rtol=2e-6, atol=1e-8)
    assert f"{name}.weight" in names
    beside = ("absmax", "SCB", "quant", "qzeros", "scales", "g_idx", "weight_scale")
    assert not [one for one in names if any(part in one for part in beside)]


def packed_rows(numbers: torch.Tensor, bits: int) -> torch.Tensor:
    """GPTQ: consecutive rows [R, C] in the bits of an int32, the lowest first."""
    many = 32 // bits
    wide = numbers.long().view(-1, many, numbers.shape[1])
    made = sum(wide[:, k] << (bits * k) for k in range(many))
    assert isinstance(made, torch.Tensor)
    return made.where(made < 2**31, made - 2**32).int()


def gptq(weight: torch.Tensor, bits: int, *, v2: bool = False, act_order: bool = False) -> Packed:
    rows, columns = weight.T.shape
    generator = torch.Generator().manual_seed(rows + columns)
    index = torch.arange(rows) // GROUP
    if act_order:
        index = index[torch.randperm(rows, generator=generator)]
    groups, top = rows // GROUP, 2**bits
    codes = torch.randint(0, top, (rows, columns), generator=generator)
    zeros = torch.randint(1, top, (groups, columns), generator=generator)
    scales = torch.rand(groups, columns, generator=generator).half() * 0.1
    stored = {
        "qweight": packed_rows(codes, bits),
        "qzeros": packed_rows((zeros if v2 else zeros - 1).T, bits).T.contiguous(),
        "scales": scales,
        "g_idx": index.int(),
        "bias": torch.zeros(columns, dtype=torch.float16),
    }
    expected = torch.empty(columns, rows)
    for row in range(rows):
        group = int(index[row])
        expected[:, row] = scales[group].float() * (codes[row] - zeros[group])
    return stored, expected


def awq(weight: torch.Tensor) -> Packed:
    rows, columns = weight.T.shape
    generator = torch.Generator().manual_seed(rows * columns)
    codes = torch.randint(0, 16, (rows, columns), generator=generator)
    zeros = torch.randint(0, 16, (rows // GROUP, columns), generator=generator)
    scales = torch.rand(rows // GROUP, columns, generator=generator).half() * 0.1

    def packed(numbers: torch.Tensor) -> torch.Tensor:
        made = torch.zeros(len(numbers), columns // 8, dtype=torch.long)
        for column in range(columns):
            place = ORDER.index(column % 8)
            made[:, column // 8] |= numbers[:, column] << (4 * place)
        return made.where(made < 2**31, made - 2**32).int()

    stored = {"qweight": packed(codes), "qzeros": packed(zeros), "scales": scales}
    group = torch.arange(rows) // GROUP
    return stored, ((codes - zeros[group]) * scales.float()[group]).T.contiguous()


def fp8(weight: torch.Tensor) -> Packed:
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    low = (weight * 100).to(torch.float8_e4m3fn)
    scale = torch.rand(weight.shape[0] // GROUP, weight.shape[1] // GROUP) * 0.02
    expected = Fp8Dequantize(None)._dequantize_one(low, scale, torch.float32)
    return {"weight": low, "weight_scale_inv": scale}, expected


def fp8_rows(weight: torch.Tensor) -> Packed:
    low, scale = (weight * 100).to(torch.float8_e4m3fn), torch.rand(weight.shape[0], 1) * 0.02
    return {"weight": low, "weight_scale": scale}, low.float() * scale


WAYS: dict[str, tuple[dict[str, Any], Callable[[torch.Tensor], Packed]]] = {
    "gptq, 4 bits": ({"quant_method": "gptq", "bits": 4}, lambda w: gptq(w, 4)),
    "gptq, 8 bits": ({"quant_method": "gptq", "bits": 8}, lambda w: gptq(w, 8)),
    "gptq, 2 bits, act-order": (
        {"quant_method": "gptq", "bits": 2, "desc_act": True},
        lambda w: gptq(w, 2, act_order=True),
    ),
    "gptq, version 2": (
        {"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq_v2"},
        lambda w: gptq(w, 4, v2=True),
    ),
    "awq": ({"quant_method": "awq", "bits": 4, "version": "gemm"}, awq),
    "fp8": ({"quant_method": "fp8", "weight_block_size": [GROUP, GROUP]}, fp8),
    "fp8, rows": ({"quant_method": "compressed-tensors", "format": "float-quantized"}, fp8_rows),
}


def quantised(folder: Path, how: Mapping[str, Any], pack: Callable[[torch.Tensor], Packed]) -> Any:
    """Quantise the linear maps of a checkpoint in place; what they then stand for, by name."""
    (path,) = folder.glob("*.safetensors")
    stored, expected = dict[str, torch.Tensor](), dict[str, torch.Tensor]()
    for name, tensor in load_file(path).items():
        if "_proj." not in name:
            stored[name] = tensor
            continue
        parts, expected[name] = pack(tensor)
        stored |= {f"{name.removesuffix('weight')}{end}": part for end, part in parts.items()}
    save_file(stored, path, metadata={"format": "pt"})
    edit(folder, quantization_config=dict(how))
    return expected


def edit(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


@pytest.mark.parametrize("way", WAYS)
def test_a_block_has_the_weights_that_the_packed_ones_stand_for(
    way: str, make_model: Any, write: Any
) -> None:
    torch.manual_seed(0)
    folder = write(make_model("llama"))
    expected = quantised(folder, *WAYS[way])
    block = load_block(folder, 1)
    layer = {name: p for name, p in block.named_parameters() if "_proj." in name}
    assert len(layer) == 7
    for name, parameter in layer.items():
        original = f"model.{name.replace('layers.0.', 'layers.1.')}"
        torch.testing.assert_close(parameter.data, expected[original], rtol=1e-6, atol=1e-7)
    assert torch.isfinite(block(torch.randn(1, 5, 64))).all()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"quant_method": "gptq", "bits": 3}, "gptq of 3 bits, not 2, 4 or 8"),
        ({"quant_method": "awq", "bits": 4, "version": "gemv"}, "in the layout gemv"),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized"}, "pack-quantized"),
        ({"quant_method": "aqlm"}, "aqlm, of which no reader is here"),
        ("yes", "it does not say how"),
    ],
)
def test_what_is_not_read_is_refused_by_name(
    how: Any, said: str, make_model: Any, write: Any
) -> None:
    assert said in refusal(how)
    folder = write(make_model("llama"))
    edit(folder, quantization_config=how)
    with pytest.raises(BlockError, match="quantised in a way that is not read") as refused:
        load_block(folder)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_pickled_ones_are_refused(make_model: Any, write: Any) -> None:
    folder = write(make_model("llama"), "bin")
    edit(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(BlockError, match="it is no safetensors file"):
        load_block(folder)


@pytest.mark.parametrize(
    ("lost", "said"), [("scales", r"lacks .*k_proj\.scales"), ("qweight", r"lacks .* tensors of")]
)
def test_a_part_that_is_missing_is_named(lost: str, said: str, make_model: Any, write: Any) -> None:
    folder = write(make_model("llama"))
    quantised(folder, *WAYS["awq"])
    (path,) = folder.glob("*.safetensors")
    stored = load_file(path)
    del stored[f"model.layers.2.self_attn.k_proj.{lost}"]
    save_file(stored, path)
    with pytest.raises(BlockError, match=said):
        load_block(folder)


def test_parts_that_do_not_fit_are_said_in_one_line(make_model: Any, write: Any) -> None:
    folder = write(make_model("llama"))
    quantised(folder, *WAYS["gptq, 4 bits"])
    (path,) = folder.glob("*.safetensors")
    stored = load_file(path)
    name = "model.layers.2.mlp.up_proj.qzeros"
    stored[name] = stored[name][:, :3].contiguous()
    save_file(stored, path)
    with pytest.raises(BlockError, match=r"up_proj\.weight cannot be dequantised") as refused:
        load_block(folder)
    assert "\n" not in str(refused.value)
