"""Swin-UNet."""

SMALL = {"feature_size": 12, "depths": (1, 1, 1, 1), "window": 2}
MEANINGS = {
    "SwinUNetSettings": (
        "label feature_size depths window dropout",
        {"heads": (3, 6, 12, 24)},
        "name overrides",
    )
}
IDS = {"Swin-UNet": ("06ac4900c157fed2", "f3014adc33a588eb")}
