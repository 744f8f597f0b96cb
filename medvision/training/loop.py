"""Trains one model, alone or as one rank of DDP, so that a resumed training gives the numbers of an
undisturbed one.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from medvision.data.augment import augment, derive_seed
from medvision.data.views.base import PreprocessedCase
from medvision.precision import autocast
from medvision.recipe import Training
from medvision.training.batches import epoch_batches, stack
from medvision.training.losses import dice_bce, hard_dice
from medvision.training.state import (
    Checkpoints,
    Metrics,
    Position,
    Trained,
    TrainingState,
    portable_state,
    random_states,
    set_random_states,
    unpacked,
)


class TrainingError(RuntimeError):
    """The training cannot go on, for example because the loss is no longer finite; another try
    would end the same way.
    """


class Interrupted(Exception):  # no error: the training did as it was told
    """The training was told to stop, and its checkpoint is saved."""


@dataclass(frozen=True)
class Watch:
    """How a training is watched: it calls `beat` with every batch, and stops after the batch where
    `stop` says so.

    `spent` is asked on all ranks with every checkpoint, which sums it over the processes that
    worked on the training.
    """

    beat: Callable[[], None] = lambda: None
    stop: Callable[[], bool] = lambda: False
    spent: Callable[[], Mapping[str, float]] = dict


@dataclass(frozen=True)
class Ranks:
    """This process among those that train one model; `world` above 1 needs torch.distributed to be
    initialised.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the ranks, in float64."""
        if self.world == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return total.tolist()

    def any(self, value: bool) -> bool:
        """Whether any rank says so; the same answer on all."""
        return self.sum([float(value)])[0] > 0

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, on all ranks."""
        everyone = [value] * self.world
        if self.world > 1:
            distributed.all_gather_object(everyone, value)
        return everyone


def train(
    model: nn.Module,
    cases: Mapping[str, PreprocessedCase],
    train_ids: Sequence[str],
    validation_ids: Sequence[str],
    recipe: Training,
    *,
    seed: int,
    ranks: Ranks | None = None,
    on_epoch: Callable[[int, Metrics], None] = lambda epoch, metrics: None,
    measure: Callable[[], Metrics] = dict,
    checkpoints: Checkpoints | None = None,
    micro_batch: int | None = None,
    watch: Watch | None = None,
) -> Trained:
    """Train `model` in place and give back the parameters to evaluate.

    The epoch with the highest validation Dice is chosen (the earliest of equals); without
    validation cases, or with `select: last`, the last one. All ranks return the same.

    Args:
        model: images [B, C, X, Y, Z] to logits [B, G, X, Y, Z]; with `prior_bias`, its
            `set_output_bias` is called.
        cases: prepared images and masks by case id.
        on_epoch: called on rank 0 with epoch and its metrics.
        measure: further metrics of the model at the end of an epoch; it may not draw random
            numbers.
        micro_batch: at most so many cases of a rank at once, gradients added up: less memory, the
            same batch.

    Raises:
        TrainingError: the loss became NaN or infinite, or there is no training case.
        Interrupted: `watch.stop` said so, on any rank; the next call goes on from the checkpoint.
    """
    if not train_ids:
        raise TrainingError("there is no training case")
    ranks, checkpoints, watch = ranks or Ranks(), checkpoints or Checkpoints(), watch or Watch()
    if recipe.prior_bias:
        model.set_output_bias(_prior_logits(cases, train_ids))
    model.to(ranks.device)
    if recipe.gradient_checkpointing:
        checkpoint_activations(model)
    if recipe.compile:
        model.compile()
    wrapped: nn.Module = model if ranks.world == 1 else _distributed(model)
    optimizer = _optimizer(model, recipe, ranks.device)
    total = recipe.total_steps(len(train_ids))
    scaler = torch.amp.GradScaler(ranks.device.type, enabled=recipe.precision == "fp16")
    state = TrainingState(
        model, optimizer, _schedule(optimizer, recipe, total), scaler, Trained({}, 0, [])
    )
    if saved := unpacked(_same_on_all(checkpoints.load(), ranks)):
        state.restore(saved)
    history, best, per_epoch = state.history, state.best, recipe.steps_per_epoch(len(train_ids))
    epochs = math.ceil(total / per_epoch)

    def save() -> None:
        spent = watch.spent()
        if ranks.rank == 0:
            checkpoints.save(state.to_bytes(spent))

    for epoch in range(len(history) + 1, epochs + 1):
        torch.manual_seed(derive_seed("dropout", seed, epoch, ranks.rank))
        steps = min(per_epoch, total - (epoch - 1) * per_epoch)
        batches = epoch_batches(train_ids, recipe.batch_size, steps, seed=seed, epoch=epoch)
        if state.position.lr is None:
            state.position.lr = optimizer.param_groups[0]["lr"]
        elif state.position.random:
            set_random_states(state.position.random[ranks.rank], ranks.device)
            if state.position.sums:
                state.position.loss_sum, state.position.seen = state.position.sums[ranks.rank]
        for batch in batches[state.position.step :]:
            if ranks.any(watch.stop()):
                state.position.random = ranks.gather(random_states(ranks.device))
                state.position.sums = ranks.gather(
                    [float(state.position.loss_sum), state.position.seen]
                )
                save()
                raise Interrupted(
                    f"stopped in epoch {epoch} after {state.position.step} of {steps} steps"
                )
            _train_step(
                wrapped,
                state,
                cases,
                batch,
                recipe,
                ranks,
                seed=seed,
                epoch=epoch,
                micro_batch=micro_batch,
            )
            watch.beat()
        metrics = {"lr": state.position.lr, "train_loss": _epoch_loss(state.position, ranks, epoch)}
        state.position = Position()
        if validation_ids:
            metrics |= _validate(model, cases, validation_ids, recipe, ranks, micro_batch, watch)
        metrics |= measure()
        if isinstance(state.schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
            state.schedule.step(metrics.get("val_loss", metrics["train_loss"]))
        history.append(metrics)
        if _is_better(metrics, history, best.epoch, recipe):
            best.state, best.epoch = portable_state(model), epoch
        if ranks.rank == 0:
            on_epoch(epoch, metrics)
        if epoch % recipe.checkpoint_epochs == 0 or epoch == epochs:
            save()
    return best


def _same_on_all(saved: bytes | None, ranks: Ranks) -> bytes | None:
    """Every rank reads the checkpoint for itself, and an earlier attempt that still lives may write
    another one meanwhile.

    Raises:
        RuntimeError: the ranks would go on from different states.
    """
    if ranks.world > 1 and len(set(ranks.gather(saved and hashlib.sha256(saved).hexdigest()))) > 1:
        raise RuntimeError(
            "the ranks read different checkpoints: another attempt at this training was still "
            "writing"
        )
    return saved


def _distributed(model: nn.Module) -> DistributedDataParallel:
    """The model for DDP, which would otherwise send the whole frozen block from rank 0 to the
    others when it starts.

    Every rank has read the same block by its fingerprint; what is trained inside it, and all
    outside, is still sent.
    """
    blocks = tuple(
        f"{name}." for name, module in model.named_modules() if hasattr(module, "fingerprint")
    )
    tensors = (*model.named_parameters(), *model.named_buffers())
    held = [
        name
        for name, tensor in tensors
        if blocks and name.startswith(blocks) and not tensor.requires_grad
    ]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, held)
    return DistributedDataParallel(model)


def _prior_logits(cases: Mapping[str, PreprocessedCase], train_ids: Sequence[str]) -> torch.Tensor:
    """Log-odds of the share of foreground voxels in the training cases, [G] (Lin et al. 2017,
    section 4.1).
    """
    shares = torch.stack(
        [torch.tensor(cases[case].masks).float().flatten(1).mean(1) for case in train_ids]
    ).mean(0)
    return torch.logit(shares.clamp(1e-4, 0.5))


def _train_step(
    wrapped: nn.Module,
    state: TrainingState,
    cases: Mapping[str, PreprocessedCase],
    batch: Sequence[str],
    recipe: Training,
    ranks: Ranks,
    *,
    seed: int,
    epoch: int,
    micro_batch: int | None,
) -> None:
    """One optimizer step over a batch, of which each rank takes its share, in parts of
    `micro_batch` cases.
    """
    wrapped.train()
    mine = batch[ranks.rank :: ranks.world]
    most = -(-len(batch) // ranks.world)
    size = min(micro_batch or most, most)
    starts = range(0, most, size)
    state.optimizer.zero_grad(set_to_none=True)
    for start in starts:
        # A rank without a case repeats one with weight 0, because all must join backward.
        part = mine[start : start + size]
        shown = part or batch[:1]
        images, masks = stack(cases, shown, ranks.device)
        if recipe.augmentation is not None:
            images, masks = augment(
                images, masks, shown, seed=seed, epoch=epoch, **recipe.augmentation.model_dump()
            )
        alone = (
            isinstance(wrapped, DistributedDataParallel) and start != starts[-1]
        )  # gradients travel with the last
        with wrapped.no_sync() if alone else contextlib.nullcontext():
            losses = _loss(wrapped, images, masks, recipe)[1] * (1 if part else 0)
            # DDP averages gradients over ranks; this makes the result the mean over the whole
            # batch.
            state.scaler.scale(losses.sum() * ranks.world / len(batch)).backward()
        state.position.loss_sum += (
            losses.detach().sum().double()
        )  # stays on the device: nothing waits for a GPU's step
        state.position.seen += len(part)
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


def _epoch_loss(position: Position, ranks: Ranks, epoch: int) -> float:
    total, count = ranks.sum([float(position.loss_sum), position.seen])
    if not math.isfinite(total):
        raise TrainingError(
            f"the training loss is {total} in epoch {epoch}; a smaller learning rate may help"
        )
    return total / count


@torch.no_grad()
def _validate(
    model: nn.Module,
    cases: Mapping[str, PreprocessedCase],
    ids: Sequence[str],
    recipe: Training,
    ranks: Ranks,
    micro_batch: int | None,
    watch: Watch,
) -> Metrics:
    model.eval()
    loss = dice = 0.0
    mine = ids[ranks.rank :: ranks.world]
    size = min(micro_batch or recipe.batch_size, recipe.batch_size)
    for start in range(0, len(mine), size):
        watch.beat()
        images, masks = stack(cases, mine[start : start + size], ranks.device)
        logits, losses = _loss(model, images, masks, recipe)
        loss += float(losses.sum())
        dice += float(hard_dice(logits, masks).sum())
    loss, dice = ranks.sum([loss, dice])
    return {"val_loss": loss / len(ids), "val_dice": dice / len(ids)}


def _loss(
    model: nn.Module, images: torch.Tensor, masks: torch.Tensor, recipe: Training
) -> tuple[torch.Tensor, torch.Tensor]:
    with autocast(images.device, recipe.precision):
        logits = model(images)
    return logits, dice_bce(
        logits, masks, dice_weight=recipe.dice_weight, bce_weight=recipe.bce_weight
    )


def checkpoint_activations(model: nn.Module) -> None:
    """Keep only the inputs of the model's parts for backward and compute the rest again: less
    memory, the same numbers.
    """
    for name in model.checkpointed:
        part = model.get_submodule(name)
        part.forward = functools.partial(checkpoint, part.forward, use_reentrant=False)


def _optimizer(model: nn.Module, recipe: Training, device: torch.device) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    # One kernel for all parameters on a GPU; the CPU keeps torch's default, on which the golden
    # losses stand.
    return kind(
        trained,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        fused=True if device.type == "cuda" else None,
    )


def _schedule(optimizer: torch.optim.Optimizer, recipe: Training, total_steps: int) -> Any:
    """`plateau` as the paper (factor 0.5, patience 10 epochs); `onecycle` and `cosine` step with
    every batch.
    """
    schedules = torch.optim.lr_scheduler
    if recipe.schedule == "plateau":
        return schedules.ReduceLROnPlateau(optimizer, factor=0.5, patience=10)
    if recipe.schedule == "onecycle":
        return schedules.OneCycleLR(optimizer, max_lr=recipe.lr, total_steps=total_steps)
    if recipe.schedule == "cosine":
        return schedules.CosineAnnealingLR(optimizer, T_max=total_steps)
    return None


def _is_better(
    metrics: Metrics, history: Sequence[Metrics], best_epoch: int, recipe: Training
) -> bool:
    if recipe.select == "last" or "val_dice" not in metrics or best_epoch == 0:
        return True
    return metrics["val_dice"] > history[best_epoch - 1]["val_dice"]
