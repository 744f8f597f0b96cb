"""The estimates of operations beside torch's own counter, for every label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from medvision.models import MODEL_LABELS, build_model
from medvision.models.flops import forward_flops, token_count
from medvision.models.settings import LlmViTSettings, resolve_settings

VIT = {"embed_dim": 16, "depth": 2, "heads": 2}
SMALL: dict[str, dict[str, Any]] = {
    "UNet++": {"features": (8, 8, 16, 32, 64, 8)},
    "nnU-Net": {"features": (8, 16, 32, 64)},
    "UNETR": {"feature_size": 8, "embed_dim": 48, "mlp_dim": 96, "heads": 4},
    "Swin-UNet": {"feature_size": 12, "depths": (1, 1, 1, 1)},
    "TransUNet": {"features": (8, 16, 16, 32), "embed_dim": 48, "heads": 4, "depth": 2},
    "MissFormer": {"base_dim": 8, "depth": 1, "bridge_depth": 2},
}


def settings_of(label: str, block: Path) -> dict[str, Any]:
    """Small settings of any label."""
    llm = {"llm": {"source": str(block)}} if label.startswith("MedVision") else {}
    return SMALL.get(label, VIT) | llm


@pytest.mark.parametrize("label", MODEL_LABELS)
def test_the_estimate_of_operations_is_near_what_torch_counts(
    label: str, tiny_llama: Path, isolated_cache: Path
) -> None:
    sizes: dict[str, Any] = {"image_size": (32, 40, 24), "patch_size": (8, 8, 8)}
    settings = settings_of(label, tiny_llama)
    model = build_model(label, **sizes, out_channels=2, **settings).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(torch.rand(1, 1, *sizes["image_size"]))
    # The tiny Llama's layer: q and o 32 x 32, k and v 32 x 16, three of 32 x 64.
    block = {"hidden_size": 32, "parameters": 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64}
    estimate = forward_flops(
        resolve_settings(label, **settings), **sizes, out_channels=2, block=block
    )
    assert estimate == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_the_paper_model_is_dominated_by_its_block() -> None:
    settings = resolve_settings("MedVisionLlama", llm={"source": "x"})
    assert isinstance(settings, LlmViTSettings)
    plain = forward_flops(resolve_settings("ViT_Baseline"), (128,) * 3, (8,) * 3)
    assert forward_flops(settings, (128,) * 3, (8,) * 3) > 20 * plain
    without = resolve_settings("MedVisionLlama", llm={"source": "x", "block": "identity"})
    assert forward_flops(without, (128,) * 3, (8,) * 3) < 3 * plain


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
    assert token_count(resolve_settings(label), (32, 32, 32), (8, 8, 8)) == tokens
