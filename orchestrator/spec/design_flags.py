"""The command line of `python -m orchestrator.design`, read: what is asked of a design, and each
mistake in one line.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medvision.metrics.definitions import METRICS
from orchestrator.spec.study import Spec
from orchestrator.spec.yaml_file import load_spec

COMPONENTS = ("fold", "training", "case", "rest")  # of `reports.statistics`, without its imports
FOLDS, SEEDS = (3, 4, 5, 7, 10), (1, 2, 3, 4, 5, 7, 10)
LEAST_CASES = 6  # below it no test over cases can reach 0.05, and the report tests nothing


class ArgumentError(ValueError):
    """A wrong argument, in one line."""


@dataclass(frozen=True)
class Asked:
    """`detect`: metric -> difference; one of `pilot` (a study) and `assumed` (component ->
    variance); `power` and `level` are wanted of the design, `tests` are in a family.
    """

    spec: Spec
    detect: Mapping[str, float]
    pilot: str | None
    assumed: Mapping[str, float] | None
    power: float
    tests: int
    folds: Sequence[int]
    seeds: Sequence[int]
    cases: Sequence[int]

    @property
    def level(self) -> float:
        """Of the tests' intervals."""
        return 1 - 0.05 / self.tests


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage before it."""

    def print_usage(self, file: Any = None) -> None:
        """Nothing: `--help` has it."""


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m orchestrator.design",
        description="The cheapest folds x seeds (x cases) that detect a difference with a wanted "
        "power; nothing is trained.",
        epilog="examples:\n  python -m orchestrator.design study.yaml --from runs/pilot --detect "
        "dice=0.01\n  python -m orchestrator.design study.yaml --detect dice=0.01 --assume "
        "fold=0,training=0.0001,case=0.002,rest=0.0005",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("spec", metavar="SPEC", help="the YAML file of the study that is planned")
    parser.add_argument(
        "--from",
        dest="pilot",
        metavar="STUDY",
        help="a finished study with folds and several seeds: its folder or URI",
    )
    parser.add_argument(
        "--assume",
        metavar="NAME=VARIANCE,...",
        help="instead of a pilot: variances of fold, training, case and rest of the difference",
    )
    parser.add_argument(
        "--detect",
        action="append",
        required=True,
        metavar="METRIC=DIFFERENCE",
        help="the difference to be found, in the metric's unit; several must all be found",
    )
    parser.add_argument("--power", default="0.8", help="wanted probability to find it (0.8)")
    parser.add_argument(
        "--tests", default="1", metavar="M", help="tests in the family: p below 0.05 / M (1)"
    )
    parser.add_argument(
        "--folds", default=_listed(FOLDS), metavar="K,...", help="to be tried (%(default)s)"
    )
    parser.add_argument(
        "--seeds", default=_listed(SEEDS), metavar="S,...", help="to be tried (%(default)s)"
    )
    parser.add_argument(
        "--cases", default="", metavar="N,...", help="cases of every task (those that it has)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the spec"
    )
    return parser


def asked(argv: Sequence[str] | None) -> Asked:
    """The command line as values.

    Raises:
        ArgumentError: the first that is wrong, in one line.
        SpecError: what is wrong in the spec.
    """
    arguments = _parser().parse_args(argv)
    if (arguments.pilot is None) == (arguments.assume is None):
        raise ArgumentError(
            "give --from STUDY, a finished study with several seeds, or else --assume "
            "fold=..,training=..,case=..,rest=.."
        )
    detect: dict[str, float] = {}
    for text in arguments.detect:
        metric, _, value = text.partition("=")
        if metric not in METRICS:
            raise ArgumentError(
                f"--detect {text}: unknown metric {metric!r}; known metrics: {', '.join(METRICS)}"
            )
        if metric in detect:
            raise ArgumentError(f"--detect names {metric} twice")
        detect[metric] = _number(f"--detect {text}", value, "a difference above 0", 0)
    power = _number("--power", arguments.power, "a number between 0.05 and 1", 0.05, 1)
    tests = _whole("--tests", arguments.tests, 1)[0]
    folds, seeds = _whole("--folds", arguments.folds, 2), _whole("--seeds", arguments.seeds, 1)
    cases = _whole("--cases", arguments.cases, LEAST_CASES) if arguments.cases else []
    assumed = None if arguments.assume is None else _assumed(arguments.assume)
    if assumed and len({METRICS[metric].unit for metric in detect}) > 1:
        named = " and ".join(f"{metric} ({METRICS[metric].unit or 'a ratio'})" for metric in detect)
        raise ArgumentError(
            f"--assume {arguments.assume} states variances in one unit, but --detect names "
            f"{named}: ask for one unit at a time, or take a pilot (--from), which has each "
            "metric's variances"
        )
    spec = load_spec(arguments.spec, arguments.set)
    if spec.splits.scheme != "kfold":
        raise ArgumentError(
            f"{arguments.spec}: splits.scheme: {spec.splits.scheme} has one training set, which is "
            "not testable for methods with however many seeds: set splits.scheme: kfold"
        )
    return Asked(spec, detect, arguments.pilot, assumed, power, tests, folds, seeds, cases)


def _assumed(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name not in COMPONENTS or name in found:
            raise ArgumentError(
                f"--assume {text}: name each of {', '.join(COMPONENTS)} once, such as "
                "fold=0,training=0.0001,case=0.002,rest=0.0005 (variances)"
            )
        found[name] = _number(f"--assume {part}", value, "a variance, 0 or above", 0, zero=True)
    if lacking := [name for name in COMPONENTS if name not in found]:
        raise ArgumentError(f"--assume {text} lacks {', '.join(lacking)}: state all four variances")
    if not any(found.values()):
        raise ArgumentError(f"--assume {text}: nothing varies; state a variance above 0")
    return {name: found[name] for name in COMPONENTS}


def _number(
    where: str, text: str, what: str, above: float, below: float = float("inf"), zero: bool = False
) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not (above < value < below or (zero and value == above)):
        raise ArgumentError(f"{where}: {text!r} is not {what}")
    return value


def _whole(where: str, text: str, least: int) -> list[int]:
    """Whole numbers, separated by commas, each at least so large; sorted."""
    try:
        values = sorted({int(part) for part in text.split(",")})
    except ValueError:
        values = []
    if not values or values[0] < least:
        raise ArgumentError(
            f"{where} {text}: give whole numbers of at least {least}, such as {least},{least + 2}"
        )
    return values


def _listed(values: Sequence[int]) -> str:
    return ",".join(map(str, values))
