"""The official code's flags, and the spec that they mean. Imports no torch."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from medvision.data.readers.registry import LISTINGS
from medvision.models.registry import MODEL_LABELS, PAPER_SOURCES, canonical_label
from orchestrator.spec.messages import in_words
from orchestrator.spec.places import dotted
from orchestrator.spec.study import Spec

STUDIES = "official_runs"  # under the output folder: checkpoints, splits, results
FRACTIONS = {"full": 1.0, "ten": 0.1, "thirty": 0.3}
LLM_VARIABLE = "MEDVISION_LLM"  # instead of --llm, for command lines that are not to be changed
SMALL = "small"
# Real small checkpoints (BioGPT's has random weights) in the place of the paper's, by hub id.
SMALL_SOURCES = {
    "meta-llama/Llama-3.1-8B": "smollm2-135m",
    "dmis-lab/biobert-base-cased-v1.2": "minilm-l6",
    "emilyalsentzer/Bio_ClinicalBERT": "minilm-l6",
    "microsoft/biogpt": "tiny-biogpt",
}
PATIENTS = "patients.csv"  # in the task's folder


class FlagError(ValueError):
    """A flag whose value cannot be used; the message names it."""


def flags() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python main.py",
        description="Train and test one model on one task, as the official MedVisionLlama code is "
        "called.",
        epilog="""\
example:
  python main.py --data_dir /data/Task04_Hippocampus \\
      --data_file /data/Task04_Hippocampus/data_file.txt --task_name Task04_Hippocampus \\
      --epochs 100 --batch_size 4 --image_size 128,128,128 --patch_size 8,8,8 \\
      --lr 2e-3 --dataset_fraction full --model_label MedVisionLlama

Sizes are z,y,x, as in the official code. Its files have its names: TASK/TASK_training_results.csv
with its seven columns, curves of loss, Dice and NSD beside it, new_model_TASK_....pth with weights
and optimizer, and with --predictions, after every fifth epoch, predictions/TASK_..._epoch_N/
epoch_N_slice_K_combined.png. Beside the CSV lie a table of every test case, slices, activations
and the checkpoint for `python -m medvision.predict`, each named after task, model and fraction. The
same command again goes on where it was stopped.

Offline, `--llm small` (or MEDVISION_LLM=small) takes small checkpoints in the place of the paper's.

The recipe is the official one (10 % of the cases test, then the fraction is drawn; Adam, plateau,
Dice + BCE, rotations and intensity changes); its defects are not: splits are seeded and no copy of
a validation case is trained on, every test case is scored, in mm on its own grid and only once, the
epoch is chosen on validation cases, the Dice term has a gradient, the language model is really
called, and one layer of it is read instead of the whole checkpoint (--recipe official trains as the
official code does, for comparison). As everywhere in this product,
gradients are clipped and the output starts at the share of foreground.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--data_dir",
        required=True,
        metavar="D",
        help="the task's folder; the listed files are looked for under it",
    )
    add(
        "--data_file",
        metavar="F",
        help="`image,label` a line, or a dataset.json; by default the one in --data_dir",
    )
    add("--task_name", metavar="NAME", help="by default the name of --data_dir")
    add("--epochs", type=_count, default=100)
    add("--batch_size", type=_count, default=4)
    add("--image_size", type=_size, default=(128, 128, 128), metavar="Z,Y,X")
    add("--patch_size", type=_size, default=(8, 8, 8), metavar="Z,Y,X")
    add("--lr", type=_rate, default=2e-3)
    add(
        "--dataset_fraction",
        type=_fraction,
        default=1.0,
        metavar="full|0.1|0.3",
        help="also ten, thirty",
    )
    add(
        "--model_label",
        type=_label,
        default="MedVisionLlama",
        metavar="LABEL",
        help=", ".join(MODEL_LABELS),
    )
    add(
        "--llm",
        metavar="SOURCE",
        help="checkpoint of the MedVision models' block: folder, file, asset (smollm2-135m), "
        f"Hugging Face id, or `{SMALL}` for a small one of the family; by default what the "
        f"variable {LLM_VARIABLE} says, or the paper's, from Hugging Face",
    )
    add(
        "--group_file",
        metavar="CSV",
        help="columns case and patient: scans of one patient keep to one role; by default "
        f"{PATIENTS} in --data_dir, where there is one",
    )
    add(
        "--predictions",
        action="store_true",
        help="every fifth epoch, draw the slices of a validation case",
    )
    add(
        "--recipe",
        choices=("corrected", "official"),
        default="corrected",
        help="official: networks, data, splits and training as the official code has them, with "
        "their defects (docs/claims.md); by default corrected",
    )
    add(
        "--on_bad_case",
        choices=("stop", "exclude"),
        default="stop",
        help="what a missing or broken case does",
    )
    add(
        "--seed",
        type=int,
        default=0,
        help="initialisation, order and augmentation; never the split",
    )
    add("--device", default="auto", help="cpu, cuda, cuda:1; by default a GPU where there is one")
    add("--output_dir", default=".", metavar="FOLDER", help="by default the current folder")
    return parser


def spec_of(options: argparse.Namespace) -> Spec:
    """The spec that the flags mean.

    Raises:
        FlagError: values that do not go together.
    """
    task = task_of(options)
    model: dict[str, Any] = {"label": options.model_label}
    if source := block_source(options):
        model["llm"] = {"source": source}
    elif options.llm:
        raise FlagError(f"--llm: {options.model_label} has no language-model block")
    sizes = options.image_size, options.patch_size
    if any(size % patch for size, patch in zip(*sizes, strict=True)):
        image, patch = (",".join(map(str, size)) for size in sizes)
        raise FlagError(f"--image_size {image} (z,y,x) must be a multiple of patch_size {patch}")
    share = "" if options.dataset_fraction == 1 else f"_{100 * options.dataset_fraction:g}pct"
    share += "_official" if options.recipe == "official" else ""
    name = f"{task}_{options.model_label.replace('+', 'p')}{share}"
    storage = Path(options.output_dir).resolve() / STUDIES
    values = {
        "name": name,
        "recipe": options.recipe,
        "models": [model],
        "tasks": [task],
        "fractions": [options.dataset_fraction],
        "seeds": [options.seed],
        "data": {
            "root": str(storage / name / "data"),
            # SimpleITK's arrays are [z, y, x], this product's [x, y, z].
            "image_size": options.image_size[::-1],
            "patch_size": options.patch_size[::-1],
            "on_bad_case": options.on_bad_case,
        },
        "splits": {"scheme": "holdout", "test_fraction": 0.1, "group_file": group_file(options)},
        "training": {"epochs": options.epochs, "batch_size": options.batch_size, "lr": options.lr},
        "resources": {"cpus_per_worker": _cores(), "max_attempts": 1},
        "storage": str(storage),
        "tracking": {"enabled": False},
    }
    try:
        return Spec.model_validate(values)
    except ValidationError as error:
        wrong = in_words(error.errors(), values)
        lines = [f"{dotted(mistake.place)}: {mistake.message}" for mistake in wrong]
        raise FlagError("\n".join(lines)) from error


def task_of(options: argparse.Namespace) -> str:
    """The task's name: as given, or that of the data folder."""
    return str(options.task_name or Path(options.data_dir).resolve().name)


def block_source(options: argparse.Namespace) -> str | None:
    """The checkpoint of the model's block, None for a model without one."""
    papers = PAPER_SOURCES.get(options.model_label)
    if papers is None:
        return None
    named = str(options.llm or os.environ.get(LLM_VARIABLE) or papers)
    return SMALL_SOURCES[papers] if named == SMALL else named


def data_folder(options: argparse.Namespace) -> Path:
    """The folder under which the listed files lie: --data_dir, or the task's folder in it.

    Raises:
        FlagError: there is no such folder.
    """
    folder = Path(options.data_dir)
    if not folder.is_dir():
        raise FlagError(f"--data_dir: there is no folder {folder}")
    below = folder / task_of(options)
    return below if below.is_dir() and not (folder / "imagesTr").is_dir() else folder


def group_file(options: argparse.Namespace) -> str | None:
    """The file that names the patients, if any: --group_file, or the task's own.

    Raises:
        FlagError: the file that was named is not there.
    """
    own = data_folder(options) / PATIENTS
    if options.group_file is None:
        return str(own.resolve()) if own.is_file() else None
    return str(_found("--group_file", options.group_file, data_folder(options)).resolve())


def case_list(options: argparse.Namespace) -> Path:
    """The file that lists the cases: as given, or beside the data.

    Raises:
        FlagError: there is none.
    """
    folder = data_folder(options)
    if options.data_file is None:
        found = [folder / name for name in LISTINGS if (folder / name).is_file()]
        if not found:
            raise FlagError(
                f"--data_file: {folder} holds neither {' nor '.join(LISTINGS)}; name the list of "
                "cases"
            )
        return found[0]
    return _found("--data_file", options.data_file, folder)


def _found(flag: str, given: str, folder: Path) -> Path:
    """A file that was named, as it is or under the data folder."""
    path = next((each for each in (Path(given), folder / given) if each.is_file()), None)
    if path is None:
        raise FlagError(f"{flag}: there is no file {given}")
    return path


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _size(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not three whole numbers such as 128,128,128")
    return tuple(int(part) for part in parts)


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 such as 2e-3")
    return value


def _fraction(text: str) -> float:
    try:
        value = FRACTIONS.get(text.lower()) or float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is none of full, ten, thirty, nor a number in (0, 1]"
        )
    return value


def _label(text: str) -> str:
    try:
        return canonical_label(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
