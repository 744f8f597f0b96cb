"""One attempt of nnU-Net itself at a cell: its dataset, its training, its masks, scored."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medvision.training.ranks import Ranks
from medvision.training.state import summed
from medvision.training.watch import TrainingError, Watch
from orchestrator.spec.other_tools import NnUNetV2Settings, nnunetv2_missing
from orchestrator.trial.context import TrialContext
from orchestrator.trial.nnunet.dataset import (
    DATASET,
    Folders,
    overlapping,
    read_masks,
    test_files,
    write_dataset,
)
from orchestrator.trial.nnunet.kept import Kept, packed, unpacked
from orchestrator.trial.nnunet.process import environment, messages
from orchestrator.trial.scoring import history_rows, scored_masks
from orchestrator.trial.system_metrics import SystemMetrics
from record import paths
from record.events import Emit, Epoch
from record.masks import pack_masks
from record.masks import packed as packed_masks
from record.tables import table_bytes

Scored = tuple[list[dict[str, Any]], dict[str, str], dict[str, Any]]  # rows, files, cost
OnEpoch = Callable[[int, dict[str, float], int], None]  # number from 1, metrics, of how many


@dataclass(frozen=True)
class Predicted:
    """What a training of nnU-Net gave: masks by test case, bool [G, X, Y, Z], the metrics of each
    epoch, and what it took (`record.schema.Cost`).
    """

    masks: Mapping[str, Any]
    history: list[dict[str, float]]
    cost: dict[str, Any]


def train_and_score_nnunet(context: TrialContext, ranks: Ranks, emit: Emit, watch: Watch) -> Scored:
    """The rows of cases.parquet, the files that are written and the cost of one attempt.

    Raises:
        Interrupted, TrainingError, RuntimeError: as `train_and_predict`.
    """
    job, usage = context.job, SystemMetrics(ranks.device)

    def on_epoch(epoch: int, metrics: Mapping[str, float], epochs: int) -> None:
        emit(Epoch(job.title, job.eval_id, epoch, {**metrics, **usage()}, epochs))

    done = train_and_predict(context, ranks, watch, on_epoch)
    rows = scored_masks(context, done.masks, watch)
    kinds = (paths.HISTORY, paths.MASKS)
    files = {kind: paths.attempt_file(context.folder, kind) for kind in kinds}
    context.store.write(files[paths.HISTORY], table_bytes(history_rows(done.history)))
    masks = {case: packed_masks(mask) for case, mask in done.masks.items()}
    context.store.write(files[paths.MASKS], pack_masks(masks))
    return rows, files, done.cost


def train_and_predict(
    context: TrialContext, ranks: Ranks, watch: Watch, on_epoch: OnEpoch
) -> Predicted:
    """Train nnU-Net on the context's cell, going on from its checkpoint, and predict.

    Raises:
        Interrupted: `watch.stop` asked for it; the last checkpoint is kept.
        TrainingError: nnunetv2 is not installed here, or cannot take this cell.
        RuntimeError: nnU-Net failed; what it printed last is logged.
    """
    if missing := nnunetv2_missing():
        raise TrainingError(missing)
    model: NnUNetV2Settings = context.model_spec
    place = paths.checkpoint(context.job.train_id, f"nnunet-{ranks.device.type}")
    kept = unpacked(context.store.read(place))
    history = list(kept.history) if kept else []
    before = dict(kept.spent) if kept else {}
    facts: dict[str, int] = {}
    with _scratch(context) as folders:
        _fill(context, folders, watch)
        shutil.rmtree(folders.results, ignore_errors=True)
        output = folders.results / DATASET / model.folder / "fold_0"
        output.mkdir(parents=True)
        if kept:
            (output / kept.name).write_bytes(kept.content)
        environ = environment(folders, torch.get_num_threads(), model.processes)
        wanted = _wanted(context, model, folders, ranks, resume=kept is not None)

        def keep(file: Path, *, final: bool) -> None:
            kept = Kept(file.read_bytes(), final, history, summed(before, watch.spent()))
            context.store.require_claim(context.job.train_id, context.job.token)
            context.store.write(place, packed(kept))

        for message in messages(wanted, folders, environ, watch):
            if "epoch" in message:
                history = [*history[: message["epoch"] - 1], message["metrics"]]
                if message["saved"]:
                    keep(Path(message["saved"]), final=False)
                    Path(message["saved"]).unlink()
                on_epoch(message["epoch"], message["metrics"], message["epochs"])
            elif "trained" in message:
                keep(Path(message["trained"]), final=True)
            elif "parameters" in message:
                facts = message
        masks = read_masks(context, folders)
    cost = {
        "epochs": len(history),
        "chosen_epoch": len(history),
        "parameters": facts["parameters"],
        "trained_parameters": facts["parameters"],
        "peak_memory_bytes": facts["memory"],
        **summed(before, {**watch.spent(), "seconds": 0.0}),
    }
    return Predicted(masks, history, cost)


@contextlib.contextmanager
def _scratch(context: TrialContext) -> Iterator[Folders]:
    """Beside the training's checkpoint, and removed with it; of a study on an object store, a
    folder of this machine that goes when the attempt ends.
    """
    store = context.store
    if store.local:
        folder = Path(store.path(paths.scratch(context.job.train_id)))
        folder.mkdir(parents=True, exist_ok=True)
        yield Folders(folder)
        return
    with tempfile.TemporaryDirectory(prefix="medvision-nnunet-") as temporary:
        yield Folders(Path(temporary))


def _fill(context: TrialContext, folders: Folders, watch: Watch) -> None:
    """The raw dataset, where an earlier attempt has not left it whole."""
    whole = folders.scratch / "whole"
    if not whole.exists():
        for folder in (folders.raw, folders.preprocessed, folders.tested):
            shutil.rmtree(folder, ignore_errors=True)
        write_dataset(context, _modality(context), folders, watch)
        whole.touch()
    shutil.rmtree(folders.predicted, ignore_errors=True)


def _modality(context: TrialContext) -> Sequence[str]:
    """Of the channels that the study shows, by which nnU-Net normalises."""
    channel, declared = context.task.channel, context.declared.modality
    modality = tuple(context.task.modality or declared or ())
    return modality if channel == "all" else modality[channel : channel + 1]


def _wanted(
    context: TrialContext,
    model: NnUNetV2Settings,
    folders: Folders,
    ranks: Ranks,
    *,
    resume: bool,
) -> dict[str, Any]:
    return {
        "dataset": DATASET,
        "preprocessed": str(folders.preprocessed / DATASET),
        "configuration": model.configuration,
        "trainer": model.trainer,
        "plans": model.plans,
        "planner": model.planner,
        "budget": model.budget,
        "batch_size": model.batch_size,
        "save_every": context.spec.training.checkpoint_epochs,
        "resume": resume,
        "device": ranks.device.type,
        "threads": torch.get_num_threads(),
        "seed": context.draw,
        "test": test_files(context, folders),
        "output": str(folders.predicted),
        "probabilities": overlapping(context.groups),
    }
