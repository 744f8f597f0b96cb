"""Trains one model, alone or as one rank of DDP, so that a resumed training gives the numbers of an undisturbed one.

Every random choice of an epoch is derived from (seed, epoch, case or rank), never from what ran before, so a checkpoint
holds parameters, optimizer, schedule and history, and no random state.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from medvision.data.augment import augment, derive_seed
from medvision.data.volumes import Prepared
from medvision.losses import dice_bce, hard_dice
from medvision.recipe import Training

Metrics = dict[str, float]


class TrainingError(RuntimeError):
    """The training cannot go on, for example because the loss is no longer finite."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train one model; `world` above 1 needs torch.distributed to be initialised."""

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


@dataclass(frozen=True)
class Checkpoints:
    """Where a training keeps its state: `load` gives the last saved bytes or None. Ranks other than 0 only load."""

    load: Callable[[], bytes | None] = lambda: None
    save: Callable[[bytes], None] = lambda _: None


@dataclass
class Trained:
    """`state`: the chosen epoch's parameters without the frozen block's; `history`: one mapping an epoch, from epoch 1."""

    state: dict[str, torch.Tensor]
    epoch: int
    history: list[Metrics]


def portable_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers on the CPU, without a language-model block's frozen parameters, which its checkpoint holds."""
    blocks = tuple(f"{name}." for name, module in model.named_modules() if hasattr(module, "fingerprint"))
    stored, state = model.state_dict(), {}
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        left_out = blocks and name.startswith(blocks) and not value.requires_grad
        if name in stored and not left_out:
            state[name] = value.detach().cpu().clone()
    return state


def train(
    model: nn.Module,
    cases: Mapping[str, Prepared],
    train_ids: Sequence[str],
    validation_ids: Sequence[str],
    recipe: Training,
    *,
    seed: int,
    ranks: Ranks | None = None,
    on_epoch: Callable[[int, Metrics], None] = lambda epoch, metrics: None,
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """Train `model` in place and give back the parameters to evaluate.

    The epoch with the highest validation Dice is chosen (the earliest of equals); without validation cases, or with
    `select: last`, the last one. All ranks return the same.

    Args:
        model: images [B, C, X, Y, Z] to logits [B, G, X, Y, Z]; with `prior_bias`, its `set_output_bias` is called.
        cases: prepared images and masks by case id. on_epoch: called on rank 0 with epoch and its metrics.

    Raises:
        TrainingError: the loss became NaN or infinite, or there is no training case.
    """
    if not train_ids:
        raise TrainingError("there is no training case")
    ranks, checkpoints = ranks or Ranks(), checkpoints or Checkpoints()
    if recipe.prior_bias:
        model.set_output_bias(_prior_logits(cases, train_ids))
    model.to(ranks.device)
    if recipe.gradient_checkpointing:
        checkpoint_activations(model)
    if recipe.compile:
        model.compile()
    wrapped: nn.Module = model if ranks.world == 1 else DistributedDataParallel(model)
    optimizer = _optimizer(model, recipe, ranks.device)
    scaler = torch.amp.GradScaler(ranks.device.type, enabled=recipe.precision == "fp16")
    total = recipe.total_steps(len(train_ids))
    schedule = _schedule(optimizer, recipe, total)
    per_epoch = recipe.steps_per_epoch(len(train_ids))
    epochs = math.ceil(total / per_epoch)
    history: list[Metrics] = []
    best = Trained(state={}, epoch=0, history=history)

    if saved := checkpoints.load():
        state = torch.load(io.BytesIO(saved), map_location=ranks.device, weights_only=True)
        model.load_state_dict(state["model"], strict=False)  # a frozen block is not stored again
        optimizer.load_state_dict(state["optimizer"])
        if schedule is not None:
            schedule.load_state_dict(state["schedule"])
        if recipe.precision == "fp16":
            scaler.load_state_dict(state["scaler"])
        history.extend(state["history"])
        best.state, best.epoch = state["best"], state["best_epoch"]

    for epoch in range(len(history) + 1, epochs + 1):
        torch.manual_seed(derive_seed("dropout", seed, epoch, ranks.rank))
        steps = min(per_epoch, total - (epoch - 1) * per_epoch)
        metrics = {"lr": optimizer.param_groups[0]["lr"]}
        metrics |= _train_epoch(
            wrapped, cases, train_ids, recipe, optimizer, schedule, scaler, ranks, seed=seed, epoch=epoch, steps=steps
        )
        if validation_ids:
            metrics |= _validate(model, cases, validation_ids, recipe, ranks)
        if isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
            schedule.step(metrics.get("val_loss", metrics["train_loss"]))
        history.append(metrics)
        if _is_better(metrics, history, best.epoch, recipe):
            best.state, best.epoch = portable_state(model), epoch
        if ranks.rank == 0:
            on_epoch(epoch, metrics)
            if epoch % recipe.checkpoint_epochs == 0 and epoch < epochs:
                checkpoints.save(_checkpoint(model, optimizer, schedule, scaler, history, best))
    return best


def _prior_logits(cases: Mapping[str, Prepared], train_ids: Sequence[str]) -> torch.Tensor:
    """Log-odds of the share of foreground voxels in the training cases, [G] (Lin et al. 2017, section 4.1)."""
    shares = torch.stack([torch.tensor(cases[case].masks).float().flatten(1).mean(1) for case in train_ids]).mean(0)
    return torch.logit(shares.clamp(1e-4, 0.5))


def _train_epoch(
    wrapped: nn.Module,
    cases: Mapping[str, Prepared],
    train_ids: Sequence[str],
    recipe: Training,
    optimizer: torch.optim.Optimizer,
    schedule: Any,
    scaler: torch.amp.GradScaler,
    ranks: Ranks,
    *,
    seed: int,
    epoch: int,
    steps: int,
) -> Metrics:
    wrapped.train()
    loss_sum, seen = 0.0, 0
    for batch in _batches(train_ids, recipe.batch_size, steps, seed=seed, epoch=epoch):
        # Each rank takes its share. A rank without one repeats a case with weight 0, because all must join backward.
        mine = batch[ranks.rank :: ranks.world]
        images, masks = _stack(cases, mine or batch[:1], ranks.device)
        if recipe.augmentation is not None:
            images, masks = augment(
                images, masks, mine or batch[:1], seed=seed, epoch=epoch, **recipe.augmentation.model_dump()
            )
        losses = _loss(wrapped, images, masks, recipe)[1]
        if not mine:
            losses = losses * 0
        optimizer.zero_grad(set_to_none=True)
        # DDP averages gradients over ranks; this makes the result the mean over the whole batch.
        scaler.scale(losses.sum() * ranks.world / len(batch)).backward()
        if recipe.clip_norm is not None:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(wrapped.parameters(), recipe.clip_norm)
        scaler.step(optimizer)
        scaler.update()
        if schedule is not None and not isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
            schedule.step()
        loss_sum += float(losses.detach().sum())
        seen += len(mine)
    total, count = ranks.sum([loss_sum, float(seen)])
    if not math.isfinite(total):
        raise TrainingError(f"the training loss is {total} in epoch {epoch}; a smaller learning rate may help")
    return {"train_loss": total / count}


@torch.no_grad()
def _validate(
    model: nn.Module, cases: Mapping[str, Prepared], ids: Sequence[str], recipe: Training, ranks: Ranks
) -> Metrics:
    model.eval()
    loss = dice = 0.0
    mine = ids[ranks.rank :: ranks.world]
    for start in range(0, len(mine), recipe.batch_size):
        images, masks = _stack(cases, mine[start : start + recipe.batch_size], ranks.device)
        logits, losses = _loss(model, images, masks, recipe)
        loss += float(losses.sum())
        dice += float(hard_dice(logits, masks).sum())
    loss, dice = ranks.sum([loss, dice])
    return {"val_loss": loss / len(ids), "val_dice": dice / len(ids)}


def _loss(
    model: nn.Module, images: torch.Tensor, masks: torch.Tensor, recipe: Training
) -> tuple[torch.Tensor, torch.Tensor]:
    dtype = torch.float16 if recipe.precision == "fp16" else torch.bfloat16
    with torch.autocast(images.device.type, dtype, enabled=recipe.precision != "fp32"):
        logits = model(images)
    return logits, dice_bce(logits, masks, dice_weight=recipe.dice_weight, bce_weight=recipe.bce_weight)


def _batches(ids: Sequence[str], size: int, steps: int, *, seed: int, epoch: int) -> Iterator[list[str]]:
    """The first `steps` batches of one pass in an order drawn from (seed, epoch)."""
    generator = torch.Generator().manual_seed(derive_seed("order", seed, epoch))
    order = torch.randperm(len(ids), generator=generator).tolist()
    for step in range(steps):
        yield [ids[index] for index in order[step * size : (step + 1) * size]]


def _stack(
    cases: Mapping[str, Prepared], ids: Sequence[str], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.stack([torch.tensor(cases[case].image) for case in ids])
    masks = torch.stack([torch.tensor(cases[case].masks) for case in ids])
    return images.to(device).float(), masks.to(device).float()


def checkpoint_activations(model: nn.Module) -> None:
    """Keep only the inputs of the model's parts for backward and compute the rest again: less memory, the same numbers."""
    for name in model.checkpointed:
        part = model.get_submodule(name)
        part.forward = functools.partial(checkpoint, part.forward, use_reentrant=False)


def _optimizer(model: nn.Module, recipe: Training, device: torch.device) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    # One kernel for all parameters on a GPU; the CPU keeps torch's default, on which the golden losses stand.
    return kind(trained, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True if device.type == "cuda" else None)


def _schedule(optimizer: torch.optim.Optimizer, recipe: Training, total_steps: int) -> Any:
    """`plateau` as the paper (factor 0.5, patience 10 epochs); `onecycle` and `cosine` step with every batch."""
    schedules = torch.optim.lr_scheduler
    if recipe.schedule == "plateau":
        return schedules.ReduceLROnPlateau(optimizer, factor=0.5, patience=10)
    if recipe.schedule == "onecycle":
        return schedules.OneCycleLR(optimizer, max_lr=recipe.lr, total_steps=total_steps)
    if recipe.schedule == "cosine":
        return schedules.CosineAnnealingLR(optimizer, T_max=total_steps)
    return None


def _is_better(metrics: Metrics, history: Sequence[Metrics], best_epoch: int, recipe: Training) -> bool:
    if recipe.select == "last" or "val_dice" not in metrics or best_epoch == 0:
        return True
    return metrics["val_dice"] > history[best_epoch - 1]["val_dice"]


def _checkpoint(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Any,
    scaler: torch.amp.GradScaler,
    history: list[Metrics],
    best: Trained,
) -> bytes:
    buffer = io.BytesIO()
    state = {
        "model": portable_state(model),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict() if schedule is not None else None,
        "scaler": scaler.state_dict(),
        "history": history,
        "best": best.state,
        "best_epoch": best.epoch,
    }
    torch.save(state, buffer)
    return buffer.getvalue()
