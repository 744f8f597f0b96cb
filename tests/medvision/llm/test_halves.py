"""Weights kept in 16 bits and positions that turn nothing change no bit of output or gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medvision.llm import load_block
from medvision.llm.block import RowBlock
from medvision.llm.families import FAMILIES
from medvision.llm.frozen import FrozenBlock
from medvision.llm.halves import KeptLinear, keep_halves, widened


def saved(checkpoint: Any, dtype: torch.dtype = torch.bfloat16) -> Any:
    """A checkpoint's folder with its weights in a dtype."""
    from safetensors.torch import load_file, save_file

    for path in checkpoint.glob("*.safetensors"):
        tensors = {name: tensor.to(dtype) for name, tensor in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})
    return checkpoint


def passed(block: FrozenBlock, seed: int = 0, **autocast: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and gradient of the same tokens."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(2, 9, block.hidden_size, generator=generator).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bool(autocast)):
        out = block(tokens)
    out.float().mul(torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    assert tokens.grad is not None
    return out.detach(), tokens.grad


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_the_bytes_give_the_same_bits(
    family: str, dtype: torch.dtype, make_model: Any, write: Any
) -> None:
    folder = saved(write(make_model(family)), dtype)
    whole, halves = load_block(folder), load_block(folder).keep_halves()
    kept = [module for module in halves.modules() if isinstance(module, KeptLinear)]
    assert len(kept) == sum(isinstance(module, nn.Linear) for module in whole.modules()) > 3
    assert {module.weight.element_size() for module in kept} == {2}
    for options in ({}, {"autocast": True}):
        for one, other in zip(passed(whole, **options), passed(halves, **options), strict=True):
            assert torch.equal(one, other)
            assert one.dtype == other.dtype


@pytest.mark.parametrize(("batch", "tokens"), [(1, 1), (3, 7), (2, 64)])
@pytest.mark.parametrize(("inputs", "outputs"), [(576, 192), (64, 256), (17, 33)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_kept_map_is_the_wide_one(
    batch: int, tokens: int, inputs: int, outputs: int, bias: bool
) -> None:
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Linear(inputs, outputs, bias=bias)).requires_grad_(False)
    wide[0].weight.data = wide[0].weight.data.bfloat16().float()
    given = torch.randn(batch, tokens, inputs)
    asked = torch.randn(batch, tokens, outputs)
    found = []
    for _ in range(2):
        x = given.clone().requires_grad_()
        y = wide(x)
        y.backward(asked)
        found.append((y.detach(), x.grad))
        keep_halves(wide)
    assert isinstance(wide[0], KeptLinear)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert torch.equal(widened(wide[0]).weight, wide[0].weight.float())
    assert torch.equal(wide(given), F.linear(given, wide[0].weight.float(), wide[0].bias))


def test_nothing_wide_is_kept_for_backward() -> None:
    wide = nn.Linear(64, 128, bias=False).requires_grad_(False)
    wide.weight.data = wide.weight.data.bfloat16().float()
    block = nn.Sequential(wide)
    keep_halves(block)
    kept: list[torch.Tensor] = []
    x = torch.randn(1, 4, 64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        block(x)
    assert [tensor.dtype for tensor in kept] == [torch.bfloat16]


def test_what_16_bits_do_not_hold_stays_as_it_is() -> None:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)).requires_grad_(False)
    block[1].weight.data = block[1].weight.data.half().float()
    trained = nn.Linear(8, 8)
    trained.weight.data = trained.weight.data.bfloat16().float()
    block.append(trained)
    keep_halves(block)
    assert [type(module) for module in block] == [nn.Linear, KeptLinear, nn.Linear]
    assert block[1].weight.dtype == torch.float16


@pytest.mark.parametrize("family", [name for name in FAMILIES if FAMILIES[name].rotary])
def test_positions_that_turn_nothing_are_left_out(
    family: str, make_model: Any, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    block = load_block(write(make_model(family)))
    assert isinstance(block, RowBlock)
    module = importlib.import_module(FAMILIES[family].module)
    without = passed(block)
    monkeypatch.setattr(module, "apply_rotary_pos_emb", module.apply_rotary_pos_emb.__wrapped__)
    for one, other in zip(passed(block), without, strict=True):
        assert torch.equal(one, other)
    turned = load_block(write(make_model(family)), rope=True)
    assert not torch.equal(passed(turned)[0], without[0])
