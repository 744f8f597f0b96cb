"""What the families say of their size beside the networks that are built, for every label."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from medvision.models import MODEL_LABELS, build_model
from medvision.models.registry import resolve_settings
from medvision.models.sizes import Sizes
from tests.medvision.models.small import settings_of

PAPER = Sizes((128, 128, 128), (8, 8, 8))
# The tiny Llama's layer: q and o 32 x 32, k and v 32 x 16, three of 32 x 64.
BLOCK = {"hidden_size": 32, "parameters": 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64}


@pytest.mark.parametrize("label", MODEL_LABELS)
def test_a_family_counts_the_parameters_and_operations_that_torch_counts(
    label: str, tiny_llama: Path, isolated_cache: Path
) -> None:
    sizes = Sizes((32, 40, 24), (8, 8, 8), in_channels=2, out_channels=3)
    settings = settings_of(label, tiny_llama)
    model = build_model(
        label,
        image_size=sizes.image,
        patch_size=sizes.patch,
        in_channels=sizes.in_channels,
        out_channels=sizes.out_channels,
        **settings,
    ).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(torch.rand(1, sizes.in_channels, *sizes.image))
    resolved = resolve_settings(label, **settings)
    assert resolved.flops(sizes, BLOCK) == pytest.approx(counter.get_total_flops(), rel=0.02)
    norms = 3 * 32 if resolved.block else 0  # of the block, which its size leaves out
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert resolved.parameters(sizes, BLOCK) + norms == parameters


def test_the_paper_model_is_dominated_by_its_block() -> None:
    settings = resolve_settings("MedVisionLlama", llm={"source": "x"})
    plain = resolve_settings("ViT_Baseline").flops(PAPER)
    assert settings.flops(PAPER) > 20 * plain
    without = resolve_settings("MedVisionLlama", llm={"source": "x", "block": "identity"})
    assert without.flops(PAPER) < 3 * plain
    assert without.parameters(PAPER) < settings.parameters(PAPER) / 100


def test_a_matched_control_counts_all_layers_of_its_target() -> None:
    two = {"label": "MedVisionLlama", "llm": {"source": "x", "layer": [30, 31]}}
    wanted = resolve_settings(**two).parameters(PAPER)
    control = resolve_settings("ViT_MLP", params={"match": two})
    assert control.parameters(PAPER) == pytest.approx(wanted, rel=1e-3)
    assert wanted > 2 * 218_000_000


@pytest.mark.parametrize(
    ("label", "tokens"),
    [
        ("ViT_Baseline", 64),
        ("UNETR", 8),
        ("TransUNet", 8),
        ("Swin-UNet", 32**3),
        ("MissFormer", 512),
        ("nnU-Net", None),
    ],
)
def test_tokens_of_a_sample(label: str, tokens: int | None) -> None:
    assert resolve_settings(label).tokens(Sizes((32, 32, 32), (8, 8, 8))) == tokens
