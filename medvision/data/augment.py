"""Random rotation and intensity change of a batch, drawn from (seed, epoch, case) and nothing else.

A resumed trial therefore sees the samples that an undisturbed one sees, whatever the batches, ranks or workers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch.nn import functional as F


def derive_seed(*parts: object) -> int:
    """A 63-bit seed out of any values, the same on every machine."""
    digest = hashlib.sha256("\n".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def augment(
    images: torch.Tensor,
    masks: torch.Tensor,
    cases: Sequence[str],
    *,
    seed: int,
    epoch: int,
    rotation_degrees: float,
    intensity: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotate in the X-Y plane by up to +- `rotation_degrees` and scale intensities by 1 +- `intensity`.

    Args:
        images: float [B, C, X, Y, Z]. masks: float [B, G, X, Y, Z], 0 or 1. cases: B case ids.

    Returns:
        The changed images, and masks, rotated trilinearly and cut at one half.
    """
    draws = torch.stack(
        [
            torch.rand(2, generator=torch.Generator().manual_seed(derive_seed("augment", seed, epoch, case)))
            for case in cases
        ]
    )
    angles = (2 * draws[:, 0] - 1) * math.radians(rotation_degrees)
    factors = 1 + (2 * draws[:, 1] - 1) * intensity
    if rotation_degrees:
        grid = _rotation_grid(angles, images.shape).to(images)
        images = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
        masks = (F.grid_sample(masks, grid, mode="bilinear", padding_mode="zeros", align_corners=False) >= 0.5).float()
    return images * factors.to(images).view(-1, 1, 1, 1, 1), masks


def _rotation_grid(angles: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Sampling grid of a rotation about Z through the centre, in voxels, so that unequal X and Y do not shear."""
    batch, _, size_x, size_y, _ = shape
    theta = torch.zeros(batch, 3, 4)
    # affine_grid's coordinates are (Z, Y, X), each scaled to [-1, 1] over its own axis.
    theta[:, 0, 0] = 1
    theta[:, 1, 1] = theta[:, 2, 2] = angles.cos()
    theta[:, 1, 2] = -angles.sin() * size_x / size_y
    theta[:, 2, 1] = angles.sin() * size_y / size_x
    return F.affine_grid(theta, [batch, 1, *shape[2:]], align_corners=False)
