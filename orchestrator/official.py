"""The official command line, `python main.py ...`: one model on one task, in this process, into the
current folder.

It is a study of one trial: the flags become a spec, and plan, attempt, result store and figures are
those of every other study, without Ray and MLflow. Exit codes: 0 done, 1 the training failed, 2
wrong flags or data, 130 stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvision.data.readers.base import Entry
from medvision.data.readers.registry import read_listing
from medvision.data.readers.text import read_text
from medvision.device import usable_device
from medvision.errors import DataError
from orchestrator.executors.in_process import InProcessExecutor
from orchestrator.planning.inputs import InputError
from orchestrator.planning.study import Study
from orchestrator.planning.study_files import open_store
from orchestrator.spec.official_flags import FlagError, case_list, flags, spec_of
from orchestrator.spec.study import Spec, model_name
from record import paths
from record.events import Epoch, Event, Failed, Quarantined
from record.lock import StudyLockedError, study_lock
from record.store import Store, StoreError
from record.terminal import plain_output

if TYPE_CHECKING:
    import torch
    from torch import nn

    from orchestrator.trial.context import TrialContext

DONE, FAILED, WRONG, STOPPED = 0, 1, 2, 130
_FLAGS = {
    "llm.source:": "--llm:",
    "set data.on_bad_case: exclude": "say --on_bad_case exclude",
}  # in messages


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    plain_output()
    options = flags().parse_args(argv)
    try:
        spec, device = spec_of(options), _device(options.device)
        store = open_store(spec)
        with study_lock(store) as token:
            study = _prepare(spec, store, options)
            _run(study, token, device)
        return _finish(study, Path(options.output_dir))
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from the last checkpoint.", file=sys.stderr)
        return STOPPED
    except (FlagError, DataError, InputError, StoreError, StudyLockedError) as error:
        for line in str(error).splitlines():
            for key, flag in _FLAGS.items():
                line = line.replace(key, flag)
            print(f"error: {line}", file=sys.stderr)
        return WRONG


def epoch_scores(context: TrialContext, model: nn.Module) -> dict[str, float]:
    """Dice and NSD at the end of an epoch, on the network's grid with its voxel size in mm,
    averaged over cases.

    Of the training cases only as many as validate, the first ones: all of them would cost another
    pass.
    """
    training = context.roles.train[: max(1, len(context.roles.validation))]
    train = [row for case in training for row in _grid_scores(context, model, case)]
    validation = [
        row for case in context.roles.validation for row in _grid_scores(context, model, case)
    ]
    scores = {"train_dice": _mean(train, "dice"), "train_nsd": _mean(train, "nsd")}
    return scores | ({"val_nsd": _mean(validation, "nsd")} if validation else {})


def _grid_scores(context: TrialContext, model: nn.Module, case: str) -> list[dict[str, Any]]:
    import numpy as np

    from medvision.data.nifti import Truth, open_volume
    from medvision.evaluation import predict_on_grid, score

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
    """Mean of a metric where it is defined; NaN where it is nowhere."""
    values = [float(row[metric]) for row in rows if not math.isnan(row[metric])]
    return sum(values) / len(values) if values else math.nan


def _prepare(spec: Spec, store: Store, options: argparse.Namespace) -> Study:
    """List the cases in the study, and write what an attempt reads."""
    folder, listing = Path(options.data_dir).resolve(), case_list(options)
    listed = read_listing(listing).cases
    content = (json.loads(read_text(listing)) if listing.suffix == ".json" else {}) | {
        "training": [
            {"image": _image(folder, entry), "label": str(folder / entry.label)} for entry in listed
        ],
    }
    store.write_json(paths.case_list(spec.tasks[0].name), content)
    store.remove(paths.FAILURES)  # who gives the command again wants it tried again
    study = Study.gathered(spec, store)
    study.write()
    study.write_manifest()
    found = study.inputs.tasks[spec.tasks[0].name]
    roles = found.folds[0].roles(spec.fractions[0])
    counts = (
        f"{len(roles.train)} cases train, {len(roles.validation)} validate, {len(roles.test)} test"
    )
    print(f"{model_name(spec.models[0])} on {spec.tasks[0].name}: {counts}", flush=True)
    for note in (
        *roles.notes,
        *(f"left out: {reason}" for reasons in found.excluded.values() for reason in reasons),
        *(f"warning: {doubt}" for doubt in found.doubts),
    ):
        print(f"note: {note}")
    return study


def _image(folder: Path, entry: Entry) -> str | list[str]:
    """As a dataset.json names an image: one file, or several with some channels each."""
    files = [str(folder / image) for image in entry.images]
    return files if len(files) > 1 else files[0]


def _run(study: Study, token: str, device: torch.device) -> None:
    epochs = study.spec.training.epochs

    def emit(event: Event) -> None:
        if isinstance(event, Epoch):
            known = event.metrics
            numbers = [f"{name} {known[name]:.4f}" for name in _SHOWN if name in known]
            print(f"epoch {event.epoch}/{epochs}: {', '.join(numbers)}", flush=True)
        elif isinstance(event, Failed | Quarantined):
            print(f"error: {event.reason}", file=sys.stderr, flush=True)

    with InProcessExecutor(study.spec, study.store, device=device, measure=epoch_scores) as here:
        here.run(study.jobs(token), emit=emit)


_SHOWN = ("train_loss", "val_loss", "train_dice", "val_dice", "train_nsd", "val_nsd")


def _finish(study: Study, folder: Path) -> int:
    """Write the trial's files into the folder, and say what is there."""
    from reports.trial_files import trial_files

    store, eval_id = study.store, study.plan.trials[0].eval_id
    if eval_id not in store.commits():
        failures = store.failures_of(str(eval_id))
        details = failures[-1].details if failures else ""
        (folder / f"{store.uri.rsplit('/', 1)[-1]}_error.log").write_text(
            str(details), encoding="utf-8"
        )
        print(f"The training failed; the traceback is in {folder}/*_error.log.", file=sys.stderr)
        return FAILED
    files, summary = trial_files(store)
    out = Store(str(folder.resolve()))
    for name, content in files.items():
        out.write(name, content)
        print(f"wrote {folder / name}")
    print(summary)
    return DONE


def _device(name: str) -> torch.device:
    """The device to train on; `auto` is the first GPU where there is one."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return usable_device(name)


if __name__ == "__main__":
    sys.exit(main())
