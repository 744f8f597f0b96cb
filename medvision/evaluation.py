"""Predicts a case on its own grid and scores it there, in mm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from medvision.data.volumes import PreprocessedCase, Truth
from medvision.metrics import evaluate_case
from medvision.metrics.definitions import nsd_key
from medvision.precision import autocast
from medvision.recipe import Precision, Scoring


@torch.no_grad()
def predict(
    model: nn.Module,
    case: PreprocessedCase,
    shape: Sequence[int],
    *,
    device: torch.device,
    precision: Precision = "fp32",
) -> np.ndarray:
    """Predicted label groups, bool [G, *shape], on the case's own grid.

    The probabilities are resampled (trilinear, the inverse of how the input was made) and then cut
    at one half, so that the boundary is not that of the coarse grid.
    """
    model.eval()
    image = torch.tensor(case.image)[None].to(device).float()
    with autocast(device, precision):
        logits = model(image)
    if case.geometry is not None:
        groups = logits[0].float().sigmoid()
        return np.stack([(case.geometry.to_case(group) > 0.5).cpu().numpy() for group in groups])
    fine = F.interpolate(
        logits.float().sigmoid(), size=tuple(shape), mode="trilinear", align_corners=False
    )
    return (fine[0] > 0.5).cpu().numpy()


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
