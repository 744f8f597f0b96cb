"""One optimizer step, and one look at the validation cases."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from medvision.device import autocast
from medvision.seeds import derive_seed
from medvision.training.batches import Draw, Sample, changed, validation_draws
from medvision.training.feed import Feed
from medvision.training.graphs import GraphedStep
from medvision.training.losses import (
    cross_entropy,
    cut_counts,
    cut_dice_loss,
    dice_bce,
    hard_dice,
    pooled_dice,
    strong_loss,
)
from medvision.training.ranks import Ranks
from medvision.training.settings import Training
from medvision.training.state import Metrics, TrainingState
from medvision.training.watch import Watch


def train_step(
    wrapped: nn.Module,
    state: TrainingState,
    feed: Feed,
    batch: Sequence[Sample],
    recipe: Training,
    ranks: Ranks,
    *,
    seed: int,
    epoch: int,
    micro_batch: int | None,
    graph: GraphedStep | None = None,
) -> None:
    """One optimizer step over a batch, of which each rank takes its share, in parts of
    `micro_batch` cases.

    Args:
        graph: `gradients` of a whole batch, computed in its own way.
    """
    wrapped.train()
    mine = batch[ranks.rank :: ranks.world]
    most = -(-len(batch) // ranks.world)
    size = min(micro_batch or most, most)
    starts = range(0, most, size)
    state.optimizer.zero_grad(set_to_none=True)
    loss = torch.zeros((), dtype=torch.float64, device=ranks.device)
    counts = torch.zeros((), dtype=torch.float64, device=ranks.device)
    for start in starts:
        # A rank without a case repeats one with weight 0, because all must join backward.
        part = mine[start : start + size]
        shown = part or batch[:1]
        draws = [Draw(one.case, derive_seed("patch", seed, epoch, one.case)) for one in shown]
        images, masks = feed.batch(draws)
        images, masks = changed(images, masks, shown, recipe, seed=seed, epoch=epoch)
        alone = (
            isinstance(wrapped, DistributedDataParallel) and start != starts[-1]
        )  # gradients travel with the last
        with wrapped.no_sync() if alone else contextlib.nullcontext():
            if graph is not None and len(shown) == recipe.batch_size:
                logits, losses = graph(images, masks)
            else:
                # DDP averages gradients over ranks; this makes the result the mean over the whole
                # batch.
                logits, losses = gradients(
                    wrapped,
                    state.scaler,
                    images,
                    masks,
                    recipe,
                    weight=1 if part else 0,
                    share=(ranks.world, len(batch)),
                )
        # Sums stay on the device: nothing waits for a GPU's step.
        loss += losses.sum().double()
        if recipe.dice == "cut":
            counts = counts + cut_counts(logits, masks) * (1 if part else 0)
    if recipe.dice == "cut":
        # Of the batch as a whole, which every rank adds: the epoch's loss is their mean over steps.
        loss = ranks.total(loss) / len(batch)
        loss = loss + recipe.dice_weight * cut_dice_loss(ranks.total(counts))
    state.position.loss_sum += loss
    state.position.seen += 1 if recipe.dice == "cut" else len(mine)
    if recipe.clip_norm is not None:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(wrapped.parameters(), recipe.clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.schedule is not None and not isinstance(
        state.schedule, torch.optim.lr_scheduler.ReduceLROnPlateau
    ):
        state.schedule.step()
    state.position.step += 1


def gradients(
    wrapped: nn.Module,
    scaler: torch.amp.GradScaler,
    images: torch.Tensor,
    masks: torch.Tensor,
    recipe: Training,
    *,
    weight: int,
    share: tuple[int, int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and the loss per sample times `weight`; the gradients of its sum, times the first
    number of `share` and divided by the second, are added to the parameters'.
    """
    logits, losses = _loss(wrapped, images, masks, recipe)
    losses = losses * weight
    scaler.scale(losses.sum() * share[0] / share[1]).backward()
    return logits.detach(), losses.detach()


@torch.no_grad()
def validate(
    model: nn.Module,
    feed: Feed,
    ids: Sequence[str],
    recipe: Training,
    ranks: Ranks,
    micro_batch: int | None,
    watch: Watch,
) -> Metrics:
    """Loss and Dice: the mean over cases, or of patches the loss's mean and the Dice of all
    voxels of all patches together, of which many hold no structure.
    """
    model.eval()
    loss = dice = 0.0
    draws = validation_draws(feed.cases, ids)
    in_patches = len(draws) > len(ids)
    groups = len(feed.cases[ids[0]].masks)
    counts = torch.zeros((3, groups), dtype=torch.float64, device=ranks.device)
    mine = draws[ranks.rank :: ranks.world]
    size = min(micro_batch or recipe.batch_size, recipe.batch_size)
    for start in range(0, len(mine), size):
        watch.beat()
        images, masks = feed.batch(mine[start : start + size])
        logits, losses = _loss(model, images, masks, recipe)
        loss += float(losses.sum())
        if recipe.dice == "cut":  # of each case, so that no batching of them changes it
            pairs = zip(logits.split(1), masks.split(1), strict=True)
            each = [float(cut_dice_loss(cut_counts(*pair))) for pair in pairs]
            loss += recipe.dice_weight * sum(each)
        dice += float(hard_dice(logits, masks, recipe.output).sum())
        if in_patches:
            counts = counts + cut_counts(logits, masks, recipe.output)
    loss, dice = ranks.sum([loss, dice])
    if in_patches:
        dice = pooled_dice(ranks.total(counts)) * len(draws)
    return {"val_loss": loss / len(draws), "val_dice": dice / len(draws)}


def _loss(
    model: nn.Module, images: torch.Tensor, masks: torch.Tensor, recipe: Training
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and the loss per sample as far as it has a gradient."""
    if recipe.channels_last:
        images = images.contiguous(memory_format=torch.channels_last_3d)
    with autocast(images.device, recipe.precision):
        logits = model(images)
    if recipe.dice == "cut":  # of a network with several heads, the first alone
        logits = logits[:, 0] if logits.dim() == 6 else logits
        return logits, recipe.bce_weight * cross_entropy(logits, masks)
    weights = {"dice_weight": recipe.dice_weight, "bce_weight": recipe.bce_weight}
    whole_batch = recipe.dice == "batch"
    if whole_batch or recipe.output == "softmax" or logits.dim() == 6:
        return logits, strong_loss(
            logits, masks, output=recipe.output, whole_batch=whole_batch, **weights
        )
    return logits, dice_bce(logits, masks, **weights)
