"""The significance table for one printed column: metric, both means, difference and p."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from record.schema import StudyPlan
from reports.render.layout import Cell

IN_A_COLUMN = ("Task", "Data", "Metric", "A", "B", "B - A [95% CI]", "p")
UNTESTED = "n.t."
SMALLEST = 0.001  # a p below it is printed as such
EXPLORATORY = "exploratory"
SINGLE = "Intervals are of single rows, not corrected for their number."


def marked(text: str, row: Mapping[Any, Any]) -> str:
    """The text, of a row that is not in the frozen analysis with a word on that."""
    return f"{text}; {EXPLORATORY}" if row["exploratory"] is True else text


def column_cells(row: Mapping[Any, Any], cells: Sequence[Cell], plan: StudyPlan) -> list[Cell]:
    """Cells of the columns of IN_A_COLUMN: means without their spread, and p in three digits.

    Args:
        row: of the significance table.
        cells: of all its columns.
        plan: the study.
    """
    task, data, metric, _, _, first, second, difference, *_, holm, _ = cells
    several = len(plan.fractions) > 1
    means = [replace(one, text=one.text.split(" ± ")[0]) for one in (first, second)]
    p = Cell(UNTESTED)
    if holm.text:
        p = Cell(f"<{SMALLEST:g}" if float(row["p_holm"]) < SMALLEST else holm.text)
    data = Cell(f"{data.text} data" if several else "")
    return [task, data, Cell(marked(metric.text, row)), *means, difference, p]


def column_notes(
    rows: Sequence[Mapping[Any, Any]], plan: StudyPlan, baseline: str, candidate: str
) -> str:
    """What must stand under a printed column."""
    tested = [row for row in rows if not str(row["verdict"]).startswith("incomplete")]
    n = _range([int(row["n"]) for row in tested])
    trainings = _range([int(row["trainings"]) for row in tested if row["trainings"] > 0])
    lower = [
        plan.metrics[name].title
        for name in dict.fromkeys(str(row["metric"]) for row in rows)
        if not plan.metrics[name].higher_is_better
    ]
    found = [f"A: {baseline}, B: {candidate}, means over n = {n} test cases; the better one bold."]
    found.append(
        f"Difference with its 95 % confidence interval, and p (two-sided, by Holm within the "
        f"declared family): of the methods, on new trainings, training sets and cases, from "
        f"{trainings} trainings of each. {SINGLE}"
    )
    if lower:
        found.append(f"Lower is better for {', '.join(lower)}.")
    if any(np.isnan(row["p_holm"]) for row in rows):
        found.append(f"{UNTESTED}: not testable, or trials are missing.")
    return " ".join(found)


def _range(counts: Sequence[int]) -> str:
    """`208`, or `9 to 208`."""
    if not counts:
        return "0"
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"
