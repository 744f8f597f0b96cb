"""Stages of a model by forward hooks, the measure of focus, and the arrays that a run keeps for
figures.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from medvision.activations import activation_maps, focus, fullest_slice
from medvision.models import build_model

SIZE, PATCH = (16, 16, 16), (4, 4, 4)
CPU = torch.device("cpu")


def maps_of(label: str, **settings: object) -> dict[str, np.ndarray]:
    model = build_model(
        label, image_size=SIZE, patch_size=PATCH, embed_dim=16, depth=2, heads=2, **settings
    )
    image = np.random.default_rng(0).random((1, *SIZE), dtype=np.float32)
    maps = activation_maps(model, image, device=CPU)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    with torch.no_grad():
        expected = model(torch.from_numpy(image)[None])[0, 0].sigmoid().numpy()
    assert maps["output"] == pytest.approx(expected, abs=1e-6)  # watching changes nothing
    return maps


def test_every_stage_of_a_model_with_a_block_is_seen(tiny_llama: Path) -> None:
    maps = maps_of("MedVisionLlama", llm={"source": str(tiny_llama)})
    assert list(maps) == ["encoder", "mapper 1", "LLM block", "mapper 2", "decoder", "output"]
    assert {maps[stage].shape for stage in maps if stage != "output"} == {(4, 4, 4)}


def test_a_model_without_a_block_has_an_encoder_and_a_decoder() -> None:
    assert list(maps_of("ViT_Baseline")) == ["encoder", "decoder", "output"]


def test_focus_compares_inside_with_everywhere() -> None:
    structure = np.zeros(SIZE, dtype=bool)
    structure[:4, :4, :4] = True  # one token of 64
    assert focus(np.ones((4, 4, 4)), structure) == pytest.approx(1.0)
    inside = np.zeros((4, 4, 4))
    inside[0, 0, 0] = 1
    assert focus(inside, structure) == pytest.approx(64.0)
    assert focus(1 - inside, structure) == 0.0
    assert np.isnan(focus(inside, np.zeros(SIZE, dtype=bool)))


def test_the_slice_holds_most_of_the_structure() -> None:
    structure = np.zeros(SIZE, dtype=bool)
    assert fullest_slice(structure) == 8
    structure[2:5, 2:5, 3] = structure[2:5, 2:5, 9] = True
    structure[2, 2, 12] = True
    assert fullest_slice(structure) == 3
