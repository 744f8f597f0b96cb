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
from reports.sections.significance import count_line

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
    "p",
    "Holm",
    "BH",
    "Verdict",
)
ALIGN = "lllrrrrrrrrrrl"
NOT_TESTABLE = "not testable"


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


def details_section(table: pd.DataFrame, plan: StudyPlan) -> Section:
    """What stands behind each test: pairs, zeros, ties, the smallest attainable p, the way, and the
    spread between seeds.
    """
    header = [
        "Candidate",
        "Baseline",
        "Task",
        "Data",
        "Metric",
        "n",
        "Zeros",
        "Ties",
        "Smallest p",
        "Method",
        "Capped",
    ]
    header += ["Left out", "Seeds: baseline", "Seeds: candidate"]
    cells = []
    for row in table[table["method"] != ""].to_dict("records"):
        info = plan.metrics[row["metric"]]
        digits = info.digits + 1
        cells.append(
            [
                *(Cell(row[name]) for name in ("candidate", "baseline", "task")),
                Cell(share(row["fraction"]), sort=row["fraction"]),
                Cell(info.title),
                *(number(row[name], 0) for name in ("n", "n_zero", "n_tied")),
                Cell(p_text(row["p_floor"]), sort=row["p_floor"]),
                Cell(row["method"]),
                *(number(row[name], 0) for name in ("capped", "dropped")),
                *(number(row[f"{name}_seed_sd"], digits) for name in ("baseline", "candidate")),
            ]
        )
    note = (
        "n: pairs, zeros included; ties: non-zero differences of equal size; smallest p: the least "
        "that any signs of these differences could give; capped: infinite distances; left out: not "
        "applicable cases. Seeds: standard deviation between seeds of the mean over cases, which "
        "the test averages away; empty with one seed."
    )
    names = [
        "n",
        "n_zero",
        "n_tied",
        "p_floor",
        "method",
        "capped",
        "dropped",
        "baseline_seed_sd",
        "candidate_seed_sd",
    ]
    data = table[["candidate", "baseline", "task", "fraction", "metric", *names]]
    return Section(
        "tests",
        "The tests in detail",
        [Table("", header, "lllllrrrrlrrrr", cells, note)],
        data,
        [note],
    )


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
        return [*first, *[Cell("")] * 9, Cell(row["verdict"])]
    for model in ("baseline", "candidate"):
        best = row["better"] != "" and row["better"] == row[model]
        first.append(spread(row[f"{model}_mean"], row[f"{model}_sd"], digits, best=best))
    first += [
        interval(row["difference"], row["difference_low"], row["difference_high"], digits),
        number(row["change_percent"], 1, sign=True, unit="%"),
        interval(row["shift"], row["shift_low"], row["shift_high"], digits),
        number(row["rank_biserial"], 2, sign=True),
    ]
    if row["verdict"] == NOT_TESTABLE:
        floor = f"smallest attainable p {p_text(row['p_floor'])}"
        return [*first, Cell(NOT_TESTABLE), Cell(""), Cell(""), Cell(floor)]
    significant = row["verdict"] == "significant"
    verdict = row["verdict"]
    if significant and row["favours"]:
        against = "" if row["favours"] == row["better"] else " by the ranks, not by the means"
        verdict = f"{verdict}, favours {row['favours']}{against}"
    if row["equivalence"]:
        verdict = f"{verdict}; {_REGION[row['equivalence']]}"
    values = [Cell(p_text(row[name]), sort=float(row[name])) for name in ("p", "p_holm", "p_bh")]
    values[1] = Cell(values[1].text, star=significant, sort=values[1].sort)
    return [*first, *values, Cell(verdict)]


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


def p_text(value: float) -> str:
    """A p-value as text; empty where there is none."""
    if np.isnan(value):
        return ""
    return f"{value:.1e}" if value < 0.001 else f"{value:.3f}"
