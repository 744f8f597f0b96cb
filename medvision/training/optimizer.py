"""Optimizer and schedule of the learning rate, as the recipe names them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from medvision.training.settings import Training

MOMENTUM, POWER = 0.99, 0.9  # nnU-Net's (Isensee et al. 2021)


def make_optimizer(
    model: nn.Module, recipe: Training, device: torch.device
) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # One kernel for all parameters on a GPU; the CPU keeps torch's default, on which the golden
    # losses rest.
    fused = True if device.type == "cuda" else None
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            trained,
            lr=recipe.lr,
            momentum=MOMENTUM,
            nesterov=True,
            weight_decay=recipe.weight_decay,
            fused=fused,
        )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return kind(trained, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=fused)


def make_schedule(optimizer: torch.optim.Optimizer, recipe: Training, total_steps: int) -> Any:
    """`plateau` as the paper (factor 0.5, patience 10 epochs); `onecycle`, `cosine` and
    `poly` (nnU-Net's) step with every batch.
    """
    schedules = torch.optim.lr_scheduler
    if recipe.schedule == "plateau":
        return schedules.ReduceLROnPlateau(optimizer, factor=0.5, patience=10)
    if recipe.schedule == "onecycle":
        return schedules.OneCycleLR(optimizer, max_lr=recipe.lr, total_steps=total_steps)
    if recipe.schedule == "cosine":
        return schedules.CosineAnnealingLR(optimizer, T_max=total_steps)
    if recipe.schedule == "poly":
        return schedules.PolynomialLR(optimizer, total_iters=total_steps, power=POWER)
    return None
