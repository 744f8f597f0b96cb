"""Another tool's masks as trials of a study: `medvision score --study S --name X --masks PATTERN`.

They are scored by the study's own definitions on its own folds, committed like any trial, and stand
in every table and figure; what they cost is unknown. Exit codes: 0 done, 2 wrong flags or masks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from medvision.errors import DataError
from orchestrator.comparing.flags import labels
from orchestrator.comparing.in_study import Wanted, score_in_study
from orchestrator.comparing.shown import print_problems, shown_progress
from orchestrator.spec.other_tools import PLACES, PLACES_OF_FOLDS, wrong_places
from record.arguments import whole
from record.command import begin_command
from record.lock import StudyLockedError, study_lock
from record.store import Store, StoreError
from record.study import StoredStudy
from record.terminal import say


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    begin_command()
    options = _parser().parse_args(argv)
    try:
        _check_places("--masks", options.masks, PLACES)
        _check_places("--folds", options.folds, PLACES_OF_FOLDS)
        wanted = Wanted(
            options.name,
            options.masks,
            labels=labels(options.labels) if options.labels else {},
            folds=options.folds,
            allow_empty=options.allow_empty,
            probabilities=options.probabilities,
        )
        store = Store(options.study)
        StoredStudy.opened(store)  # before anything is written there
        with study_lock(store):
            study = score_in_study(StoredStudy.opened(store), wanted, shown_progress)
        from reports.build import build_report

        report = build_report(study)
    except (DataError, StoreError, StudyLockedError, argparse.ArgumentTypeError) as error:
        print_problems(error, options.problems)
        return 2
    say(report.markdown)
    return 0


def _check_places(flag: str, pattern: str, known: Sequence[str]) -> None:
    """Refuse whatever else stands in braces."""
    if problem := wrong_places(pattern, known):
        raise DataError(f"{flag} {pattern!r}: {problem}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="medvision score",
        description="Score another tool's masks on a study's folds, as trials of that study.",
        epilog="examples:\n"
        "  medvision score --study runs/full --name nnU-Net \\\n"
        "      --masks 'nnUNet_results/{task}/fold_{fold}/validation' --folds splits_final.json\n"
        "  medvision score --study runs/full --name SAM --masks masks/   # one for all folds",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--study", required=True, metavar="S", help="folder or fsspec URI: <storage>/<name>")
    add("--name", required=True, metavar="X", help="what tables call the method")
    add(
        "--masks",
        required=True,
        metavar="PATTERN",
        help="folder of the masks, named as the cases; {task}, {fraction}, {fold} and {seed} stand "
        "where folders differ; without {seed} the masks count for every seed, without {fold} a "
        "folder has those of all folds, without {fraction} they are of the largest",
    )
    add(
        "--folds",
        metavar="FILE",
        default="",
        help="the tool's own folds, such as nnU-Net's splits_final.json; {task} and {fraction} "
        "stand where files differ: a case that the tool trained on in the fold that tests it, "
        "or whose patient it trained on, is refused",
    )
    add(
        "--labels",
        nargs="+",
        default=[],
        metavar="NAME=VALUES",
        help="the structures' values in the masks, where they are others than the truth's",
    )
    add(
        "--allow-empty",
        action="store_true",
        help="count an empty mask as a miss where the truth is not empty; else it is refused",
    )
    add(
        "--probabilities",
        action="store_true",
        help="the files hold probabilities, a channel a structure in the alphabetical order of "
        "their names: above 0.5 counts; with a channel of the background first, the likeliest",
    )
    add("--problems", type=whole, default=20, metavar="N", help="so many wrong masks are listed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
