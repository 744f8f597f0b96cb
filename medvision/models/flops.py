"""Arithmetic of a model from its settings alone, for estimates; imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from medvision.models.settings import LlmViTSettings, ViTSettings

# Parameters of one layer of the paper's language models, used where the checkpoint is not here to be asked.
_PAPER_BLOCK = {"hidden_size": 4096, "parameters": 218_000_000}
_PAPER_BLOCKS = {
    "MedVision_BioBERT": {"hidden_size": 768, "parameters": 7_100_000},
    "MedVision_ClinicalBERT": {"hidden_size": 768, "parameters": 7_100_000},
    "MedVision_BioGPT": {"hidden_size": 1024, "parameters": 12_600_000},
}


def forward_flops(
    settings: ViTSettings,
    image_size: Sequence[int],
    patch_size: Sequence[int],
    *,
    out_channels: int = 1,
    block: Mapping[str, Any] | None = None,
) -> float:
    """Floating-point operations of one forward pass of one sample; training costs about three times as much.

    Two operations per weight and token, and 4 T^2 C per attention. `block`: `hidden_size` and `parameters` of the
    language-model layer, the paper's where it is None.
    """
    tokens = math.prod(size // patch for size, patch in zip(image_size, patch_size, strict=True))
    dim, voxels = settings.embed_dim, math.prod(patch_size)
    weights = settings.depth * (4 + 2 * settings.mlp_ratio) * dim**2 + voxels * dim * (1 + out_channels)
    weights += 2 * settings.mlp_ratio * dim**2 if settings.extra_mlp else 0
    total = 2 * tokens * weights + settings.depth * 4 * tokens**2 * dim
    if isinstance(settings, LlmViTSettings):
        block = block or _PAPER_BLOCKS.get(settings.label, _PAPER_BLOCK)
        mappers = 2 * dim * block["hidden_size"]
        total += 2 * tokens * (block["parameters"] + mappers) + 4 * tokens**2 * block["hidden_size"]
    return float(total)
