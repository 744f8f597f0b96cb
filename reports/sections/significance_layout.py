"""Table 1, the significance table, laid out: one table per comparison and share of the training
data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from record.schema import StudyPlan
from reports.render import layout
from reports.render.latex import full_latex
from reports.render.layout import (
    Cell,
    Section,
    Table,
    fixed,
    number,
    percent_change,
    share,
    spread,
    stands_out,
    titled,
)
from reports.sections.printed_column import (
    IN_A_COLUMN,
    column_cells,
    column_notes,
    marked,
)
from reports.sections.row_tests import NOT_TESTABLE
from reports.sections.significance import (
    NOT_SIGNIFICANT,
    ONLY_CASES,
    SIGNIFICANT,
    count_line,
    trainings_only,
)
from reports.statistics.adjustment import ALPHA

HEADERS = (
    "Task",
    "Data",
    "Metric",
    "Verdict",
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
)
SMALLEST = 1e-300  # a p below it is not printed as a number
ALIGN = "llllrrrrrrrrrrr"
SHORT = (
    "Task",
    "Metric",
    "Verdict",
    "Difference [95% CI]",
    "{baseline}",
    "{candidate}",
    "p\N{NO-BREAK SPACE}(Holm)",
)


def significance_section(
    table: pd.DataFrame,
    plan: StudyPlan,
    notes: Sequence[str],
    opening: Sequence[str] = (),
    remarks: Sequence[str] = (),
) -> Section:
    """The significance table with its counts.

    Args:
        table: of `significance_table`.
        plan: the study.
        notes: what stands under the table.
        opening: what stands above it.
        remarks: of the notes those on this study (what is missing, a freeze), which no reader of
            the page or of a printed column may miss.
    """
    tables, short, column = [], [], []
    for (baseline, candidate), frame in _comparisons(table):
        rows = frame.to_dict("records")
        names = {"baseline": baseline, "candidate": candidate}
        title, footer = f"{candidate} against {baseline}", f"p < 0.05: {count_line(frame)}."
        wide = Table(
            title,
            [name.format(**names) for name in HEADERS],
            ALIGN,
            [_cells(row, plan) for row in rows],
            caption=" ".join(notes),
            footer=footer,
            grouped=2,
        )
        tables.append(wide)
        header = [name.format(**names) for name in SHORT]
        cells = [_short(row, plan) for row in rows]
        short.append(replace(wide, header=header, align="lllrrrr", rows=cells, grouped=1))
        column.append(
            Table(
                title,
                IN_A_COLUMN,
                "lllrrrr",
                [column_cells(row, _cells(row, plan), plan) for row in rows],
                caption=" ".join([column_notes(rows, plan, baseline, candidate), *remarks]),
                grouped=2,
                keys=5,
            )
        )
    return Section(
        "significance",
        "Significance",
        tables,
        table,
        notes,
        opening=opening,
        remarks=remarks,
        short=short,
        column=column,
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
    """All columns as `table*` environments for `\\usepackage{booktabs}`; significant rows carry a
    star.
    """
    return full_latex(significance_section(table, plan, notes), plan.name)


def _comparisons(table: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    groups = table.groupby(["baseline", "candidate"], sort=False)
    return [((str(key[0]), str(key[1])), rows) for key, rows in groups]  # type: ignore[index]


def _cells(row: Mapping[Any, Any], plan: StudyPlan) -> list[Cell]:
    """Cells of the columns of HEADERS."""
    info = plan.metrics[row["metric"]]
    digits = info.digits
    place = [Cell(row["task"]), Cell(share(row["fraction"]), sort=row["fraction"])]
    place.append(Cell(titled(info)))
    n = number(row["n"], 0)
    if str(row["verdict"]).startswith("incomplete"):
        return [*place, Cell(marked(row["verdict"], row)), n, *[Cell("")] * 10]
    scores = [
        *_scores(row, digits),
        interval(estimate(row), *bounds(row), digits),
        percent_change(row["change_percent"], row["baseline_mean"], digits),
        interval(row["shift"], *bounds(row, "shift"), digits),
        number(row["rank_biserial"], 2, sign=True),
    ]
    if row["verdict"] == NOT_TESTABLE:
        floor = f"{NOT_TESTABLE}: smallest attainable p {p_text(row['p_floor'])}"
        return [*place, Cell(marked(floor, row)), n, *scores, *[Cell("")] * 4]
    names = ("p_cases", "p_methods", "p_holm", "p_bh")
    starred = "p_holm" if row["verdict"] == SIGNIFICANT else ""
    values = [_p(row[name], star=name == starred) for name in names]
    return [*place, Cell(marked(verdict_text(row, digits), row)), n, *scores, *values]


def _short(row: Mapping[Any, Any], plan: StudyPlan) -> list[Cell]:
    """Cells of the columns of SHORT, out of those of HEADERS."""
    task, data, metric, verdict, _, first, second, difference, *_, holm, _ = _cells(row, plan)
    several = len(plan.fractions) > 1
    place = Cell(f"{task.text}, {data.text}") if several else task
    return [place, metric, verdict, difference, first, second, holm]


def _scores(row: Mapping[Any, Any], digits: int) -> list[Cell]:
    """Both means with their spread, the better one bold."""
    models = ("baseline", "candidate")
    means = [row[f"{model}_mean"] for model in models]
    found = []
    for model, mean in zip(models, means, strict=True):
        better = row["better"] != "" and row["better"] == row[model]
        best = better and stands_out(mean, mean, means, digits)
        found.append(spread(mean, row[f"{model}_sd"], digits, best=best))
    return found


def bounds(row: Mapping[Any, Any], of: str = "method") -> tuple[float, float]:
    """The interval of the methods' difference, or of the `shift`; NaN where nothing can be
    tested (few cases, or ties alone, which say nothing of where a difference lies).
    """
    if row["verdict"] == NOT_TESTABLE or row["n_zero"] == row["n"]:
        return np.nan, np.nan
    return float(row[f"{of}_low"]), float(row[f"{of}_high"])


def estimate(row: Mapping[Any, Any]) -> float:
    """The methods' difference; of a row without a test of them, the mean over cases."""
    untested = row["verdict"] == NOT_TESTABLE or np.isnan(row["p_methods"])
    return float(row["difference"] if untested else row["method_difference"])


def verdict_text(row: Mapping[Any, Any], digits: int) -> str:
    """The verdict with what a reader needs beside it."""
    said = str(row["verdict"])
    if said == SIGNIFICANT and row["favours"]:
        said = f"{said}, favours {row['favours']}"
    if trainings_only(row):
        against = "" if row["favours_cases"] == row["better"] else " by the ranks, not by the means"
        only = said if said == ONLY_CASES else f"{said}; {ONLY_CASES}"
        said = f"{only}, which favour {row['favours_cases']}{against}"
    if row["verdict"] in (NOT_SIGNIFICANT, ONLY_CASES) and np.isfinite(row["detectable"]):
        said = f"{said}; 80 % power (uncorrected) from {row['detectable']:.{digits}f}"
    if row["equivalence"]:
        said = f"{said}; {REGION[row['equivalence']]}"
    return said


# The interval is that of the single row, so that it may leave the margin where Holm finds nothing.
REGION = {
    "equivalent": "equivalent within the margin (interval not corrected)",
    "above": "larger by more than the margin (interval not corrected)",
    "below": "smaller by more than the margin (interval not corrected)",
    "undecided": "equivalence undecided",
}


def interval(estimate: float, low: float, high: float, digits: int) -> Cell:
    """`+0.020 [+0.013, +0.027]`; an interval that cannot be had is left out."""
    if np.isnan(estimate):
        return Cell("")
    ends = ", ".join(fixed(end, digits, sign=True) for end in (low, high))
    bounds = f" [{ends}]" if np.isfinite([low, high]).all() else ""
    return Cell(f"{fixed(estimate, digits, sign=True)}{bounds}", sort=float(estimate))


def _p(value: float, *, star: bool = False) -> Cell:
    return Cell(p_text(value), star=star, sort=None if np.isnan(value) else float(value))


def p_text(value: float) -> str:
    """A p-value as text, on the same side of 0.05 as the value; empty where there is none."""
    if np.isnan(value):
        return ""
    if value < SMALLEST:  # near and below the smallest number that a computer holds in full
        return f"<{SMALLEST:.0e}"
    if value < 0.001:
        return f"{value:.1e}"
    digits = 3
    while value < ALPHA <= float(f"{value:.{digits}f}"):  # 0.0497 is not 0.050
        digits += 1
    return f"{value:.{digits}f}"
