"""nnU-Net."""

from typing import Any

from medvision.settings import Since
from tests.medvision.models.at_bottleneck import SINCE

SMALL: dict[str, Any] = {"features": (8, 8, 16)}
MEANINGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "NnUNetSettings": (
        "label features",
        SINCE | {"deep_supervision": Since("0.2", before=False)},
        "name overrides",
    )
}
IDS = {"nnU-Net": ("23b99d7b92d4ceff", "d8cc6422f3e4af87")}
