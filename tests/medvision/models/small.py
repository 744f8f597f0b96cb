"""A small model of every label: for tests that hold whatever the label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medvision.models.registry import PAPER_SOURCES

VIT: dict[str, Any] = {"embed_dim": 16, "depth": 2, "heads": 2}
NETWORKS: dict[str, dict[str, Any]] = {
    "UNet++": {"features": (8, 8, 8, 16, 16, 8)},
    "nnU-Net": {"features": (8, 8, 16)},
    "UNETR": {"feature_size": 8, "embed_dim": 24, "mlp_dim": 48, "heads": 2},
    "Swin-UNet": {"feature_size": 12, "depths": (1, 1, 1, 1), "window": 2},
    "TransUNet": {"features": (8, 8, 8, 16), "embed_dim": 16, "heads": 2, "depth": 1},
    "MissFormer": {"base_dim": 8, "depth": 1, "bridge_depth": 1},
}


def settings_of(label: str, block: Path) -> dict[str, Any]:
    """Small settings of a label; `block` is the checkpoint of its language-model block, if any."""
    llm = {"llm": {"source": str(block)}} if label in PAPER_SOURCES else {}
    return NETWORKS.get(label, VIT) | llm
