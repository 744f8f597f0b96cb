"""Optimizer and schedule of the learning rate, as the recipe names them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from medvision.training.settings import Training


def make_optimizer(
    model: nn.Module, recipe: Training, device: torch.device
) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    # One kernel for all parameters on a GPU; the CPU keeps torch's default, on which the golden
    # losses rest.
    return kind(
        trained,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        fused=True if device.type == "cuda" else None,
    )


def make_schedule(optimizer: torch.optim.Optimizer, recipe: Training, total_steps: int) -> Any:
    """`plateau` as the paper (factor 0.5, patience 10 epochs); `onecycle` and `cosine` step with
    every batch.
    """
    schedules = torch.optim.lr_scheduler
    if recipe.schedule == "plateau":
        return schedules.ReduceLROnPlateau(optimizer, factor=0.5, patience=10)
    if recipe.schedule == "onecycle":
        return schedules.OneCycleLR(optimizer, max_lr=recipe.lr, total_steps=total_steps)
    if recipe.schedule == "cosine":
        return schedules.CosineAnnealingLR(optimizer, T_max=total_steps)
    return None
