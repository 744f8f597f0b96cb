"""The area table against scikit-image's marching cubes and against areas in closed form."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from medvision.metrics import kernels
from medvision.metrics.masks import read_pair
from medvision.metrics.surfels import surfel_areas

SPACINGS = [np.array(spacing) for spacing in [(1.0, 1.0, 1.0), (0.7, 3.1, 1.3), (5.0, 0.2, 0.9)]]


def surface_area(mask: np.ndarray, spacing: np.ndarray) -> float:
    words = read_pair(mask, mask).truth
    boundary, count = kernels.surfel_boundary(words)
    return float(surfel_areas(spacing)[kernels.surfel_codes(words, boundary, count)].sum())


@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
def test_all_256_codes_equal_scikit_image(area_by_skimage, spacing):
    expected = [area_by_skimage(code, spacing) for code in range(256)]
    np.testing.assert_allclose(surfel_areas(spacing), expected, rtol=1e-12, atol=1e-12)


def test_a_code_has_the_area_of_its_complement():
    areas = surfel_areas(SPACINGS[1])
    np.testing.assert_array_equal(areas, areas[::-1])


@pytest.mark.parametrize(
    ("axes", "flips"), itertools.product(itertools.permutations(range(3)), (0, 1, 5, 7))
)
def test_a_turned_or_mirrored_code_has_the_same_area(axes, flips):
    corners = np.array(list(itertools.product((0, 1), repeat=3)))  # corner n is bit n
    moved = (corners ^ [flips >> 2 & 1, flips >> 1 & 1, flips & 1])[:, axes] @ [4, 2, 1]
    codes = [sum((code >> bit & 1) << int(moved[bit]) for bit in range(8)) for code in range(256)]
    spacing = SPACINGS[1]
    np.testing.assert_allclose(
        surfel_areas(spacing[list(axes)])[codes], surfel_areas(spacing), rtol=1e-12
    )


@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
@pytest.mark.parametrize("size", [(1, 1, 1), (4, 6, 9), (3, 2, 80)])
def test_box_is_bevelled(spacing, size):
    """Its faces are half a voxel smaller all around, its twelve edges are flat bevels, its eight
    corners triangles.
    """
    mask = np.pad(np.ones(size, bool), 2)
    a, b, c = (np.array(size) - 1) * spacing
    x, y, z = spacing
    faces = 2 * (a * b + b * c + a * c)
    edges = 4 * (a * np.hypot(y, z) + b * np.hypot(x, z) + c * np.hypot(x, y)) / 2
    corners = 8 * np.sqrt((x * y) ** 2 + (y * z) ** 2 + (x * z) ** 2) / 8
    assert surface_area(mask, spacing) == pytest.approx(faces + edges + corners, rel=1e-12)
    assert surface_area(mask[2:-2, 2:-2, 2:-2], spacing) == surface_area(mask, spacing)


@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
def test_diagonal_plane_has_its_own_area(spacing):
    """A staircase of voxels below x + y = n is cut exactly along that plane; all else of the prism
    is known.
    """
    n, length = 7, 12
    x, y, _ = np.ogrid[:n, :n, :length]
    stairs = np.broadcast_to(x + y < n, (n, n, length))
    a, b, c = spacing
    slope = (2 * n - 1) * (length - 1) * c * np.hypot(a, b) / 2
    boundary, areas = codes_and_areas(stairs, spacing)
    # Corners on the slope: as many voxels inside below as above along z, in an L or a single one.
    on_slope = np.isin(boundary, [0b00000011, 0b00111111])
    assert on_slope.sum() == (2 * n - 1) * (length - 1)
    assert areas[on_slope].sum() == pytest.approx(slope, rel=1e-12)


def codes_and_areas(mask: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    words = read_pair(mask, mask).truth
    codes = kernels.surfel_codes(words, *kernels.surfel_boundary(words))
    return codes, surfel_areas(spacing)[codes]
