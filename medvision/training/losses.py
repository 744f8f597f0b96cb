"""Dice + cross-entropy on logits. The soft Dice has a gradient; the cut one, the official code's,
has none.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from medvision.heads import found_by, probabilities, with_background
from medvision.settings import Output


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


def strong_loss(
    logits: torch.Tensor,
    masks: torch.Tensor,
    *,
    output: Output = "softmax",
    whole_batch: bool = True,
    dice_weight: float = 1.0,
    bce_weight: float = 1.0,
) -> torch.Tensor:
    """Loss per sample, [B], as nnU-Net has it (Isensee et al. 2021).

    The soft Dice is that of each label group, smoothed by 1 voxel, and their mean; with
    `whole_batch` it is one of all samples' voxels together, the same for each sample. The
    cross-entropy of `softmax` is that of groups and background; a voxel of several groups counts as
    the first one's.

    Args:
        logits: [B, G, X, Y, Z], or [B, H, G, X, Y, Z] of H heads of deep supervision, of which each
            counts half of the one before.
        masks: [B, G, X, Y, Z].
    """
    if logits.dim() == 6:
        shares = [2.0**-place for place in range(logits.shape[1])]
        heads = [
            strong_loss(
                head,
                masks,
                output=output,
                whole_batch=whole_batch,
                dice_weight=dice_weight,
                bce_weight=bce_weight,
            )
            * (share / sum(shares))
            for share, head in zip(shares, logits.unbind(1), strict=True)
        ]
        return torch.stack(heads).sum(0)
    logits, masks = logits.float().flatten(2), masks.float().flatten(2)
    shown = probabilities(logits, output)
    overlap, sizes = (shown * masks).sum(-1), shown.sum(-1) + masks.sum(-1)
    if whole_batch:
        overlap, sizes = (part.sum(0).expand_as(part) for part in (overlap, sizes))
    dice = (1 - (2 * overlap + 1) / (sizes + 1)).mean(1)
    if output == "sigmoid":
        entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction="none").mean((1, 2))
    else:
        kinds = torch.where(masks.amax(1) > 0, masks.argmax(1) + 1, 0)
        entropy = F.cross_entropy(with_background(logits), kinds, reduction="none").mean(1)
    return dice_weight * dice + bce_weight * entropy


def cross_entropy(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy per sample, [B], of logits and masks [B, G, X, Y, Z], the mean over
    groups and voxels, in float32.
    """
    logits, masks = logits.float().flatten(1), masks.float().flatten(1)
    return F.binary_cross_entropy_with_logits(logits, masks, reduction="none").mean(1)


def cut_counts(
    logits: torch.Tensor, masks: torch.Tensor, output: Output = "sigmoid"
) -> torch.Tensor:
    """What the Dice of a prediction is made of, float64 [3, G]: voxels of prediction and mask
    together, of the prediction, and of the mask, over the whole batch.
    """
    predicted, truth = found_by(logits.detach(), output).flatten(2), masks.flatten(2) > 0
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


def pooled_dice(counts: torch.Tensor) -> float:
    """Dice of `cut_counts` [3, G], averaged over the label groups that are there or were found."""
    overlap, predicted, truth = counts
    there = predicted + truth > 0
    return float((2 * overlap / (predicted + truth))[there].mean()) if there.any() else 1.0


def hard_dice(
    logits: torch.Tensor, masks: torch.Tensor, output: Output = "sigmoid"
) -> torch.Tensor:
    """Dice per sample, [B], of what logits predict, averaged over label groups; 1 where both are
    empty.
    """
    predicted, truth = found_by(logits, output).flatten(2), masks.flatten(2) > 0
    sizes = predicted.sum(-1) + truth.sum(-1)
    overlap = (predicted & truth).sum(-1)
    return torch.where(
        sizes > 0, 2 * overlap / sizes.clamp(min=1), torch.ones_like(sizes, dtype=torch.float)
    ).mean(1)
