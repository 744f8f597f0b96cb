"""A study's numbers as a small folder to publish with a paper: `medvision publish STUDY --into
FOLDER`, and the study again, for its report: `medvision publish --back FOLDER --into STUDY`.

Exit codes: 0 done, 1 trials of the plan are missing in it, 2 no study, nothing finished, or wrong
arguments.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from record.command import begin_command
from record.published import publish, restore
from record.store import Store, StoreError
from record.study import StoredStudy
from record.terminal import say


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    begin_command()
    parser = argparse.ArgumentParser(
        prog="medvision publish",
        description="Write what a study's tables are made of into a small folder: plan, spec, "
        "folds, scores of every test case, curves, costs and versions. No image, mask or weight, "
        "no folder of data or results. Changes nothing in the study.",
        epilog="example: medvision publish runs/full --into paper/full\n"
        "a reader makes the report of it: medvision publish --back paper/full --into runs/theirs "
        "&& medvision report runs/theirs",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", metavar="STUDY", help="a study; with --back a published folder")
    parser.add_argument("--into", metavar="FOLDER", required=True, help="what is written")
    parser.add_argument("--back", action="store_true", help="make a study of a published folder")
    options = parser.parse_args(argv)
    source, into = Store(options.study), Store(options.into)
    try:
        if options.back:
            study = restore(source, into)
        else:
            study = StoredStudy.opened(source)
            publish(study, into)
    except StoreError as error:
        say(f"error: {error}", file=sys.stderr)
        return 2
    planned, missing = len(study.plan.trials), len(study.missing)
    say(f"{into.uri}: {planned - missing} of {planned} trials")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
