"""Batches: which cases are in them, and how they get to the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from medvision.data.views.base import PreprocessedCase
from medvision.device import moved
from medvision.seeds import derive_seed


def epoch_batches(
    ids: Sequence[str], size: int, steps: int, *, seed: int, epoch: int
) -> list[list[str]]:
    """The first `steps` batches of one pass in an order drawn from (seed, epoch)."""
    generator = torch.Generator().manual_seed(derive_seed("order", seed, epoch))
    order = torch.randperm(len(ids), generator=generator).tolist()
    return [
        [ids[index] for index in order[step * size : (step + 1) * size]] for step in range(steps)
    ]


def stack(
    cases: Mapping[str, PreprocessedCase], ids: Sequence[str], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [B, C, *image_size] and masks [B, G, *image_size] of these cases on the device, as
    float32.
    """
    images = torch.stack([torch.tensor(cases[case].image) for case in ids])
    masks = torch.stack([torch.tensor(cases[case].masks) for case in ids])
    return moved(images, device).float(), moved(masks, device).float()
