"""NSD, HD95, HD and ASSD of two masks, from the distances between their boundaries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medvision.metrics import kernels
from medvision.metrics.definitions import nsd_key
from medvision.metrics.distances import boundary_distances
from medvision.metrics.masks import Pair
from medvision.metrics.surfels import surfel_areas

# Relative; a cumulative area that is 95 % but for rounding has reached it.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class _Side:
    """One boundary seen from the other: distance (mm) and weight (a surfel's area in mm², or 1), both [n]."""

    distance: NDArray[np.float64]
    weight: NDArray[np.float64]

    def within(self, limit: float) -> float:
        return float(self.weight[self.distance <= limit].sum())

    def linear_95(self) -> float:
        return float(np.percentile(self.distance, 95))

    def weighted_95(self) -> float:
        order = np.argsort(self.distance)
        area = np.cumsum(self.weight[order])
        return float(self.distance[order[np.searchsorted(area, 0.95 * (1 - _ROUNDING) * area[-1])]])


def surface_metrics(
    pair: Pair, spacing: NDArray[np.float64], tolerances: list[float], nsd: str, hd95: str, tie: float
) -> dict[str, float]:
    """`nsd@...`, `hd95`, `hd` and `assd` of two masks that both hold voxels; see `evaluate_case`.

    Args:
        spacing: voxel size in mm, [3].
        tie: what a distance may exceed a tolerance by and still be within, in mm.
    """
    sides = _sides(pair, spacing, hd95 == "surfel", np.inf)
    if (nsd == "surfel") == (hd95 == "surfel") or not tolerances:
        near = sides
    else:
        near = _sides(pair, spacing, nsd == "surfel", max(tolerances) + tie)
    surface = sum(float(side.weight.sum()) for side in near)
    values = {nsd_key(t): sum(side.within(t + tie) for side in near) / surface for t in tolerances}
    if hd95 == "surfel":
        values["hd95"] = max(side.weighted_95() for side in sides)
    elif hd95 == "voxel-max":
        values["hd95"] = max(side.linear_95() for side in sides)
    else:
        values["hd95"] = float(np.percentile(np.concatenate([side.distance for side in sides]), 95))
    values["hd"] = max(float(side.distance.max()) for side in sides)
    moved = sum(float((side.distance * side.weight).sum()) for side in sides)
    values["assd"] = moved / sum(float(side.weight.sum()) for side in sides)
    return values


def _sides(pair: Pair, spacing: NDArray[np.float64], surfels: bool, limit: float) -> list[_Side]:
    """Both boundaries, each seen from the other; distances above `limit` (mm) may be infinite."""
    masks = pair.prediction, pair.truth
    find = kernels.surfel_boundary if surfels else kernels.voxel_boundary
    boundaries = [find(mask) for mask in masks]
    sides = []
    for mask, (boundary, count), (other, _) in zip(masks, boundaries, boundaries[::-1], strict=True):
        if surfels:
            weight = surfel_areas(spacing)[kernels.surfel_codes(mask, boundary, count)]
        else:
            weight = np.broadcast_to(1.0, count)
        sides.append(_Side(boundary_distances(boundary, count, other, spacing, limit), weight))
    return sides
