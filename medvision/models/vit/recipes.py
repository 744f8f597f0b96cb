"""The settings that make the official networks out of ours, by label.

Read in the official code at commit 1b951b5 and in loralib 0.1.2, whose alpha is 1 and whose biases
are trained. What is the same in both is not repeated here, and linear layers and norms start in
both as torch starts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_PARTS: Mapping[str, Any] = MappingProxyType(
    {
        "position_std": 1.0,
        "last_norm": False,
        "dropout_at": "attention",
        "attention_start": "xavier",
    }
)
# Of every label with a language model. The hybrid has no official code; as the others it gets what
# its parts have there. The official BERT and BioGPT models do not run: under this recipe they are
# the official MedVisionLlama with the last layer of their language model.
OFFICIAL_LANGUAGE: Mapping[str, Any] = MappingProxyType(
    {
        **_PARTS,
        "placement": "after-embedding",
        "llm": {"kv_pairing": "tiled", "final_norm_weights": "ones"},
        "lora": {"alpha": 1.0, "bias": "trained"},
    }
)
OFFICIAL: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "ViT_Baseline": _PARTS,
        "ViT_Depth": _PARTS,
        "ViT_MLP": {**_PARTS, "extra_widths": "official", "extra_residual": False},
    }
)
