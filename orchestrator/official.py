"""The official command line, `python main.py ...`: one model on one task, in this process, into the
current folder.

It is a study of one trial: the flags become a spec, and plan, attempt, result store and figures are
those of every other study, without Ray and MLflow; its files are named as the official code's. Exit
codes: 0 done, 1 the training failed, 2 wrong flags or data, 130 stopped.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medvision.data.readers.base import Entry
from medvision.data.readers.registry import read_listing
from medvision.data.text import read_text
from medvision.device import usable_device
from medvision.errors import DataError
from medvision.models.registry import PAPER_SOURCES
from orchestrator.executors.in_process import InProcessExecutor
from orchestrator.planning.inputs import InputError
from orchestrator.planning.study import Study
from orchestrator.planning.study_files import open_store
from orchestrator.spec.official_flags import (
    LLM_VARIABLE,
    SMALL,
    STUDIES,
    FlagError,
    block_source,
    case_list,
    data_folder,
    flags,
    spec_of,
)
from orchestrator.spec.study import Spec, model_name
from orchestrator.trial.official_epochs import EpochEnd, keep_optimizer
from record import paths
from record.command import begin_command
from record.events import Epoch, Event, Failed, Quarantined
from record.lock import StudyLockedError, study_lock
from record.store import Store, StoreError
from record.study import StoredStudy
from record.terminal import say

if TYPE_CHECKING:
    import torch

DONE, FAILED, WRONG, STOPPED = 0, 1, 2, 130
_FLAGS = {
    "llm.source:": "--llm:",
    "set data.on_bad_case: exclude": "say --on_bad_case exclude",
}  # in messages


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    begin_command()
    options = flags().parse_args(argv)
    try:
        spec, device = spec_of(options), _device(options.device)
        store = open_store(spec)
        with study_lock(store) as token:
            study = _prepare(spec, store, options)
            _run(study, token, device, options)
        return _finish(study, options)
    except KeyboardInterrupt:
        say("\nStopped. The same command goes on from the last checkpoint.", file=sys.stderr)
        return STOPPED
    except (FlagError, DataError, InputError, StoreError, StudyLockedError) as error:
        for line in str(error).splitlines():
            for key, flag in _FLAGS.items():
                line = line.replace(key, flag)
            say(f"error: {line}{_block_hint(line, options)}", file=sys.stderr)
        return WRONG


def _block_hint(line: str, options: argparse.Namespace) -> str:
    """What else would do, where the paper's checkpoint cannot be had."""
    papers = PAPER_SOURCES.get(options.model_label)
    if "--llm:" not in line or papers is None or block_source(options) != papers:
        return ""
    return (
        f"; {options.model_label} needs {papers} (its licence accepted on huggingface.co where it "
        f"is gated, HF_TOKEN set), or a copy of it by --llm FOLDER, or, to try the command "
        f"offline, --llm {SMALL} (or {LLM_VARIABLE}={SMALL})"
    )


def _prepare(spec: Spec, store: Store, options: argparse.Namespace) -> Study:
    """List the cases in the study, and write what an attempt reads."""
    folder, listing = data_folder(options).resolve(), case_list(options)
    listed = read_listing(listing).cases
    content = (json.loads(read_text(listing)) if listing.suffix == ".json" else {}) | {
        "training": [
            {"image": _image(folder, entry), "label": str(folder / entry.label)} for entry in listed
        ],
    }
    store.write(paths.case_list(spec.tasks[0].name), json.dumps(content, indent=1).encode())
    store.remove(paths.FAILURES)  # giving the command again means: try again
    study = Study.gathered(spec, store)
    study.write()
    study.write_manifest()
    found = study.inputs.tasks[spec.tasks[0].name]
    roles = found.folds[0].roles(spec.fractions[0])
    counts = (
        f"{len(roles.train)} cases train, {len(roles.validation)} validate, {len(roles.test)} test"
    )
    say(f"{model_name(spec.models[0])} on {spec.tasks[0].name}: {counts}", flush=True)
    image, patch = (" x ".join(map(str, size)) for size in (options.image_size, options.patch_size))
    say(f"sizes are read as z,y,x, as in the official code: image {image}, patch {patch} voxels")
    if block := block_source(options):
        say(f"language-model block: {block}")
    if file := spec.splits.group_file:
        patients = len(set(found.patients.values()))
        say(f"{patients} patients by {file}: all scans of one have the same role")
    for note in (
        *roles.notes_for(spec.training.select),
        *(f"left out: {reason}" for reasons in found.excluded.values() for reason in reasons),
        *(f"warning: {doubt}" for doubt in found.doubts),
    ):
        say(f"note: {note}")
    return study


def _image(folder: Path, entry: Entry) -> str | list[str]:
    """As a dataset.json names an image: one file, or several with some channels each."""
    files = [str(folder / image) for image in entry.images]
    return files if len(files) > 1 else files[0]


def _run(study: Study, token: str, device: torch.device, options: argparse.Namespace) -> None:
    epochs = study.spec.training.epochs

    def emit(event: Event) -> None:
        if isinstance(event, Epoch):
            known = event.metrics
            numbers = [f"{name} {known[name]:.4f}" for name in _SHOWN if name in known]
            say(f"epoch {event.epoch}/{epochs}: {', '.join(numbers)}", flush=True)
        elif isinstance(event, Failed | Quarantined):
            say(f"error: {event.reason}", file=sys.stderr, flush=True)

    name, store = _recipe_name(study, options), study.store
    pictures = Store(str(Path(options.output_dir).resolve())) if options.predictions else None
    with InProcessExecutor(
        study.spec,
        store,
        device=device,
        measure=EpochEnd(
            pictures.write if pictures else None, f"predictions/{name}_epoch_{{epoch}}"
        ),
        committed=lambda job: keep_optimizer(store, job, f"new_model_{name}.pth", device),
    ) as here:
        here.run(study.jobs(token), emit=emit)


_SHOWN = ("train_loss", "val_loss", "train_dice", "val_dice", "train_nsd", "val_nsd")


def _recipe_name(study: Study, options: argparse.Namespace) -> str:
    """Names the checkpoint and the pictures: task, model and fraction, then patch, batch, rate."""
    patch = "x".join(map(str, options.patch_size))
    return f"{study.spec.name}_patch{patch}_batch{options.batch_size}_lr{options.lr:g}"


def _finish(study: Study, options: argparse.Namespace) -> int:
    """Write the trial's files into the output folder, and say what is there."""
    from reports.findings import in_lines
    from reports.health import health_of
    from reports.trial_files import trial_files

    folder, store = Path(options.output_dir), study.store
    eval_id = study.plan.trials[0].eval_id
    if eval_id not in store.commits():
        failures = store.failures_of(str(eval_id))
        details = failures[-1].details if failures else ""
        (folder / f"{store.uri.rsplit('/', 1)[-1]}_error.log").write_text(
            str(details), encoding="utf-8"
        )
        say(f"The training failed; the traceback is in {folder}/*_error.log.", file=sys.stderr)
        return FAILED
    stored = StoredStudy.opened(store)
    files, summary = trial_files(stored)
    out, replaced = Store(str(folder.resolve())), []
    for name, content in files.items():
        kept = paths.report(name.rpartition("/")[2])
        earlier = out.read(name)
        if earlier is not None and earlier not in (content, store.read(kept)):
            replaced.append(name)
        store.write(kept, content)
        out.write(name, content)
        say(f"wrote {folder / name}")
    checkpoint = f"new_model_{_recipe_name(study, options)}.pth"
    kept_checkpoint = Path(store.path(paths.report(checkpoint)))
    if kept_checkpoint.is_file():
        shutil.copyfile(kept_checkpoint, folder / checkpoint)
        say(f"wrote {folder / checkpoint}")
    if replaced:
        say(
            f"note: replaced {', '.join(replaced)} of another run, whose own lie in "
            f"{folder / STUDIES}/*/{paths.REPORT}"
        )
    if options.predictions and not (folder / "predictions").is_dir():
        say("note: no pictures of epochs: this training was finished before they were asked for")
    say(summary)
    for line in in_lines(health_of(stored)):
        say(line)
    return DONE


def _device(name: str) -> torch.device:
    """The device to train on; `auto` is the first GPU where there is one."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return usable_device(name)


if __name__ == "__main__":
    sys.exit(main())
