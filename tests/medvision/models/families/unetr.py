"""UNETR."""

from typing import Any

from tests.medvision.models.at_bottleneck import SINCE

SMALL: dict[str, Any] = {"feature_size": 8, "embed_dim": 24, "mlp_dim": 48, "heads": 2}
MEANINGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "UnetrSettings": (
        "label feature_size embed_dim mlp_dim heads dropout",
        SINCE,
        "name overrides",
    )
}
IDS = {"UNETR": ("44c49ea3b7b87ca3", "869b4eddec993c13")}
