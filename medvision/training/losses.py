"""Dice + binary cross-entropy on logits. The soft Dice has a gradient; the cut one, the official
code's, has none.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F


def dice_bce(
    logits: torch.Tensor, masks: torch.Tensor, *, dice_weight: float = 1.0, bce_weight: float = 1.0
) -> torch.Tensor:
    """Loss per sample, [B], of logits and masks [B, G, X, Y, Z], averaged over the label groups.

    Dice is the soft Dice of Milletari et al. 2016 (V-Net) on probabilities, smoothed by 1 voxel;
    the cross-entropy is averaged over voxels. Computed in float32 whatever the precision of the
    logits.
    """
    logits, masks = logits.float().flatten(2), masks.float().flatten(2)
    probabilities = logits.sigmoid()
    overlap = (probabilities * masks).sum(-1)
    dice = 1 - (2 * overlap + 1) / (probabilities.sum(-1) + masks.sum(-1) + 1)
    entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction="none").mean(-1)
    return (dice_weight * dice + bce_weight * entropy).mean(1)


def cross_entropy(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy per sample, [B], of logits and masks [B, G, X, Y, Z], the mean over
    groups and voxels, in float32.
    """
    logits, masks = logits.float().flatten(1), masks.float().flatten(1)
    return F.binary_cross_entropy_with_logits(logits, masks, reduction="none").mean(1)


def cut_counts(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """What the Dice of an output cut at probability 0.5 is made of, float64 [3, G]: voxels of
    prediction and mask together, of the prediction, and of the mask, over the whole batch.
    """
    predicted, truth = (logits.detach() > 0).flatten(2), masks.flatten(2) > 0
    return torch.stack(
        [part.sum((0, 2)).double() for part in (predicted & truth, predicted, truth)]
    )


def cut_dice_loss(counts: torch.Tensor) -> torch.Tensor:
    """1 - Dice of `cut_counts` [3, G], smoothed by 1 voxel, averaged over the label groups.

    The official code's Dice loss: one over all voxels of a batch, and without a gradient. What it
    smooths by is not known here, which matters where prediction and mask are all but empty.
    """
    overlap, predicted, truth = counts
    return (1 - (2 * overlap + 1) / (predicted + truth + 1)).mean()


def hard_dice(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Dice per sample, [B], of logits cut at probability 0.5, averaged over label groups; 1 where
    both are empty.
    """
    predicted, truth = (logits > 0).flatten(2), masks.flatten(2) > 0
    sizes = predicted.sum(-1) + truth.sum(-1)
    overlap = (predicted & truth).sum(-1)
    return torch.where(
        sizes > 0, 2 * overlap / sizes.clamp(min=1), torch.ones_like(sizes, dtype=torch.float)
    ).mean(1)
