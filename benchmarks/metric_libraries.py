"""The libraries that benchmarks/metrics.py compares with, what is aimed at, and the masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medvision.metrics import evaluate_case

TOLERANCE = 1.0
Masks = tuple[np.ndarray, np.ndarray]
Values = tuple[float, float]  # HD95 (mm), NSD at 1 mm; NaN where a library has none
Spacing = tuple[float, float, float]
Call = Callable[[Masks, Spacing], Values]


def make_masks(shape: tuple[int, int, int], name: str) -> Masks:
    """Prediction and truth: a wavy ellipsoid of 0.3 of each side, or one of about 4 voxels."""
    x, y, z = np.ogrid[: shape[0], : shape[1], : shape[2]]
    a, b, c = x / shape[0], y / shape[1], z / shape[2]
    if name == "small lesion":
        centre = [size / 2 for size in shape]
        return tuple(  # type: ignore[return-value]
            sum(((axis - m - shift) / 4) ** 2 for axis, m in zip((x, y, z), centre, strict=True))
            < 1
            for shift in (0.7, 0.0)
        )
    ball = sum(((axis - 0.5) / 0.3) ** 2 for axis in (a, b, c))
    wave = 0.06 * np.sin(19 * a) * np.cos(23 * b) + 0.05 * np.sin(17 * c + 9 * a)
    truth = ball + wave < 1
    prediction = ball + 1.5 * wave + 0.04 * np.sin(31 * a + 21 * c) < 1
    if name == "far false positive":
        prediction[1:5, 1:5, 1:5] = True
    return prediction, truth


def ours(nsd: str, hd95: str) -> Call:
    def call(masks: Masks, spacing: Spacing) -> Values:
        result = evaluate_case(*masks, spacing, tolerances=(TOLERANCE,), nsd=nsd, hd95=hd95)
        return float(result["hd95"]), float(result[f"nsd@{TOLERANCE}"])

    return call


def monai(subvoxels: bool) -> Call:
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    torch.set_num_threads(1)

    def call(masks: Masks, spacing: Spacing) -> Values:
        pair = [torch.from_numpy(mask)[None, None] for mask in masks]
        options = {"include_background": True, "spacing": spacing}
        distance = compute_hausdorff_distance(*pair, percentile=95, **options)
        dice = compute_surface_dice(*pair, [TOLERANCE], use_subvoxels=subvoxels, **options)
        return distance.item(), dice.item()

    return call


def surface_distance() -> Call:
    np.Inf = np.inf  # type: ignore[attr-defined]
    from surface_distance import metrics

    def call(masks: Masks, spacing: Spacing) -> Values:
        found = metrics.compute_surface_distances(masks[1], masks[0], spacing)
        return (
            metrics.compute_robust_hausdorff(found, 95),
            metrics.compute_surface_dice_at_tolerance(found, TOLERANCE),
        )

    return call


def medpy() -> Call:
    from medpy.metric.binary import hd95

    return lambda masks, spacing: (float(hd95(*masks, voxelspacing=spacing)), float("nan"))


@dataclass(frozen=True)
class Comparison:
    """A library's call, our definitions of NSD and HD95 that are the same, and what is aimed at."""

    library: str
    package: str
    make: Callable[[], Call]
    definitions: tuple[str, str]
    equal: float  # largest difference allowed, relative for HD95
    faster: int | None  # times, from 128³ upward


COMPARISONS = [
    Comparison(
        "MONAI HD95 + NSD surfel", "monai", lambda: monai(True), ("surfel", "voxel-max"), 1e-5, 8
    ),
    Comparison(
        "MONAI HD95 + NSD voxel", "monai", lambda: monai(False), ("voxel-max", "voxel-max"), 1e-5, 8
    ),
    Comparison(
        "surface-distance", "surface-distance", surface_distance, ("surfel", "surfel"), 1e-9, 3
    ),
    Comparison("medpy HD95", "medpy", medpy, ("voxel-max", "voxel-pooled"), 1e-9, None),
]
