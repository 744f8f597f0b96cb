"""The official code's flags, and the spec that they stand for. Imports no torch."""

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

It writes TASK_MODEL[_10pct]_training_results.csv, curves of loss, Dice and NSD, slices,
activations, the checkpoint for `python -m medvision.predict`, and a table of every test case. The
same command again goes on where it was stopped.

The recipe is the official one (10 % of the cases test, then the fraction is drawn; Adam, plateau,
Dice + BCE, rotations and intensity changes); its defects are not: splits are seeded and no copy of
a validation case is trained on, every test case is scored, in mm on its own grid and only once, the
epoch is chosen on validation cases, the Dice term has a gradient, the language model is really
called, and one layer of it is read instead of the whole checkpoint. As everywhere in this product,
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
    add("--image_size", type=_size, default=(128, 128, 128), metavar="X,Y,Z")
    add("--patch_size", type=_size, default=(8, 8, 8), metavar="X,Y,Z")
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
        help="checkpoint of the MedVision models' block: folder, file, asset (smollm2-135m) or "
        "Hugging Face id; by default the paper's, from Hugging Face",
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
    """The spec that the flags stand for.

    Raises:
        FlagError: values that do not go together.
    """
    task = options.task_name or Path(options.data_dir).resolve().name
    model: dict[str, Any] = {"label": options.model_label}
    if options.model_label in PAPER_SOURCES:
        model["llm"] = {"source": options.llm or PAPER_SOURCES[options.model_label]}
    elif options.llm:
        raise FlagError(f"--llm: {options.model_label} has no language-model block")
    share = "" if options.dataset_fraction == 1 else f"_{100 * options.dataset_fraction:g}pct"
    name = f"{task}_{options.model_label.replace('+', 'p')}{share}"
    storage = Path(options.output_dir).resolve() / STUDIES
    values = {
        "name": name,
        "models": [model],
        "tasks": [task],
        "fractions": [options.dataset_fraction],
        "seeds": [options.seed],
        "data": {
            "root": str(storage / name / "data"),
            "image_size": options.image_size,
            "patch_size": options.patch_size,
            "on_bad_case": options.on_bad_case,
        },
        "splits": {"scheme": "holdout", "test_fraction": 0.1},
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


def case_list(options: argparse.Namespace) -> Path:
    """The file that lists the cases: as given, or beside the data.

    Raises:
        FlagError: there is none.
    """
    folder = Path(options.data_dir)
    if not folder.is_dir():
        raise FlagError(f"--data_dir: there is no folder {folder}")
    if options.data_file is None:
        found = [folder / name for name in LISTINGS if (folder / name).is_file()]
        if not found:
            raise FlagError(
                f"--data_file: {folder} holds neither {' nor '.join(LISTINGS)}; name the list of "
                "cases"
            )
        return found[0]
    given = Path(options.data_file)
    if not given.is_file() and not (folder / given).is_file():
        raise FlagError(f"--data_file: there is no file {given}")
    return given if given.is_file() else folder / given


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
