"""Predicts a case on its own grid and scores it there, in mm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from medvision.data.nifti import Truth
from medvision.data.views.base import Network, PreprocessedCase
from medvision.device import autocast
from medvision.metrics import evaluate_case
from medvision.metrics.definitions import nsd_key
from medvision.metrics.settings import Scoring
from medvision.settings import Precision


@torch.no_grad()
def predict(
    model: nn.Module,
    case: PreprocessedCase,
    *,
    device: torch.device,
    precision: Precision = "fp32",
) -> np.ndarray:
    """Predicted label groups, bool [G, X, Y, Z], on the case's own grid
    (`medvision.data.views.base.Placement.segment`).
    """
    image = torch.tensor(case.image).to(device).float()
    masks = case.placement.segment(_probabilities(model, device, precision), image)
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


def score(
    prediction: np.ndarray,
    truth: Truth,
    groups: Sequence[str],
    scoring: Scoring,
    tolerances: Sequence[float],
) -> list[dict[str, Any]]:
    """One row per label group: every metric unrounded, its definitions, and `status` (see
    `evaluate_case`).

    `nsd` is the NSD at the first tolerance, `nsd_tolerance` in mm; `diagonal` is the volume's
    physical diagonal in mm, the cap of an infinite distance.
    """
    rows = []
    for name, predicted, true in zip(groups, prediction, truth.masks, strict=True):
        values = evaluate_case(
            predicted,
            true,
            truth.spacing,
            tolerances=tolerances,
            nsd=scoring.nsd,
            hd95=scoring.hd95,
            strict=scoring.strict_tolerance,
        )
        rows.append(
            {
                "group": name,
                **values,
                "nsd": values[nsd_key(tolerances[0])],
                "nsd_tolerance": float(tolerances[0]),
                "nsd_definition": scoring.nsd,
                "hd95_definition": scoring.hd95,
                "diagonal": float(np.linalg.norm(np.multiply(true.shape, truth.spacing))),
            }
        )
    return rows
