"""What stands behind the tests of table 1, over cases and of the methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from record.schema import StudyPlan
from reports.render.layout import Cell, Section, Table, number, share, titled
from reports.sections.printed_column import marked
from reports.sections.row_tests import NOT_TESTABLE
from reports.sections.significance_layout import interval, p_text
from reports.statistics.adjustment import ALPHA

_PLACE = ["candidate", "baseline", "task", "fraction", "metric"]
_PLACE_HEADER = ["Candidate", "Baseline", "Task", "Data", "Metric"]
_COMPONENTS = ("fold", "training", "case", "rest")
_CASES = [
    "n",
    "n_zero",
    "n_tied",
    "p_floor",
    "cases_test",
    "difference",
    "difference_low",
    "difference_high",
    "p_cases",
    "p_cases_holm",
    "capped",
    "dropped",
    "baseline_seed_sd",
    "candidate_seed_sd",
]
_METHODS = [
    "folds",
    "trainings",
    "method_difference",
    "method_se",
    "method_low",
    "method_high",
    "method_df",
    "method",
    "p_methods",
    *(f"component_{name}" for name in _COMPONENTS),
    "p_runs",
    "p_runs_floor",
    "detectable",
    "margin",
    "probability_below",
    "probability_within",
    "probability_beyond",
]
_CASES_NOTE = (
    "These trainings: n: pairs, zeros included; ties: non-zero differences of equal size; smallest "
    "p: the least that any signs of these differences could give; difference: mean over cases with "
    "a t interval, widened for skew; capped: infinite distances; left out: not applicable cases. "
    "Seeds: standard deviation between seeds of the mean over cases; empty with one seed."
)
_METHODS_NOTE = (
    "The methods: difference with its 95 % interval by t, df degrees of freedom; way: folds (they "
    "differ by more than their cases and trainings explain) or pooled (they do not). SD: standard "
    "deviations of the difference between training sets (folds), between trainings (seeds) of one, "
    "between cases, and the rest; an empty one cannot be told from the others in this design. p "
    "over runs: exact signed-rank test of the runs' means (fold x seed), which takes runs for "
    "independent. 80 % power from: the smallest difference that a study of this design and these "
    "components finds with p < 0.05, uncorrected, in 80 % of its repetitions."
)
_MARGIN_NOTE = (
    "Below, within, beyond: Bayesian probabilities that the methods' difference lies below the "
    "margin of practical equivalence, within it, or beyond it: the t behind the interval, read as "
    "a posterior (flat prior)."
)


def details_section(table: pd.DataFrame, plan: StudyPlan) -> Section:
    """What stands behind each test over cases (these trainings), and behind each of the methods."""
    complete = table[table["cases_test"] != ""].to_dict("records")
    margins = any(np.isfinite(row["margin"]) for row in complete)
    cases_header = [
        "n",
        "Zeros",
        "Ties",
        "Smallest p",
        "Method",
        "Difference [95% CI]",
        "p",
        "Holm",
    ]
    cases_header += ["Capped", "Left out", "Seeds: baseline", "Seeds: candidate"]
    methods_header = ["Folds", "Trainings", "Difference [95% CI]", "df", "Way", "p"]
    methods_header += [f"SD {name}" for name in ("folds", "trainings", "cases", "rest")]
    methods_header += ["p over runs", "80 % power from"]
    methods_header += ["Margin", "Below", "Within", "Beyond"] if margins else []
    notes = [_CASES_NOTE, _METHODS_NOTE, *([_MARGIN_NOTE] if margins else [])]
    tables = [
        Table(
            "These trainings: over cases",
            [*_PLACE_HEADER, *cases_header],
            "lllllrrrrlrrrrrrr",
            [_place(row, plan) + _over_cases(row, plan) for row in complete],
            _CASES_NOTE,
            grouped=4,
        ),
        Table(
            "The methods: over training sets, trainings and cases",
            [*_PLACE_HEADER, *methods_header],
            "lllll" + "rrrrl" + "r" * (len(methods_header) - 5),
            [_place(row, plan) + _of_methods(row, plan, margins) for row in complete],
            " ".join(notes[1:]),
            grouped=4,
        ),
    ]
    data = table[[*_PLACE, *_CASES, *_METHODS]]
    return Section("tests", "The tests in detail", tables, data, notes, place="folded")


def _place(row: Mapping[Any, Any], plan: StudyPlan) -> list[Cell]:
    return [
        *(Cell(row[name]) for name in ("candidate", "baseline", "task")),
        Cell(share(row["fraction"]), sort=row["fraction"]),
        Cell(marked(titled(plan.metrics[row["metric"]]), row)),
    ]


def _over_cases(row: Mapping[Any, Any], plan: StudyPlan) -> list[Cell]:
    digits = plan.metrics[row["metric"]].digits
    return [
        *(number(row[name], 0) for name in ("n", "n_zero", "n_tied")),
        Cell(p_text(row["p_floor"]), sort=row["p_floor"]),
        Cell(row["cases_test"]),
        interval(row["difference"], row["difference_low"], row["difference_high"], digits),
        *(_tested(row[name], row["p_floor"]) for name in ("p_cases", "p_cases_holm")),
        *(number(row[name], 0) for name in ("capped", "dropped")),
        *(number(row[f"{name}_seed_sd"], digits + 1) for name in ("baseline", "candidate")),
    ]


def _of_methods(row: Mapping[Any, Any], plan: StudyPlan, margins: bool) -> list[Cell]:
    digits = plan.metrics[row["metric"]].digits
    bounds = (row["method_low"], row["method_high"])
    cells = [
        number(row["folds"], 0),
        number(row["trainings"], 0),
        interval(row["method_difference"], *bounds, digits),
        number(row["method_df"], 1),
        Cell(row["method"]),
        _tested(row["p_methods"], row["p_floor"]),
        *(number(_root(row[f"component_{name}"]), digits + 1) for name in _COMPONENTS),
        _tested(row["p_runs"], row["p_runs_floor"]),
        number(row["detectable"], digits + 1),
    ]
    if margins:
        cells.append(number(row["margin"], digits))
        cells += [number(row[f"probability_{name}"], 2) for name in ("below", "within", "beyond")]
    return cells


def _root(variance: float) -> float:
    return float(np.sqrt(variance))


def _tested(p: float, floor: float) -> Cell:
    """A p-value, or that none below 0.05 could be had."""
    if np.isnan(p):
        return Cell("")
    return Cell(NOT_TESTABLE) if floor >= ALPHA else Cell(p_text(p), sort=float(p))
