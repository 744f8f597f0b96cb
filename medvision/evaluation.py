"""Predicts a case on its own grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from medvision.data.views.base import Network, PreprocessedCase
from medvision.device import autocast
from medvision.settings import Precision


@torch.no_grad()
def predict(
    model: nn.Module | Sequence[nn.Module],
    case: PreprocessedCase,
    *,
    device: torch.device,
    precision: Precision = "fp32",
) -> np.ndarray:
    """Predicted label groups, bool [G, X, Y, Z], on the case's own grid
    (`medvision.data.views.base.Placement.segment`); of several models the mean of their
    probabilities is cut.
    """
    image = torch.tensor(case.image).to(device).float()
    models = [model] if isinstance(model, nn.Module) else list(model)
    networks = [_probabilities(one, device, precision) for one in models]
    together = networks[0] if len(networks) == 1 else _mean_of(networks)
    masks = case.placement.segment(together, image)
    return masks.cpu().numpy()


@torch.no_grad()
def predict_on_grid(
    model: nn.Module,
    case: PreprocessedCase,
    *,
    device: torch.device,
    precision: Precision = "fp32",
) -> np.ndarray:
    """The same on the network's own grid, bool [G, *image_size]."""
    image = torch.tensor(case.image)[None].to(device).float()
    return (_probabilities(model, device, precision)(image)[0] > 0.5).cpu().numpy()


def _probabilities(model: nn.Module, device: torch.device, precision: Precision) -> Network:
    model.eval()

    def network(images: torch.Tensor) -> torch.Tensor:
        with autocast(device, precision):
            logits = model(images)
        return logits.float().sigmoid()

    return network


def _mean_of(networks: Sequence[Network]) -> Network:
    return lambda images: torch.stack([network(images) for network in networks]).mean(dim=0)
