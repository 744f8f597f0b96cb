"""Models: shapes, placements, what is trained and what is frozen, errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medvision.models import MODEL_LABELS, build_model
from medvision.models.dropout import Dropout
from medvision.models.flops import forward_flops
from medvision.models.settings import LlmViTSettings, resolve_settings
from medvision.training import portable_state

SIZES = {"image_size": (8, 16, 8), "patch_size": (4, 8, 4)}
SMALL = {"embed_dim": 16, "depth": 2, "heads": 2}


def settings_of(label: str, block: Path) -> dict:
    needs_block = label not in ("ViT_Baseline", "ViT_Depth", "ViT_MLP")
    return {**SMALL, **({"llm": {"source": str(block)}} if needs_block else {})}


@pytest.mark.parametrize("label", MODEL_LABELS)
def test_every_label_maps_images_to_logits(label: str, tiny_llama: Path, isolated_cache: Path) -> None:
    model = build_model(label, **SIZES, in_channels=2, out_channels=3, **settings_of(label, tiny_llama))
    assert model(torch.rand(2, 2, 8, 16, 8)).shape == (2, 3, 8, 16, 8)


@pytest.mark.parametrize("placement", ["encoder-decoder", "after-embedding"])
@pytest.mark.parametrize("mapper", ["lora", "linear"])
def test_the_block_is_frozen_and_gradients_pass_through_it(
    placement: str, mapper: str, tiny_llama: Path, isolated_cache: Path
) -> None:
    model = build_model(
        "MedVisionLlama", **SIZES, **settings_of("MedVisionLlama", tiny_llama), placement=placement, mapper=mapper
    )
    with torch.no_grad():  # a LoRA mapper's B starts at 0, so that its A has no gradient in the very first step
        for parameter in model.parameters():
            if parameter.requires_grad and not parameter.any():
                parameter.fill_(0.01)
    model(torch.rand(1, 1, 8, 16, 8)).sum().backward()
    assert not any(parameter.requires_grad for parameter in model.bridge.block.parameters())
    trained = [p for p in model.bridge.mapper1.parameters() if p.requires_grad]
    assert trained
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)
    assert not any("block" in name for name in portable_state(model) if name.startswith("bridge.block"))


def test_the_block_changes_the_logits(tiny_llama: Path, isolated_cache: Path) -> None:
    model = build_model("MedVisionLlama", **SIZES, **settings_of("MedVisionLlama", tiny_llama)).eval()
    image = torch.rand(1, 1, 8, 16, 8)
    with torch.no_grad():
        before = model(image)
        for parameter in model.bridge.block.parameters():
            parameter.mul_(1.5)
        assert (model(image) - before).abs().max() > 1e-6


def test_a_lora_mapper_trains_its_low_rank_part_only(tiny_llama: Path, isolated_cache: Path) -> None:
    options = settings_of("MedVisionLlama", tiny_llama)
    model = build_model("MedVisionLlama", **SIZES, **options, lora={"rank": 3})
    trained = sum(p.numel() for p in model.bridge.parameters() if p.requires_grad)
    assert trained == 2 * 3 * (16 + 32)
    frozen = build_model("MedVisionLlama_Frozen", **SIZES, **options)
    assert sum(p.numel() for p in frozen.bridge.parameters() if p.requires_grad) == 2 * 16 * 32


def test_voxels_come_back_where_they_were() -> None:
    model = build_model("ViT_Baseline", **SIZES, **SMALL)
    tokens = torch.arange(2 * 2 * 2).float()[None, :, None].expand(1, 8, 4 * 8 * 4)
    voxels = model._to_voxels(tokens)
    assert voxels.shape == (1, 1, 8, 16, 8)
    assert (voxels[0, 0, :4, 8:, :4] == 2).all()
    assert (voxels[0, 0, 4:, :8, 4:] == 5).all()


@pytest.mark.parametrize(
    ("label", "options", "message"),
    [
        ("MedVisionLama", {}, "did you mean MedVisionLlama"),
        ("MedVisionLlama", {}, "setting llm="),
        ("ViT_Baseline", {"embed_dim": 10, "heads": 4}, "multiple of heads"),
        ("ViT_Baseline", {"depht": 3}, "depht"),
        ("ViT_Baseline", {"image_size": (9, 16, 8)}, "multiple of patch_size"),
    ],
)
def test_wrong_models_say_what_is_wrong(label: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(label, **{**SIZES, **options})


def test_dropout_keeps_the_mean_and_is_off_in_evaluation() -> None:
    torch.manual_seed(0)
    layer, ones = Dropout(0.3), torch.ones(999, 101)
    dropped = layer(ones)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert torch.equal(layer.eval()(ones), ones)


@pytest.mark.parametrize("label", ["ViT_Baseline", "ViT_MLP"])
def test_the_estimate_of_operations_is_near_what_torch_counts(label: str) -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    sizes = {"image_size": (16, 16, 16), "patch_size": (4, 4, 4)}
    model = build_model(label, **sizes, **SMALL).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(torch.rand(1, 1, 16, 16, 16))
    assert forward_flops(resolve_settings(label, **SMALL), **sizes) == pytest.approx(
        counter.get_total_flops(), rel=0.01
    )


def test_the_paper_model_is_dominated_by_its_block() -> None:
    settings = resolve_settings("MedVisionLlama", llm={"source": "x"})
    assert isinstance(settings, LlmViTSettings)
    plain = forward_flops(resolve_settings("ViT_Baseline"), (128,) * 3, (8,) * 3)
    assert forward_flops(settings, (128,) * 3, (8,) * 3) > 20 * plain
