"""UNet++."""

from typing import Any

from medvision.settings import Since
from tests.medvision.models.at_bottleneck import SINCE

SMALL: dict[str, Any] = {"features": (8, 8, 8, 16, 16, 8)}
MEANINGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "UNetPlusPlusSettings": (
        "label features",
        SINCE | {"deep_supervision": Since("0.2", before=False)},
        "name overrides",
    )
}
IDS = {"UNet++": ("acb51c4525aab97f", "47811535ef7547ab")}
