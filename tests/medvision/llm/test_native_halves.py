"""Weights kept in 16 bits and positions that turn nothing, of every family without a row."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from medvision.llm import load_block, positions
from medvision.llm.halves import KeptLinear
from medvision.llm.native_block import NativeBlock
from medvision.llm.proven import NATIVE
from tests.medvision.llm.native_models import MODELS, quick_first
from tests.medvision.llm.test_halves import passed

# What stays in float32: transformers' own Conv1D; of T5 the map whose dtype it asks for.
_NO_LINEAR_MAPS = ("gpt2",)
_LEFT = {"t5": 1, "mt5": 1, "umt5": 1}
# Turned by complex numbers, by tables of the layer's own, in another order, or with a scale.
_STILL_TURNED = ("llama4_text", "deepseek_v2", "gptj", "codegen", "deepseek_v3", "gpt_oss")


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", quick_first(MODELS))
def test_half_the_bytes_give_the_same_bits(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    MODELS[name].make().to(dtype).save_pretrained(tmp_path)
    rotary = any(one.family == name and one.positions for one in NATIVE)
    for rope in {False, rotary}:
        whole, halves = (load_block(tmp_path, -1, rope=rope) for _ in range(2))
        halves.keep_halves()
        kept = [module for module in halves.modules() if isinstance(module, KeptLinear)]
        linear = [module for module in whole.modules() if isinstance(module, nn.Linear)]
        routers = [module for module in linear if type(module).__name__.endswith("Router")]
        assert len(kept) == len(linear) - len(routers) - _LEFT.get(name, 0)
        assert bool(kept) == (name not in _NO_LINEAR_MAPS)
        assert {module.weight.element_size() for module in kept} <= {2}
        for options in ({}, {"autocast": True}):
            for one, other in zip(passed(whole, **options), passed(halves, **options), strict=True):
                assert torch.equal(one, other)
                assert one.dtype == other.dtype


@pytest.mark.parametrize(
    "name", quick_first(one.family for one in NATIVE if one.positions == "rotary")
)
def test_positions_that_turn_nothing_are_left_out(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MODELS[name].make().save_pretrained(tmp_path)
    without = load_block(tmp_path, 0)
    assert isinstance(without, NativeBlock)
    monkeypatch.setattr(positions, "leave_unturned", lambda module: False)
    turned = load_block(tmp_path, 0)
    made = [block._positions.given(torch.zeros(1, 5, 32), block.extras)[0]
            for block in (without, turned)]  # fmt: skip
    for one, left in zip(made, (name not in _STILL_TURNED, False), strict=True):
        given = one.get("position_embeddings")
        assert (isinstance(given, tuple) and given[0].shape[-1] == 1) == left
    for options in ({}, {"autocast": True}):
        for one, other in zip(passed(turned, **options), passed(without, **options), strict=True):
            assert torch.equal(one, other)
