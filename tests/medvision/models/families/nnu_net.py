"""nnU-Net."""

from typing import Any

from tests.medvision.models.at_bottleneck import SINCE

SMALL: dict[str, Any] = {"features": (8, 8, 16)}
MEANINGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "NnUNetSettings": ("label features", SINCE, "name overrides")
}
IDS = {"nnU-Net": ("23b99d7b92d4ceff", "d8cc6422f3e4af87")}
