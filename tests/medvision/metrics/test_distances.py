"""The two searches for the nearest boundary voxel against scipy's distance transform."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from medvision.metrics import distances, kernels, nearest
from medvision.metrics.masks import pack


def sparse(seed: int, shape: tuple[int, int, int], voxels: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    mask = np.zeros(shape, bool)
    mask[tuple(generator.integers(0, shape, (voxels, 3)).T)] = True
    return mask


@pytest.fixture
def few_rows(monkeypatch):
    """Nearly every voxel goes on to the transform."""
    monkeypatch.setattr(distances, "_ROWS", 3)
    distances._nearest_rows.cache_clear()
    yield
    distances._nearest_rows.cache_clear()


SPACINGS = [
    (1.0, 1.0, 1.0),
    (0.3, 2.0, 0.9),
    (4.0, 0.25, 1.0),
    (0.01, 1.0, 30.0),
    (50.0, 1.0, 0.02),
]
SHAPES = [(40, 30, 100), (2, 90, 200), (90, 2, 65), (60, 50, 3)]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_and_transform_equal_scipy(shape, spacing):
    check(shape, spacing)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("few_rows")
def test_transform_alone_equals_scipy(shape, spacing):
    check(shape, spacing)


def check(shape, spacing):
    for seed, (sources, targets) in enumerate([(800, 1), (800, 5), (300, 400)]):
        source, target = sparse(seed, shape, sources), sparse(seed + 99, shape, targets)
        expected = distance_transform_edt(~target, sampling=spacing)[source]
        words, other, step = pack(source), pack(target), np.array(spacing)
        found = distances.boundary_distances(words, len(expected), other, step, np.inf)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
        for limit in np.quantile(found, (0.1, 0.5, 0.9), method="nearest").tolist():
            near = distances.boundary_distances(words, len(expected), other, step, limit)
            within = found <= limit  # among them one that equals the limit
            np.testing.assert_allclose(near[within], found[within], rtol=1e-12)
            assert (near[~within] >= limit * (1 - 1e-12)).all()


def test_patience_decides_how_far_rows_are_looked_at_but_never_what_is_found():
    shape = (40, 40, 80)
    source, target = sparse(1, shape, 4000), sparse(2, shape, 60)
    expected = distance_transform_edt(~target)[source] ** 2
    offsets, lateral = distances._nearest_rows(shape[:2], (1.0, 1.0), np.inf)
    squares = np.arange(128.0) ** 2
    decided = []
    for patience in (0, 20_000, 10**9):
        found = nearest.by_rows(
            pack(source),
            pack(target),
            len(expected),
            offsets,
            lateral,
            squares,
            np.inf,
            20,
            patience,
        )
        known = found >= 0
        np.testing.assert_allclose(found[known], expected[known], rtol=1e-12)
        decided.append(int(known.sum()))
    assert 0 < decided[0] < decided[1] < decided[2]


def test_coordinates_are_in_scan_order():
    mask = sparse(3, (11, 7, 150), 90)
    np.testing.assert_array_equal(
        kernels.coordinates(pack(mask), int(mask.sum())), np.argwhere(mask)
    )
