"""Any tools' masks against the truth: `medvision compare TRUTH --masks A=FOLDER B=FOLDER`.

Needs no spec, no study and no training. It checks the masks, scores them with the exact metrics on
all cores, and writes a study's whole report: tables with intervals and exact tests, forest plot,
worst cases, LaTeX. Exit codes: 0 done, 2 wrong arguments or masks.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvision.errors import DataError
from orchestrator.comparing.flags import (
    DEFAULT_METRICS,
    folders,
    labelled,
    pair,
    parser_of_compare,
)
from orchestrator.comparing.flags import labels as given_labels
from orchestrator.comparing.shown import print_problems, shown_progress
from record.arguments import amount
from record.command import begin_command
from record.store import Store, StoreError
from record.terminal import say

if TYPE_CHECKING:
    import pandas as pd

    from record.study import StoredStudy


@dataclass(frozen=True)
class Compared:
    """What a comparison gave. `report`: its folder; `markdown`: the table of tests; `table`: the
    same as values (`reports.sections.significance`); `cases`: a row a method, training, case and
    label group, every metric unrounded.
    """

    report: str
    markdown: str
    table: pd.DataFrame
    cases: pd.DataFrame
    study: StoredStudy


def compare(
    truth: Any,
    masks: Mapping[str, Any],
    *,
    output: str | Path,
    spacing: Any = (1.0, 1.0, 1.0),
    labels: Mapping[str, Any] | None = None,
    labels_of: Mapping[str, Mapping[str, Any]] | None = None,
    patients: str | Path | Mapping[str, str] | None = None,
    trainings: str | None = None,
    baseline: str | None = None,
    metrics: Sequence[str] = DEFAULT_METRICS,
    tolerances: Sequence[float] | None = None,
    nsd: str = "surfel",
    hd95: str = "voxel-max",
    both_empty: str = "exclude",
    equivalence: Mapping[str, float] | None = None,
    allow_empty: bool = False,
    probabilities: Collection[str] = (),
    name: str | None = None,
    progress: Callable[[int], contextlib.AbstractContextManager[Callable[[], object]]]
    | None = None,
) -> Compared:
    """Score masks of several methods against the truth, test their differences, and write the
    report of a study into `output`.

    Args:
        truth: a folder of label files, or a mapping of case to a file or whole numbers [X, Y, Z].
        masks: method -> the same; or a list of them, one of each training, in the same order for
            all methods. Names of files are names of cases.
        output: the folder of the record, whose `report/` holds the tables and figures.
        spacing: of arrays, mm along X, Y and Z; or a mapping of case to such.
        labels: structure -> value, values, or `all`; by default those that dataset.json names next
            to the truth, else one `foreground` of every value above 0.
        labels_of: method -> the same, where its masks have other values than the truth.
        patients: a CSV with the columns case and patient, or the mapping: patients are then the
            unit.
        trainings: where below a method's folder the masks of one training lie, such as
            `fold_{fold}` or `{seed}`; None: in the folder itself.
        baseline: against which the others are tested; by default the first of `masks`.
        metrics: shown and tested, of `medvision.metrics.METRICS`.
        tolerances: of the NSD in mm; by default the challenge's of an MSD task, else 1 mm.
        nsd, hd95: definitions (`medvision.metrics.evaluate_case`).
        both_empty: `exclude` leaves out what has no structure in the truth, `perfect` scores it.
        equivalence: metric -> the largest difference without practical importance.
        allow_empty: count an empty mask as a miss, where the truth is not empty.
        probabilities: methods that have these in place of masks, [X, Y, Z, C]: a channel a
            structure in the order of `labels`, above 0.5 counts; with a channel of the background
            first, the likeliest does.
        name: of the data in the tables; by default the truth's folder.
        progress: called with the number of masks, gives what is called after each.

    Raises:
        DataError: what is wrong with truths or masks, each case by its name
            (`orchestrator.comparing.scored.MasksError` has them as a list).
        StoreError: `output` holds a study that was trained, or cannot be written.
    """
    from orchestrator.comparing.arguments import checked
    from orchestrator.comparing.study import write_comparison
    from record import paths
    from reports.build import build_report
    from reports.sections.significance import significance_table
    from reports.statistics.pairing import with_patients

    truths, found, design = checked(
        truth,
        masks,
        spacing=spacing,
        labels=labels,
        labels_of=labels_of or {},
        patients=patients,
        pattern=trainings,
        baseline=baseline,
        metrics=metrics,
        tolerances=tolerances,
        nsd=nsd,
        hd95=hd95,
        both_empty=both_empty,
        equivalence=equivalence or {},
        allow_empty=allow_empty,
        probabilities=probabilities,
        name=name,
    )
    store = Store(str(output) if "://" in str(output) else str(Path(output).expanduser().resolve()))
    with (progress or _silent)(sum(len(one.masks) for one in found)) as on_mask:
        study = write_comparison(store, truths, found, design, on_mask)
    report = build_report(study)
    cases = study.rows(paths.CASES)
    grouped = with_patients(cases, {design.task: dict(design.patients)})
    table = significance_table(grouped, study.plan, study.finished.commits)
    return Compared(store.path(paths.REPORT), report.markdown, table, cases, study)


@contextlib.contextmanager
def _silent(masks: int) -> Iterator[Callable[[], object]]:
    yield lambda: None


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    begin_command()
    options = parser_of_compare().parse_args(argv)
    from orchestrator.comparing.arguments import task_name

    try:
        of = [labelled(text) for text in options.labels_of]
        done = compare(
            Path(options.truth),
            folders(options.masks),
            output=options.output or f"runs/compare-{task_name(Path(options.truth))}",
            labels=given_labels(options.labels) if options.labels else None,
            labels_of={
                method: given_labels([text for one, text in of if one == method])
                for method, _ in of
            },
            patients=options.patients,
            trainings=options.trainings,
            baseline=options.baseline,
            metrics=options.metrics,
            tolerances=options.tolerances or None,
            nsd=options.nsd,
            hd95=options.hd95,
            both_empty=options.both_empty,
            equivalence={metric: amount(value) for metric, value in map(pair, options.equivalence)},
            allow_empty=options.allow_empty,
            probabilities=options.probabilities,
            name=options.name,
            progress=shown_progress,
        )
    except (DataError, StoreError, argparse.ArgumentTypeError) as error:
        print_problems(error, options.problems)
        return 2
    say(done.markdown)
    say(f"{done.report}/report.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
