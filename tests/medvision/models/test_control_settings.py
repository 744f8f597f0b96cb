"""Controls under the official recipe, and what of a trained block takes part."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from medvision.llm import BlockError, load_block
from medvision.llm.scrambled import changed_fingerprint
from medvision.models import build_model, resolve_settings
from orchestrator.trial import context as trial_context
from tests.medvision.llm.native_models import MODELS

SIZES: dict[str, Any] = {"image_size": (8, 8, 8), "patch_size": (4, 4, 4)}
SMALL = {"embed_dim": 16, "depth": 2, "heads": 2}


@pytest.mark.parametrize("control", ["linear", "mlp"])
def test_the_official_recipe_asks_of_a_stand_in_nothing_that_it_lacks(control: str) -> None:
    llm = {"source": "x", "control": control}
    found = resolve_settings("MedVisionLlama", "official", llm=llm)
    assert (found.llm.control, found.llm.final_norm_weights) == (control, "checkpoint")
    assert found.placement == "after-embedding"
    real = resolve_settings("MedVisionLlama", "official", llm={"source": "x"})
    assert (real.llm.kv_pairing, real.llm.final_norm_weights) == ("tiled", "ones")


@pytest.mark.parametrize("rope", [False, True])
@pytest.mark.parametrize("family", ["t5", "deberta-v2", "gpt_neox"])
def test_every_weight_of_a_trained_block_has_a_part_in_the_result(
    family: str, rope: bool, tmp_path: Path, isolated_cache: Path
) -> None:
    """DDP waits for ever for the gradient of one that has none."""
    MODELS[family].make().save_pretrained(tmp_path / "block")
    llm = {"source": str(tmp_path / "block"), "trainable": True, "layer": 1, "rope": rope}
    torch.manual_seed(0)
    model = build_model("MedVisionLlama", **SIZES, **SMALL, llm=llm)
    model(torch.rand(2, 1, 8, 8, 8)).square().sum().backward()
    trained = {
        name: parameter.grad
        for name, parameter in model.bridge.block.named_parameters()
        if parameter.requires_grad
    }
    assert len(trained) > 5
    assert [name for name, gradient in trained.items() if gradient is None] == []


def test_other_head_pairs_are_refused_where_more_belongs_to_single_heads(tmp_path: Path) -> None:
    MODELS["olmo2"].make().save_pretrained(tmp_path / "olmo2")
    block = load_block(tmp_path / "olmo2")
    assert block.heads != block.kv_heads
    with pytest.raises(BlockError, match=r"kv_pairing: tiled .*q_norm.weight of a olmo2 layer"):
        block.tile_kv_heads()
    MODELS["qwen3_moe"].make().save_pretrained(tmp_path / "qwen")
    load_block(tmp_path / "qwen").tile_kv_heads()  # the norm of its heads is one for all


def test_a_scrambled_block_of_another_checkpoint_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = SimpleNamespace(fingerprint="")
    monkeypatch.setattr(trial_context, "block_fingerprint", lambda model: found.fingerprint)
    for control in ("permuted", "spectrum"):
        llm = {"source": "x", "control": control, "random_seed": 5}
        context: Any = SimpleNamespace(
            model_spec=resolve_settings("MedVisionLlama", llm=llm),
            block="planned",
            job=SimpleNamespace(cell=SimpleNamespace(model="M")),
        )
        found.fingerprint = changed_fingerprint(control, 5, "planned")
        trial_context._refuse_another_block(context, torch.nn.Identity())
        found.fingerprint = changed_fingerprint(control, 5, "another")
        with pytest.raises(RuntimeError, match="finds another language-model block for M"):
            trial_context._refuse_another_block(context, torch.nn.Identity())
