"""A study's folds for other tools: `medvision splits STUDY --as nnunet`.

Writes exactly the training, validation and test cases of each fold and fraction. Exit codes: 0
done, 2 no study or wrong arguments.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from medvision.data.readers.registry import read_task
from medvision.errors import DataError
from orchestrator.comparing.folds_out import KINDS, Kind, files_of, roles_of
from record.atomic import write_local
from record.command import begin_command
from record.store import Store, StoreError
from record.study import StoredStudy
from record.terminal import say


def write_splits(study: StoredStudy, kind: Kind, output: Path) -> list[Path]:
    """Write every task's folds below a folder.

    Raises:
        StoreError: a split file is missing or damaged.
        DataError: the data are not where the study says, for `monai`.
        OSError: nothing can be written there.
    """
    written = []
    for task in study.plan.tasks:
        split = study.splits.get(task)
        if split is None:
            raise StoreError(f"{study.store.uri}: has no folds of {task} yet")
        cases = {}
        if kind == "monai":
            found = read_task(Path(study.settings.data_root), task)
            cases = {case.id: case for case in (*found.cases, *found.test_cases)}
        roles = roles_of(split, study.plan.fractions)
        for name, content in files_of(kind, task, roles, cases).items():
            write_local(output / name, content.encode())
            written.append(output / name)
    return written


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    begin_command()
    parser = argparse.ArgumentParser(
        prog="medvision splits",
        description="Write a study's folds for another tool; changes nothing in the study.",
        epilog="example: medvision splits runs/full --as nnunet --output folds\n"
        "nnunet: splits_final.json for nnUNet_preprocessed/DATASET, a file a fraction; its val are "
        "the study's validation cases: predict the test cases (also listed) afterwards",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "study", metavar="STUDY", help="folder or fsspec URI of a study: <storage>/<name>"
    )
    parser.add_argument("--as", dest="kind", choices=KINDS, required=True, help="the tool's format")
    parser.add_argument("--output", metavar="FOLDER", default="splits", help="by default ./splits")
    options = parser.parse_args(argv)
    try:
        study = StoredStudy.opened(Store(options.study))
        written = write_splits(study, cast(Kind, options.kind), Path(options.output))
    except (StoreError, DataError, OSError) as error:
        say(f"error: {error}", file=sys.stderr)
        return 2
    for path in written:
        say(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
