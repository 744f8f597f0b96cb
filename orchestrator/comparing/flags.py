"""The command line of `medvision compare`: its flags, and what they say as values."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medvision.errors import DataError
from medvision.metrics.definitions import SURFACES, USUAL
from record.arguments import amount, whole

DEFAULT_METRICS = ("dice", "jaccard", "hd95", "specificity", "sensitivity", "nsd")
_TRAININGS = (
    "where below a method's folder the masks of one training lie: {fold} and {seed} stand for what "
    "differs, * for anything, such as 'fold_{fold}/validation' or 'seed{seed}'; several trainings "
    "make the methods' test possible"
)
_LABELS = (
    "structures and their values: liver=1 tumour=2,3 whole=all; by default those of a dataset.json "
    "next to TRUTH, else one foreground of every value above 0"
)
_EMPTY = (
    "a case without structure in the truth: left out, or scored, as perfect where none is found"
)


def parser_of_compare() -> argparse.ArgumentParser:
    """Its parser."""
    parser = argparse.ArgumentParser(
        prog="medvision compare",
        description="Score masks of any tools against the truth, and test their differences.",
        epilog="examples:\n"
        "  medvision compare labelsTs --masks nnU-Net=nnunet/ ours=masks/ --labels tumour=1\n"
        "  medvision compare labelsTr --masks A=a/ B=b/ --trainings 'fold_{fold}/validation'\n"
        "exit codes: 0 done, 2 wrong arguments or masks",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("truth", metavar="TRUTH", help="folder of label files, one a case")
    add(
        "--masks",
        nargs="+",
        required=True,
        metavar="METHOD=FOLDER",
        help="each method's masks, named as the truth's files; the first is the baseline",
    )
    add("--trainings", metavar="PATTERN", help=_TRAININGS)
    add("--baseline", metavar="METHOD", help="by default the first of --masks")
    add("--labels", nargs="+", default=[], metavar="NAME=VALUES", help=_LABELS)
    add(
        "--labels-of",
        nargs="+",
        default=[],
        metavar="METHOD:NAME=VALUES",
        help="the same for a method whose masks have other values than the truth",
    )
    add(
        "--probabilities",
        nargs="+",
        default=[],
        metavar="METHOD",
        help="whose files hold probabilities, a channel a structure in the order of --labels: "
        "above 0.5 counts; with a channel of the background first, the likeliest",
    )
    add("--patients", metavar="CSV", help="columns case,patient: patients are then the unit")
    add(
        "--metrics",
        nargs="+",
        choices=list(USUAL),
        default=list(DEFAULT_METRICS),
        metavar="METRIC",
        help=f"shown and tested, of {', '.join(USUAL)}",
    )
    add(
        "--tolerances",
        nargs="+",
        type=amount,
        default=[],
        metavar="MM",
        help="of the NSD, the first one is tested; by default the challenge's of an MSD task, "
        "else 1 mm",
    )
    for metric in ("nsd", "hd95"):
        default = "surfel" if metric == "nsd" else "voxel-max"
        add(
            f"--{metric}", choices=SURFACES, default=default, help=f"definition of {metric.upper()}"
        )
    add("--both-empty", choices=("exclude", "perfect"), default="exclude", help=_EMPTY)
    add(
        "--equivalence",
        nargs="+",
        default=[],
        metavar="METRIC=MARGIN",
        help="the largest difference without practical importance, such as dice=0.01",
    )
    add(
        "--allow-empty",
        action="store_true",
        help="count an empty mask as a miss where the truth is not empty; else it is refused",
    )
    add("--output", metavar="FOLDER", help="of record and report; by default runs/compare-NAME")
    add("--name", metavar="NAME", help="of the data in the tables; by default the truth's folder")
    add("--problems", type=whole, default=20, metavar="N", help="so many wrong masks are listed")
    return parser


def pair(text: str) -> tuple[str, str]:
    """`NAME=VALUE` as the two.

    Raises:
        ArgumentTypeError: it is not of that form.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text[:80]!r}")
    return name.strip(), value.strip()


def folders(given: Sequence[str]) -> dict[str, Path]:
    """Method -> folder.

    Raises:
        DataError: a method twice.
    """
    pairs = [pair(text) for text in given]
    if len({name for name, _ in pairs}) < len(pairs):
        raise DataError("--masks: each method once; several trainings of one: --trainings")
    return {name: Path(folder).expanduser() for name, folder in pairs}


def labelled(text: str) -> tuple[str, str]:
    """`METHOD:NAME=VALUES` as the method and the rest."""
    method, colon, rest = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"expected METHOD:NAME=VALUE, got {text[:80]!r}")
    return method.strip(), rest


def labels(given: Sequence[str]) -> dict[str, Any]:
    """Structure -> its values, of `liver=1`, `tumour=2,3` or `whole=all`."""
    found: dict[str, Any] = {}
    for name, value in map(pair, given):
        if value == "all":
            found[name] = value
            continue
        parts = [part.strip() for part in value.split(",")]
        if not all(part.isdecimal() and int(part) for part in parts):
            raise argparse.ArgumentTypeError(
                f"--labels {name}={value[:40]}: expected values from 1 upward such as 1 or 2,3, "
                "or all"
            )
        found[name] = [int(part) for part in parts]
    return found
