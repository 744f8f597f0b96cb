"""What the families share that can take a block at their coarsest level."""

from typing import Any

from medvision.models.language.settings import LoraSettings
from medvision.settings import Since

SINCE: dict[str, Any] = {
    "llm": Since("0.2", None),
    "placement": Since("0.2", "bottleneck"),
    "mapper": Since("0.2", "lora"),
    "lora": Since("0.2", LoraSettings()),
}
