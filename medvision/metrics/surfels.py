"""Area of the marching-cubes surface inside every 2x2x2 neighbourhood of voxels, derived from the
geometry.

A neighbourhood's code has one bit per voxel, set inside the mask: voxel (i, j, k) of the cube, each
0 or 1, is bit 4 i + 2 j + k. The surface cuts the cube's edges halfway between an inside and an
outside voxel (Lorensen and Cline, "Marching cubes", SIGGRAPH 1987). It is found in three steps:

1. A code and its complement have the same surface; the one with at most four voxels inside is
  taken.
2. On each face, every run of inside voxels is cut off by one segment, so that two voxels that meet
   only across the face's diagonal stay apart. The segments of the six faces chain into closed
   polygons.
3. A polygon is cut into triangles so that its area in the unit cube is the largest. Ways that tie
   there have their triangles in the same planes, so that they tie at every spacing.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_Point = tuple[float, float, float]
_Triangle = tuple[_Point, _Point, _Point]


def surfel_areas(spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area in mm² of the surface in each of the 256 neighbourhoods, float64 [256].

    Args:
        spacing: voxel size along the three axes in mm, [3].
    """
    return _areas(*spacing.tolist())


@functools.lru_cache(maxsize=1024)  # the cases of a task share few spacings
def _areas(x: float, y: float, z: float) -> NDArray[np.float64]:
    spacing = np.array([x, y, z])
    areas: NDArray[np.float64] = np.linalg.norm(
        _area_vectors() * (spacing.prod() / spacing), axis=-1
    ).sum(axis=-1)
    areas.setflags(write=False)
    return areas


@functools.cache
def _area_vectors() -> NDArray[np.float64]:
    """Area vectors (half the cross product of two sides) of every code's triangles in the unit
    cube, [256, 4, 3].

    No surface has more than four triangles; missing ones are zero. A spacing s scales component i
    of an area vector by the product of the other two spacings.
    """
    vectors = np.zeros((256, 4, 3))
    for code in range(256):
        if code.bit_count() <= 4:
            triangles = [
                triangle
                for polygon in _polygons(code)
                for triangle in _largest_triangulation(polygon)
            ]
            for index, triangle in enumerate(triangles):
                vectors[[code, 255 - code], index] = _area_vector(triangle)
    return vectors


def _polygons(code: int) -> Iterator[list[_Point]]:
    """The closed polygons of a code with at most four voxels inside."""
    neighbours: dict[_Point, list[_Point]] = {}
    for axis, side in itertools.product(range(3), (0, 1)):
        for start, end in _face_segments(code, axis, side):
            neighbours.setdefault(start, []).append(end)
            neighbours.setdefault(end, []).append(start)
    while neighbours:
        first = next(iter(neighbours))
        polygon, previous, current = [first], first, neighbours[first][0]
        while current != first:
            polygon.append(current)
            one, other = neighbours[current]
            previous, current = current, other if one == previous else one
        for point in polygon:
            del neighbours[point]
        yield polygon


def _face_segments(code: int, axis: int, side: int) -> Iterator[tuple[_Point, _Point]]:
    """One segment per run of inside voxels around a face of the cube."""
    face = ((0, 0), (0, 1), (1, 1), (1, 0))
    corners = [(*corner[:axis], side, *corner[axis:]) for corner in face]
    inside = [bool(code >> (4 * x + 2 * y + z) & 1) for x, y, z in corners]
    for start in range(4):
        if inside[start] and not inside[start - 1]:
            end = next(n % 4 for n in range(start, start + 4) if not inside[(n + 1) % 4])
            yield (
                _middle(corners[start - 1], corners[start]),
                _middle(corners[end], corners[(end + 1) % 4]),
            )


def _middle(one: tuple[int, ...], other: tuple[int, ...]) -> _Point:
    return (one[0] + other[0]) / 2, (one[1] + other[1]) / 2, (one[2] + other[2]) / 2


def _largest_triangulation(polygon: list[_Point]) -> list[_Triangle]:
    return max(
        _triangulations(polygon),
        key=lambda triangles: sum(math.hypot(*_area_vector(triangle)) for triangle in triangles),
    )


def _triangulations(polygon: list[_Point]) -> Iterator[list[_Triangle]]:
    """Every way to cut a polygon into triangles; the side from last to first vertex gets each
    apex.
    """
    if len(polygon) < 3:
        yield []
    for apex in range(1, len(polygon) - 1):
        triangle = (polygon[0], polygon[apex], polygon[-1])
        for left in _triangulations(polygon[: apex + 1]):
            for right in _triangulations(polygon[apex:]):
                yield [*left, triangle, *right]


def _area_vector(triangle: _Triangle) -> _Point:
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = triangle
    ux, uy, uz, vx, vy, vz = bx - ax, by - ay, bz - az, cx - ax, cy - ay, cz - az
    return (uy * vz - uz * vy) / 2, (uz * vx - ux * vz) / 2, (ux * vy - uy * vx) / 2
