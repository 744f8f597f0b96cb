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
    """One boundary seen from the other: distance (mm) and kind of each element, both [n].

    The weight of an element is `weights[kind]`: the area in mm² of a surfel of that code, or 1.
    """

    distance: NDArray[np.float64]
    kind: NDArray[np.uint8]
    weights: NDArray[np.float64]

    def weight(self, limit: float = np.inf) -> float:
        """Total weight of the elements within a distance: counted by kind, so that their order does
        not matter.
        """
        kinds = np.bincount(self.kind[self.distance <= limit], minlength=len(self.weights))
        return float((kinds * self.weights).sum())

    def moment(self) -> float:
        return float((self.distance * self.weights[self.kind]).sum())

    def linear_95(self) -> float:
        return float(np.percentile(self.distance, 95))

    def weighted_95(self) -> float:
        order = np.argsort(self.distance)
        area = np.cumsum(self.weights[self.kind[order]])
        return float(self.distance[order[np.searchsorted(area, 0.95 * (1 - _ROUNDING) * area[-1])]])


def surface_metrics(
    pair: Pair,
    spacing: NDArray[np.float64],
    tolerances: list[float],
    nsd: str,
    hd95: str,
    tie: float,
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
    surface = sum(side.weight() for side in near)
    values = {nsd_key(t): sum(side.weight(t + tie) for side in near) / surface for t in tolerances}
    if hd95 == "surfel":
        values["hd95"] = max(side.weighted_95() for side in sides)
    elif hd95 == "voxel-max":
        values["hd95"] = max(side.linear_95() for side in sides)
    else:
        values["hd95"] = float(np.percentile(np.concatenate([side.distance for side in sides]), 95))
    values["hd"] = max(float(side.distance.max()) for side in sides)
    values["assd"] = sum(side.moment() for side in sides) / sum(side.weight() for side in sides)
    return values


def _sides(pair: Pair, spacing: NDArray[np.float64], surfels: bool, limit: float) -> list[_Side]:
    """Both boundaries, each seen from the other; distances above `limit` (mm) may be infinite."""
    masks = pair.prediction, pair.truth
    find = kernels.surfel_boundary if surfels else kernels.voxel_boundary
    weights = surfel_areas(spacing) if surfels else np.ones(1)
    boundaries = [find(mask) for mask in masks]
    sides = []
    for mask, (boundary, count), (other, _) in zip(
        masks, boundaries, boundaries[::-1], strict=True
    ):
        kind = (
            kernels.surfel_codes(mask, boundary, count)
            if surfels
            else np.broadcast_to(np.uint8(0), count)
        )
        sides.append(
            _Side(boundary_distances(boundary, count, other, spacing, limit), kind, weights)
        )
    return sides
