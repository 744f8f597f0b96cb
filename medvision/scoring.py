"""Scores the masks of a case on its own grid, in mm, whoever made them. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medvision.data.nifti import Truth
from medvision.metrics import evaluate_case
from medvision.metrics.definitions import nsd_key
from medvision.metrics.own import measured
from medvision.metrics.settings import Scoring


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
            further=scoring.further,
        )
        own = {
            metric.name: measured(metric, predicted, true, truth.spacing) for metric in scoring.own
        }
        rows.append(
            {
                "group": name,
                **values,
                **own,
                "nsd": values[nsd_key(tolerances[0])],
                "nsd_tolerance": float(tolerances[0]),
                "nsd_definition": scoring.nsd,
                "hd95_definition": scoring.hd95,
                "diagonal": float(np.linalg.norm(np.multiply(true.shape, truth.spacing))),
            }
        )
    return rows
