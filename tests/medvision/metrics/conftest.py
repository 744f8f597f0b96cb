"""An independent evaluation of a case: boundaries by shifting, all pairwise distances, areas out of
scikit-image.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import numpy as np
import pytest
from skimage.measure import marching_cubes, mesh_surface_area


@functools.cache
def lorensen_mesh(code: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces in one 2x2x2 neighbourhood; voxel (i, j, k) is bit 4 i + 2 j + k."""
    if code.bit_count() > 4:  # the surface of a code is that of its complement
        code = 255 - code
    volume = np.array([code >> bit & 1 for bit in range(8)], dtype=float).reshape(2, 2, 2)
    vertices, faces, _, _ = marching_cubes(volume, 0.5, method="lorensen", allow_degenerate=True)
    return vertices.astype(float), faces


def lorensen_area(code: int, spacing: np.ndarray) -> float:
    if code in (0, 255):
        return 0.0
    vertices, faces = lorensen_mesh(code)
    return float(mesh_surface_area(vertices * spacing, faces))


def voxel_elements(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices [n, 3] and weights [n] of the voxels inside with a neighbour outside."""
    inside = {tuple(index) for index in np.argwhere(mask).tolist()}
    steps = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    boundary = [
        (x, y, z)
        for x, y, z in inside
        if any((x + i, y + j, z + k) not in inside for i, j, k in steps)
    ]
    return np.array(boundary, dtype=float).reshape(-1, 3), np.ones(len(boundary))


def surfel_elements(mask: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices [n, 3] and areas [n] of the corners that the surface passes."""
    padded = np.pad(mask.astype(int), 1)
    size = np.array(mask.shape) + 1
    codes = sum(
        padded[i : i + size[0], j : j + size[1], k : k + size[2]] << (4 * i + 2 * j + k)
        for i, j, k in itertools.product((0, 1), repeat=3)
    )
    indices = np.argwhere((codes != 0) & (codes != 255))
    found, kind = np.unique(codes[tuple(indices.T)], return_inverse=True)
    areas = np.array([lorensen_area(int(code), spacing) for code in found])
    return indices.astype(float), areas[kind]


def weighted_quantile(distance: np.ndarray, weight: np.ndarray) -> float:
    order = np.argsort(distance)
    reached = np.cumsum(weight[order]) >= (0.95 - 1e-9) * weight.sum()
    return float(distance[order][reached][0])


def evaluate_by_hand(
    prediction: np.ndarray,
    truth: np.ndarray,
    spacing: tuple[float, float, float],
    tolerance: float,
    nsd: str,
    hd95: str,
) -> dict[str, float]:
    """`evaluate_case` of two masks that both hold voxels."""
    p, t = prediction != 0, truth != 0
    tp, fp, fn, tn = (int(x.sum()) for x in (p & t, p & ~t, ~p & t, ~p & ~t))
    values = {
        "dice": 2 * tp / (2 * tp + fp + fn),
        "jaccard": tp / (tp + fp + fn),
        "sensitivity": tp / (tp + fn),
        "specificity": tn / (tn + fp) if tn + fp else np.nan,
        "precision": tp / (tp + fp),
        "accuracy": (tp + tn) / (tp + fp + fn + tn),
        "false_positive_volume": fp * spacing[0] * spacing[1] * spacing[2] / 1000,
    }
    step = np.array(spacing, dtype=float)
    for definition, metrics in ((nsd, ("nsd",)), (hd95, ("hd95", "hd", "assd"))):
        surfels = definition == "surfel"
        (pi, pw), (ti, tw) = (
            surfel_elements(m, step) if surfels else voxel_elements(m) for m in (p, t)
        )
        matrix = np.sqrt((((pi[:, None] - ti[None]) * step) ** 2).sum(axis=-1))
        from_p, from_t = matrix.min(axis=1), matrix.min(axis=0)
        both, weight = np.concatenate((from_p, from_t)), np.concatenate((pw, tw))
        if "nsd" in metrics:
            values[f"nsd@{tolerance}"] = float(
                weight[both <= tolerance + 1e-6].sum() / weight.sum()
            )
            continue
        if definition == "surfel":
            values["hd95"] = max(weighted_quantile(from_p, pw), weighted_quantile(from_t, tw))
        elif definition == "voxel-max":
            values["hd95"] = float(max(np.percentile(from_p, 95), np.percentile(from_t, 95)))
        else:
            values["hd95"] = float(np.percentile(both, 95))
        values["hd"] = float(both.max())
        values["assd"] = float((both * weight).sum() / weight.sum())
    return values


@pytest.fixture(scope="session")
def by_hand() -> Callable[..., dict[str, float]]:
    return evaluate_by_hand


@pytest.fixture(scope="session")
def area_by_skimage() -> Callable[[int, np.ndarray], float]:
    return lorensen_area
