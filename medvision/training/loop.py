"""Trains one model, alone or as one rank of DDP, so that a resumed training gives the numbers of an
undisturbed one.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from medvision.behind import Behind
from medvision.data.views.base import PreprocessedCase
from medvision.seeds import derive_seed
from medvision.training.batches import epoch_batches, samples_of
from medvision.training.branch import BranchWatch
from medvision.training.feed import Feed, room_on
from medvision.training.graphs import GraphedStep, unfit
from medvision.training.optimizer import make_optimizer, make_schedule
from medvision.training.ranks import Ranks, Vote, distributed_model, same_on_all
from medvision.training.settings import Training
from medvision.training.state import (
    Checkpoints,
    Metrics,
    Position,
    Trained,
    TrainingState,
    portable_state,
    random_states,
    sealed,
    set_random_states,
    unpacked,
)
from medvision.training.step import gradients, train_step, validate
from medvision.training.watch import Interrupted, TrainingError, Watch

SMOOTHED = 0.9  # of the last average that stays in the next one (nnU-Net)
_log = logging.getLogger(__name__)
RECOMPILES = 64  # of one function: a model calls some, such as dropout, with many shapes


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

    The epoch with the highest validation Dice, or moving average of it, is chosen (the earliest of
    equals); without
    validation cases, or with `select: last`, the last one; with `select: training-loss` the one
    with the lowest training loss. All ranks return the same.

    Args:
        model: images [B, C, X, Y, Z] to logits [B, G, X, Y, Z]; with `prior_bias`, its
            `set_output_bias` is called.
        cases: prepared images and masks by case id.
        seed: decides the order of the cases, dropout and augmentation; the initial weights are the
            caller's.
        on_epoch: called on rank 0 with epoch and its metrics.
        measure: further metrics of the model at the end of an epoch; it may not draw random
            numbers.
        micro_batch: at most this many cases of a rank at once, gradients added up: less memory, the
            same batch.

    Raises:
        TrainingError: the loss became NaN or infinite, or there is no training case.
        Interrupted: `watch.stop` asked for it, on any rank; the next call goes on from the
            checkpoint.
    """
    if not train_ids:
        raise TrainingError("there is no training case")
    _require_whole_batch(recipe, ranks, micro_batch)
    ranks, checkpoints, watch = ranks or Ranks(), checkpoints or Checkpoints(), watch or Watch()
    if recipe.prior_bias:
        model.set_output_bias(_prior_logits(cases, train_ids))
    model.to(ranks.device)
    if recipe.channels_last:
        lay_out(model, torch.channels_last_3d)
    if recipe.gradient_checkpointing:
        checkpoint_activations(model)
    if recipe.compile:
        compile_alone(model)
    wrapped: nn.Module = model if ranks.world == 1 else distributed_model(model)
    optimizer = make_optimizer(model, recipe, ranks.device)
    total = recipe.total_steps(len(train_ids))
    scaler = torch.amp.GradScaler(ranks.device.type, enabled=recipe.precision == "fp16")
    state = TrainingState(
        model, optimizer, make_schedule(optimizer, recipe, total), scaler, Trained({}, 0, [])
    )
    if saved := unpacked(same_on_all(checkpoints.load(), ranks)):
        state.restore(saved)
    history, best, per_epoch = state.history, state.best, recipe.steps_per_epoch(len(train_ids))
    epochs, samples = recipe.total_epochs(len(train_ids)), samples_of(train_ids, recipe)

    def save() -> None:
        spent = watch.spent()
        if ranks.rank == 0:
            written = state.written(spent)
            writing.start(lambda: checkpoints.save(sealed(written)))

    graph = _graphed(model, state, recipe, ranks, micro_batch)
    feed, seen = Feed(cases, ranks.device), (*train_ids, *validation_ids)
    stop, branch = Vote(ranks), BranchWatch(model, compiled=recipe.compile)
    with Behind[None]() as writing:
        for epoch in range(len(history) + 1, epochs + 1):
            torch.manual_seed(derive_seed("dropout", seed, epoch, ranks.rank))
            steps = min(per_epoch, total - (epoch - 1) * per_epoch)
            batches = epoch_batches(samples, recipe.batch_size, steps, seed=seed, epoch=epoch)
            if state.position.lr is None:
                state.position.lr = optimizer.param_groups[0]["lr"]
            elif state.position.random:
                set_random_states(state.position.random[ranks.rank], ranks.device)
                if state.position.sums:
                    state.position.loss_sum, state.position.seen = state.position.sums[ranks.rank]
            for batch in batches[state.position.step :]:
                if stop.any(watch.stop()):
                    state.position.random = ranks.gather(random_states(ranks.device))
                    state.position.sums = ranks.gather(
                        [float(state.position.loss_sum), state.position.seen]
                    )
                    save()
                    raise Interrupted(
                        f"stopped in epoch {epoch} after {state.position.step} of {steps} steps"
                    )
                last = state.position.step == steps - 1
                with branch.looking(last):
                    train_step(
                        wrapped,
                        state,
                        feed,
                        batch,
                        recipe,
                        ranks,
                        seed=seed,
                        epoch=epoch,
                        micro_batch=micro_batch,
                        graph=None if last and branch.looks else graph,
                    )
                watch.beat()
            metrics = {
                "lr": state.position.lr,
                "train_loss": _epoch_loss(state.position, ranks, epoch),
            }
            state.position = Position()
            if validation_ids:
                metrics |= validate(model, feed, validation_ids, recipe, ranks, micro_batch, watch)
            metrics |= branch.metrics(ranks) | measure()
            if isinstance(state.schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
                followed = "train_loss" if recipe.plateau_on == "training" else "val_loss"
                state.schedule.step(metrics.get(followed, metrics["train_loss"]))
            history.append(metrics)
            if _is_better(metrics, history, best.epoch, recipe):
                best.state, best.epoch = portable_state(model), epoch
            if ranks.rank == 0:
                on_epoch(epoch, metrics)
            if epoch % recipe.checkpoint_epochs == 0 or epoch == epochs:
                save()
            if epoch < epochs:  # now that one has shown how much memory it needs
                feed.keep(seen, room_on(ranks.device))
    if recipe.channels_last:  # whoever predicts sees the model as its weights are stored
        lay_out(model, torch.contiguous_format)
    return best


def lay_out(model: nn.Module, memory: torch.memory_format) -> None:
    """Lay the parameters of 3D convolutions [out, in, X, Y, Z] out so; no value changes."""
    for parameter in model.parameters():
        if parameter.dim() == 5:
            parameter.data = parameter.data.contiguous(memory_format=memory)


def _require_whole_batch(recipe: Training, ranks: Ranks | None, micro_batch: int | None) -> None:
    """A Dice of the whole batch is another number where the batch is computed in parts.

    Raises:
        TrainingError: it would be.
    """
    divided = (ranks is not None and ranks.world > 1) or (
        micro_batch is not None and micro_batch < recipe.batch_size
    )
    if recipe.dice == "batch" and divided:
        raise TrainingError(
            f"training.dice: batch needs the {recipe.batch_size} samples of a step in one piece, "
            "and here they are divided, among workers or for lack of memory: give each trial one "
            "worker, a smaller batch_size, precision: bf16 or gradient_checkpointing"
        )


def _graphed(
    model: nn.Module,
    state: TrainingState,
    recipe: Training,
    ranks: Ranks,
    micro_batch: int | None,
) -> GraphedStep | None:
    """Whole batches by a CUDA graph, where the recipe asks for it and they can be."""
    if recipe.cuda_graphs == "never":
        return None
    if why := unfit(recipe, ranks, micro_batch):
        _log.info("training.cuda_graphs: steps run as without it: %s", why)
        return None

    def work(images: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        share = (1, recipe.batch_size)
        return gradients(model, state.scaler, images, masks, recipe, weight=1, share=share)

    return GraphedStep(model, work, ranks.device)


def _prior_logits(cases: Mapping[str, PreprocessedCase], train_ids: Sequence[str]) -> torch.Tensor:
    """Log-odds of the share of foreground voxels in what is seen of the training cases, [G] (Lin
    et al. 2017, section 4.1).
    """
    seen = (cases[case].sample(derive_seed("prior", case))[1] for case in train_ids)
    shares = torch.stack([torch.tensor(masks).float().flatten(1).mean(1) for masks in seen]).mean(0)
    return torch.logit(shares.clamp(1e-4, 0.5))


def _epoch_loss(position: Position, ranks: Ranks, epoch: int) -> float:
    total, count = ranks.sum([float(position.loss_sum), position.seen])
    if not math.isfinite(total):
        raise TrainingError(
            f"the training loss is {total} in epoch {epoch}; a smaller learning rate may help"
        )
    return total / count


def checkpoint_activations(model: nn.Module) -> None:
    """Keep only the inputs of the model's parts for backward and compute the rest again: less
    memory, the same numbers.
    """
    for name in model.checkpointed:
        part = model.get_submodule(name)
        part.forward = functools.partial(checkpoint, part.forward, use_reentrant=False)


def compile_alone(model: nn.Module) -> None:
    """`model.compile()` as in a fresh process: Dynamo counts recompilations over all models of a
    process, and past its limit runs them eagerly, so that numbers would depend on earlier trials.
    Past the limit it raises here, and random numbers are those of the eager model.
    """
    torch._dynamo.reset()
    torch._dynamo.config.recompile_limit = RECOMPILES
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    torch._inductor.config.fallback_random = True
    model.compile()


def _is_better(
    metrics: Metrics, history: Sequence[Metrics], best_epoch: int, recipe: Training
) -> bool:
    if recipe.select == "last" or best_epoch == 0:
        return True
    if recipe.select == "training-loss":
        return metrics["train_loss"] < history[best_epoch - 1]["train_loss"]
    if "val_dice" not in metrics:
        return True
    if recipe.select == "smoothed":
        smoothed = _smoothed([one["val_dice"] for one in history])
        return smoothed[-1] > smoothed[best_epoch - 1]
    return metrics["val_dice"] > history[best_epoch - 1]["val_dice"]


def _smoothed(values: Sequence[float]) -> list[float]:
    """Exponential moving average, which begins with the first value."""
    found = [values[0]]
    for value in values[1:]:
        found.append(SMOOTHED * found[-1] + (1 - SMOOTHED) * value)
    return found
