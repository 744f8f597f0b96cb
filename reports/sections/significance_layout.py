"""Table 1, the significance table, laid out: one table per comparison and share of the training
data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from record.schema import StudyPlan
from reports.render import layout
from reports.render.layout import Cell, Section, Table, number, share, spread, titled
from reports.sections.row_tests import ALPHA, NOT_FOR_METHODS, NOT_TESTABLE
from reports.sections.significance import (
    NOT_SIGNIFICANT,
    ONLY_CASES,
    SIGNIFICANT,
    count_line,
)

HEADERS = (
    "Task",
    "Data",
    "Metric",
    "n",
    "{baseline}",
    "{candidate}",
    "Difference [95% CI]",
    "Change",
    "Shift [95% CI]",
    "r",
    "p cases",
    "p methods",
    "Holm",
    "BH",
    "Verdict",
)
ALIGN = "lllrrrrrrrrrrrl"


def significance_section(table: pd.DataFrame, plan: StudyPlan, notes: Sequence[str]) -> Section:
    """The significance table with its counts; `notes` stand under it, and in every LaTeX
    caption.
    """
    tables = []
    for (baseline, candidate), rows in _comparisons(table):
        header = [name.format(baseline=baseline, candidate=candidate) for name in HEADERS]
        cells = [_cells(row, plan) for row in rows.to_dict("records")]
        title, footer = f"{candidate} against {baseline}", f"p < 0.05: {count_line(rows)}."
        tables.append(Table(title, header, ALIGN, cells, caption=" ".join(notes), footer=footer))
    return Section("significance", "Significance", tables, table, notes)


def to_csv(table: pd.DataFrame) -> str:
    """Every column at full precision (shortest digits that read back the same float)."""
    return layout.to_csv(table)


def to_markdown(table: pd.DataFrame, plan: StudyPlan, notes: Sequence[str]) -> str:
    """One table per comparison, the count of significant rows, and the notes that a reader
    needs.
    """
    return layout.to_markdown(significance_section(table, plan, notes), plan.name)


def to_latex(table: pd.DataFrame, plan: StudyPlan, notes: Sequence[str]) -> str:
    """`table` environments for `\\usepackage{booktabs,graphicx}`; significant rows carry a star."""
    return layout.to_latex(significance_section(table, plan, notes))


def _comparisons(table: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    groups = table.groupby(["baseline", "candidate"], sort=False)
    return [((str(key[0]), str(key[1])), rows) for key, rows in groups]  # type: ignore[index]


def _cells(row: Mapping[Any, Any], plan: StudyPlan) -> list[Cell]:
    """Cells of the columns of HEADERS."""
    info = plan.metrics[row["metric"]]
    digits = info.digits
    first = [
        Cell(row["task"]),
        Cell(share(row["fraction"]), sort=row["fraction"]),
        Cell(titled(info)),
    ]
    first.append(number(row["n"], 0))
    if str(row["verdict"]).startswith("incomplete"):
        return [*first, *[Cell("")] * 10, Cell(row["verdict"])]
    for model in ("baseline", "candidate"):
        best = row["better"] != "" and row["better"] == row[model]
        first.append(spread(row[f"{model}_mean"], row[f"{model}_sd"], digits, best=best))
    first += [
        interval(_estimate(row), row["method_low"], row["method_high"], digits),
        number(row["change_percent"], 1, sign=True, unit="%"),
        interval(row["shift"], row["shift_low"], row["shift_high"], digits),
        number(row["rank_biserial"], 2, sign=True),
    ]
    if row["verdict"] == NOT_TESTABLE:
        floor = f"{NOT_TESTABLE}: smallest attainable p {p_text(row['p_floor'])}"
        return [*first, *[Cell("")] * 4, Cell(floor)]
    names = ("p_cases", "p_methods", "p_holm", "p_bh")
    starred = "p_holm" if row["verdict"] == SIGNIFICANT else ""
    values = [_p(row[name], star=name == starred) for name in names]
    return [*first, *values, Cell(_verdict(row, digits))]


def _estimate(row: Mapping[Any, Any]) -> float:
    """The methods' difference; where they cannot be tested, the mean over cases."""
    return float(row["difference"] if np.isnan(row["p_methods"]) else row["method_difference"])


def _verdict(row: Mapping[Any, Any], digits: int) -> str:
    """The verdict with what a reader needs beside it."""
    said = str(row["verdict"])
    if said == SIGNIFICANT and row["favours"]:
        said = f"{said}, favours {row['favours']}"
    if row["p_cases_holm"] < ALPHA and said in (NOT_FOR_METHODS, ONLY_CASES):
        against = "" if row["favours_cases"] == row["better"] else " by the ranks, not by the means"
        which = "which favour" if said == ONLY_CASES else "these trainings favour"
        said = f"{said}, {which} {row['favours_cases']}{against}"
    if row["verdict"] in (NOT_SIGNIFICANT, ONLY_CASES) and np.isfinite(row["detectable"]):
        said = f"{said}; 80 % power from {row['detectable']:.{digits}f}"
    if row["equivalence"]:
        said = f"{said}; {_REGION[row['equivalence']]}"
    return said


_REGION = {
    "equivalent": "equivalent within the margin",
    "above": "larger by more than the margin",
    "below": "smaller by more than the margin",
    "undecided": "equivalence undecided",
}


def interval(estimate: float, low: float, high: float, digits: int) -> Cell:
    """`+0.020 [+0.013, +0.027]`; an interval that cannot be had is left out."""
    if np.isnan(estimate):
        return Cell("")
    bounds = f" [{low:+.{digits}f}, {high:+.{digits}f}]" if np.isfinite([low, high]).all() else ""
    return Cell(f"{estimate:+.{digits}f}{bounds}", sort=float(estimate))


def _p(value: float, *, star: bool = False) -> Cell:
    return Cell(p_text(value), star=star, sort=None if np.isnan(value) else float(value))


def p_text(value: float) -> str:
    """A p-value as text; empty where there is none."""
    if np.isnan(value):
        return ""
    return f"{value:.1e}" if value < 0.001 else f"{value:.3f}"
