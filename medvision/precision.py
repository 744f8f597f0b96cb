"""Autocast by the name that a recipe uses, the same in training, prediction and activation maps."""

from __future__ import annotations

import torch

from medvision.recipe import Precision

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """A context in which matrix products run in `precision`; parameters stay float32."""
    return torch.autocast(
        device.type, _DTYPES.get(precision, torch.bfloat16), enabled=precision != "fp32"
    )
