"""What the official command line does beside a training: scores and pictures at the end of an
epoch, and the checkpoint with its optimizer after the last one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.planning.identity import Job
from record import paths
from record.store import Store

if TYPE_CHECKING:
    import torch
    from torch import nn

    from orchestrator.trial.context import TrialContext

PICTURES_EVERY = 5  # epochs, from the first one on
Write = Callable[[str, bytes], None]  # takes a path and the content of a file


class EpochEnd:
    """The `measure` of one training.

    Args:
        write: takes the pictures, None where none are wanted.
        folder: of the pictures of an epoch, with the place `{epoch}`.
    """

    def __init__(self, write: Write | None = None, folder: str = "") -> None:
        self.write, self.folder = write, folder
        self.epoch: int | None = None  # counted from 0, as the official code does

    def __call__(self, context: TrialContext, model: nn.Module) -> dict[str, float]:
        """Dice and NSD on the network's grid with its voxel size in mm, averaged over cases.

        Of the training cases only as many as validate, the first ones: all of them would cost
        another pass.
        """
        if self.epoch is None:
            self.epoch = finished_epochs(context, next(model.parameters()).device)
        else:
            self.epoch += 1
        roles = context.roles
        if self.write and self.epoch % PICTURES_EVERY == 0:
            self._draw(context, model, (*roles.validation, *roles.train)[0], self.write)
        training = roles.train[: max(1, len(roles.validation))]
        train = [row for case in training for row in _grid_scores(context, model, case)]
        validation = [
            row for case in roles.validation for row in _grid_scores(context, model, case)
        ]
        scores = {"train_dice": _mean(train, "dice"), "train_nsd": _mean(train, "nsd")}
        return scores | ({"val_nsd": _mean(validation, "nsd")} if validation else {})

    def _draw(self, context: TrialContext, model: nn.Module, case: str, write: Write) -> None:
        import numpy as np

        from medvision.evaluation import predict_on_grid
        from reports.slices import slice_pictures

        inputs = context.prepared(case)
        device = next(model.parameters()).device
        predicted = predict_on_grid(model, inputs, device=device)
        truths = np.asarray(inputs.masks) > 0
        role = "validation" if case in context.roles.validation else "training"
        title = f"epoch {self.epoch}, {role} case {case}"
        image = np.asarray(inputs.image[0], dtype=np.float32)
        folder = self.folder.format(epoch=self.epoch)
        for z, picture in enumerate(slice_pictures(image, truths, predicted, title)):
            write(f"{folder}/epoch_{self.epoch}_slice_{z}_combined.png", picture)


def finished_epochs(context: TrialContext, device: torch.device) -> int:
    """Epochs in the checkpoint that a training in this process goes on from, 0 without one."""
    from medvision.training.state import unpacked

    state = unpacked(context.store.read(_checkpoint(context.job.train_id, device)))
    return len(state["history"]) if state else 0


def keep_optimizer(store: Store, job: Job, name: str, device: torch.device) -> None:
    """Write a training that this process finished as one file for torch.load into the study's
    report folder.

    It holds `model` (the weights that were scored), `epoch` (theirs, from 0), `best_loss` (the
    lowest training loss), `optimizer` and `last_model` (after the last epoch), `last_epoch`. A
    frozen block's weights are not in it. The official command line's studies are local.
    """
    import torch

    from medvision.training.state import unpacked

    state = unpacked(store.read(_checkpoint(job.train_id, device)))
    target = Path(store.path(paths.report(name)))
    if state is None:
        return  # it was trained before, by a run that has written the file
    target.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "model": state["best"],
        "epoch": state["best_epoch"] - 1,
        "best_loss": min(metrics["train_loss"] for metrics in state["history"]),
        "optimizer": state["optimizer"],
        "last_model": state["model"],
        "last_epoch": len(state["history"]) - 1,
    }
    partial = target.with_name(f".{name}")
    torch.save(content, partial)
    partial.replace(target)


def _checkpoint(train_id: str, device: torch.device) -> str:
    """Of a training of one process: those of other devices and numbers of threads, which an
    earlier try may have left, are other trainings.
    """
    from orchestrator.trial.context import checkpoint_path

    return checkpoint_path(train_id, 1, device)


def _grid_scores(context: TrialContext, model: nn.Module, case: str) -> list[dict[str, Any]]:
    import numpy as np

    from medvision.data.nifti import Truth, open_volume
    from medvision.evaluation import predict_on_grid
    from medvision.scoring import score

    size, inputs = context.spec.data.image_size, context.prepared(case)
    grid = open_volume(context.cases[case].label).grid
    voxel = np.array(grid.spacing) * grid.shape / size
    truth = Truth(np.asarray(inputs.masks) > 0, (float(voxel[0]), float(voxel[1]), float(voxel[2])))
    mask = predict_on_grid(model, inputs, device=next(model.parameters()).device)
    return score(
        mask,
        truth,
        list(context.groups),
        context.spec.evaluation,
        context.spec.tolerances(context.task),
    )


def _mean(rows: Sequence[Mapping[str, Any]], metric: str) -> float:
    """Mean of a metric where it is defined; NaN where it is nowhere defined."""
    values = [float(row[metric]) for row in rows if not math.isnan(row[metric])]
    return sum(values) / len(values) if values else math.nan
