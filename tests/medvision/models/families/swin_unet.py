"""Swin-UNet."""

from typing import Any

from tests.medvision.models.at_bottleneck import SINCE

SMALL: dict[str, Any] = {"feature_size": 12, "depths": (1, 1, 1, 1), "window": 2}
MEANINGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "SwinUNetSettings": (
        "label feature_size depths window dropout",
        {"heads": (3, 6, 12, 24), **SINCE},
        "name overrides",
    )
}
IDS = {"Swin-UNet": ("06ac4900c157fed2", "f3014adc33a588eb")}
