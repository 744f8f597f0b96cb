"""Random changes of a batch of samples, drawn from (seed, epoch, case) and nothing else.

A resumed trial therefore sees the samples that an undisturbed one sees, whatever the batches, ranks
or workers. Every kind of change has a stream of random numbers of its own, so that turning one on
or off leaves the others as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from medvision.data.rotation import Order, Rotation, rotated
from medvision.device import moved
from medvision.seeds import derive_seed

ELASTIC_SPANS = 4  # distances between control points along an axis


def augment(
    images: torch.Tensor,
    masks: torch.Tensor,
    cases: Sequence[str],
    *,
    seed: int,
    epoch: int,
    rotation_degrees: float = 0.0,
    intensity: float = 0.0,
    flip: Sequence[float] = (0.0, 0.0, 0.0),
    elastic: float = 0.0,
    gamma: float = 0.0,
    noise: float = 0.0,
    contrast: float = 0.0,
    rotation: Order = "linear",
    rotation_planes: str = "same",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Change a batch as `training.augmentation` says, on the device where it lies.

    Args:
        images: float [B, C, X, Y, Z].
        masks: float [B, G, X, Y, Z], 0 or 1.
        cases: B case ids.

    Returns:
        The changed images, and masks, moved as the images are and cut at one half.
    """

    def draws(kind: str, *shape: int) -> torch.Tensor:
        """Uniform in [0, 1), [B, *shape]."""
        seeds = [derive_seed(kind, seed, epoch, case) for case in cases]
        return torch.stack(
            [torch.rand(shape, generator=torch.Generator().manual_seed(each)) for each in seeds]
        )

    first = draws("augment", 2)
    angles = (2 * first[:, 0] - 1) * math.radians(rotation_degrees)
    factors = 1 + (2 * first[:, 1] - 1) * intensity
    if any(flip):
        chosen = draws("flip", 3) < torch.tensor(flip)
        images, masks = _flipped(images, chosen), _flipped(masks, chosen)
    if elastic:
        spans = (
            ELASTIC_SPANS + 3
        )  # the control points that a cubic spline over that many spans depends on
        grid = _elastic_grid(
            angles, elastic * (2 * draws("elastic", 3, spans, spans, spans) - 1), images
        )
        images = F.grid_sample(
            images, grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        masks = F.grid_sample(
            masks, grid, mode="bilinear", padding_mode="zeros", align_corners=False
        ).ge_(0.5)
    elif rotation_degrees:
        turn = Rotation(angles, masks, rotation)
        if rotation_planes == "official":
            images = rotated(images, angles, border=True, order=rotation, plane="yz")
        else:
            images = turn(images, border=True)
        masks = turn(masks, border=False).ge_(0.5)
    images = images * _each(factors, images)
    if contrast:
        spreads = _each(1 + (2 * draws("contrast", 1)[:, 0] - 1) * contrast, images)
        mean = images.mean((1, 2, 3, 4), keepdim=True)
        images = (images - mean) * spreads + mean
    if gamma:
        low, high = images.amin((2, 3, 4), keepdim=True), images.amax((2, 3, 4), keepdim=True)
        exponents = _each(((2 * draws("gamma", 1)[:, 0] - 1) * math.log1p(gamma)).exp(), images)
        span = (high - low).clamp_min(1e-12)
        images = ((images - low) / span).pow(exponents) * span + low
    if noise:
        deviations = _each(draws("noise", 1)[:, 0] * noise, images)
        images = images + deviations * _normals(
            [derive_seed("noise field", seed, epoch, case) for case in cases], images
        )
    return images, masks


def _each(values: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    """One value a sample, ready to be multiplied with the batch."""
    return moved(values, batch.device).to(batch.dtype).view(-1, 1, 1, 1, 1)


def _normals(seeds: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    """Standard normal numbers in the shape of a batch, made where it lies: a GPU's differ from the
    CPU's.
    """
    fields = torch.empty_like(like)
    for field, each in zip(fields, seeds, strict=True):
        field.normal_(generator=torch.Generator(like.device).manual_seed(each))
    return fields


def _flipped(volumes: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Mirror each sample along the axes that are chosen, bool [B, 3]."""
    axes = [[axis + 1 for axis in range(3) if row[axis]] for row in chosen.tolist()]
    return torch.stack([sample.flip(dims) for sample, dims in zip(volumes, axes, strict=True)])


def _elastic_grid(
    angles: torch.Tensor, displaced: torch.Tensor, images: torch.Tensor
) -> torch.Tensor:
    """Sampling grid [B, X, Y, Z, 3] of a free-form deformation followed by a rotation about Z: one
    interpolation for both.

    A cubic B-spline over control points (Rueckert et al. 1999), displaced by `displaced` [B, 3, n,
    n, n] as a share of their distance; below 0.4 nothing folds (Choi and Lee 2000).
    """
    shape = images.shape[2:]
    field = displaced.to(images)
    for axis, size in enumerate(shape):
        basis = _spline_basis(size).to(images)  # [size, n]
        field = torch.movedim(torch.movedim(field, 2 + axis, -1) @ basis.T, -1, 2 + axis)
    places = []
    for axis, size in enumerate(shape):
        own = torch.arange(size, device=images.device, dtype=images.dtype) - (size - 1) / 2
        own = own.view([-1 if axis == other else 1 for other in range(3)])
        places.append(own + field[:, axis] * (size / ELASTIC_SPANS))
    cos, sin = (part(angles).to(images).view(-1, 1, 1, 1) for part in (torch.cos, torch.sin))
    x, y, z = places
    moved = (z, cos * y - sin * x, cos * x + sin * y)  # grid_sample counts the last axis first
    return torch.stack(
        [2 * place / size for place, size in zip(moved, reversed(shape), strict=True)], -1
    )


def _spline_basis(size: int) -> torch.Tensor:
    """Weights of the control points for every voxel centre of an axis, [size, ELASTIC_SPANS + 3];
    rows sum to 1.
    """
    place = (torch.arange(size, dtype=torch.float64) + 0.5) / size * ELASTIC_SPANS
    distance = (place.view(-1, 1) - torch.arange(-1, ELASTIC_SPANS + 2, dtype=torch.float64)).abs()
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance).clamp_min(0) ** 3 / 6
    return torch.where(distance < 1, near, far)
