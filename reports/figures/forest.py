"""The forest plot: every row of the significance table as a difference with its interval, beside
the margin of relevance.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from record.schema import StudyPlan
from reports.figures.canvas import TURNED, new_figure
from reports.figures.curves import PALETTE
from reports.figures.printing import finish
from reports.figures.widths import DPI, FONT, WIDTHS
from reports.render.html import Figure
from reports.render.layout import share
from reports.render.tex import file_part
from reports.sections.printed_column import EXPLORATORY, SINGLE
from reports.sections.row_tests import NOT_FOR_METHODS, NOT_TESTABLE
from reports.sections.significance import NOT_SIGNIFICANT, ONLY_CASES, SIGNIFICANT
from reports.sections.significance_layout import bounds, estimate, interval

ROWS = 48  # of one figure
PITCH = {"page": 0.2, "column": 0.34}  # inches of a row
BETTER, WORSE, OPEN, MARGIN = PALETTE[0], PALETTE[1], "#5f6670", "#cfe5d8"
KINDS: dict[str, dict[str, Any]] = {
    f"{SIGNIFICANT}, candidate ahead": {"marker": "D", "color": BETTER},
    f"{SIGNIFICANT}, baseline ahead": {"marker": "D", "color": WORSE},
    ONLY_CASES: {"marker": "D", "color": OPEN, "markerfacecolor": "white"},
    NOT_SIGNIFICANT: {"marker": "o", "color": OPEN},
    NOT_FOR_METHODS: {"marker": "o", "color": OPEN, "markerfacecolor": "white"},
    NOT_TESTABLE: {"marker": "x", "color": OPEN},
}
Row = Mapping[Any, Any]


def forest_plots(table: pd.DataFrame, plan: StudyPlan) -> list[Figure]:
    """Of each comparison, at the width of a page and of a column, the most data first, as in its
    sentence; a long one in several figures, of which the later ones follow.
    """
    figures = []
    for (baseline, candidate), rows in table.groupby(["baseline", "candidate"], sort=False):  # type: ignore[misc]
        records = rows.sort_values("fraction", ascending=False, kind="stable").to_dict("records")
        cuts = [records[start : start + ROWS] for start in range(0, len(records), ROWS)]
        for (number, cut), width in itertools.product(enumerate(cuts, start=1), WIDTHS):
            several = str(number) if len(cuts) > 1 else ""
            pair = file_part(str(candidate), str(baseline), among=plan.models)
            name = f"forest{several}_{pair}"
            part = f", part {number} of {len(cuts)}" if len(cuts) > 1 else ""
            caption = f"{candidate} against {baseline}{part}. {_caption(cut)}"
            figure = _figure(cut, plan, width)
            done = finish(figure, f"{name}_{width}", caption, dpi=DPI)
            figures.append(replace(done, follows=number > 1))
    return figures


def _caption(rows: Sequence[Row]) -> str:
    margins = any(row["margin"] > 0 for row in rows)
    return (
        "Difference between the methods, candidate minus baseline, with its 95 % interval on new "
        "trainings, training sets and cases; to the right the candidate is better. Without a bar: "
        "there is no test of the methods, the mark is the mean over cases. "
        f"{SINGLE} "
        + (
            "Green: differences within the margin of relevance."
            if margins
            else "The spec declares no margin of relevance (comparisons.equivalence)."
        )
    )


def _figure(rows: Sequence[Row], plan: StudyPlan, width: str) -> Any:
    """A panel for each unit, and for metrics of which less is better, one under the other."""
    panels: dict[tuple[str, bool], list[Row]] = {}
    for row in rows:
        about = plan.metrics[row["metric"]]
        panels.setdefault((about.unit, about.higher_is_better), []).append(row)
    lines = {key: list(_lines(of, plan)) for key, of in panels.items()}
    heights = [len(of) + 0.6 for of in lines.values()]
    inches = PITCH[width] * sum(heights) + 0.5 * len(heights) + 0.5
    figure, axes = new_figure(WIDTHS[width], inches, len(lines), heights=heights)
    for axis, ((unit, higher), of) in zip(axes[:, 0], lines.items(), strict=True):
        _panel(axis, of, plan, width)
        label = f"difference{f' [{unit}]' if unit else ''}"
        if not higher:
            axis.invert_xaxis()
            label += f", {TURNED}"
        axis.set_xlabel(label if width == "page" else label.split(":")[0], fontsize=FONT)
    for place, text in ((0.0, "< baseline better"), (1.0, "candidate better >")):
        axes[0, 0].text(
            place,
            1.0,
            text,
            transform=axes[0, 0].transAxes,
            ha="left" if place == 0 else "right",
            va="bottom",
            fontsize=FONT,
        )
    _legend(figure, rows, 3 if width == "page" else 2)
    return figure


def _lines(rows: Sequence[Row], plan: StudyPlan) -> Iterator[tuple[str, Row | None]]:
    """A label for every line, and its row; a heading has none."""
    several = len(plan.tasks) > 1 or len(plan.fractions) > 1
    for (task, fraction), members in itertools.groupby(
        rows, lambda row: (str(row["task"]), float(row["fraction"]))
    ):
        if several:
            data = f", {share(fraction)} data" if len(plan.fractions) > 1 else ""
            yield f"{task}{data}", None
        for row in members:
            title = plan.metrics[row["metric"]].title
            yield (f"{title}, {EXPLORATORY}" if row["exploratory"] is True else title), row


def _panel(axis: Any, lines: Sequence[tuple[str, Row | None]], plan: StudyPlan, width: str) -> None:
    axis.axvline(0, color="black", linewidth=0.8, zorder=1)
    for place, (label, row) in enumerate(lines):
        if row is None:
            axis.text(
                0.0,
                place,
                f" {label}",
                transform=axis.get_yaxis_transform(),
                va="center",
                fontsize=FONT,
                fontweight="bold",
            )
        else:
            _row(axis, place, row, plan, width)
    axis.set_yticks(
        [place for place, (_, row) in enumerate(lines) if row is not None],
        [label for label, row in lines if row is not None],
        fontsize=FONT,
    )
    axis.set_ylim(len(lines) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=FONT - 1)
    axis.locator_params(axis="x", nbins=5)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.grid(axis="x", alpha=0.25)


def _row(axis: Any, place: int, row: Row, plan: StudyPlan, width: str) -> None:
    """One difference: margin, interval, mark, and in words."""
    about = plan.metrics[row["metric"]]
    kind = kind_of(row)
    low, high = bounds(row) if kind else (np.nan, np.nan)
    if row["margin"] > 0:
        axis.fill_betweenx(
            [place - 0.5, place + 0.5],
            -row["margin"],
            row["margin"],
            color=MARGIN,
            linewidth=0,
            zorder=0,
        )
    drop = 0.0 if width == "page" else 0.2  # the words of a narrow figure stand above the bar
    if kind:
        style = KINDS[kind]
        if np.isfinite([low, high]).all():
            axis.plot([low, high], [place + drop] * 2, color=style["color"], linewidth=1.4)
        axis.plot([estimate(row)], [place + drop], markersize=4, linestyle="none", **style)
    words = interval(estimate(row), low, high, about.digits).text if kind else ""
    verdict = kind.split(",")[0] if kind else str(row["verdict"]).split(":")[0]
    at = (1.02, place) if width == "page" else (0.0, place - 0.22)
    axis.text(
        *at,
        f"{words}  {verdict}".strip() if width == "page" else f" {words or verdict}",
        transform=axis.get_yaxis_transform(),
        va="center",
        fontsize=FONT if width == "page" else FONT - 1,
        family="DejaVu Sans",
    )


def kind_of(row: Row) -> str:
    """Which of KINDS a row is; empty where trials are missing."""
    verdict = str(row["verdict"])
    if verdict == SIGNIFICANT:
        ahead = "candidate" if row["favours"] == row["candidate"] else "baseline"
        return f"{SIGNIFICANT}, {ahead} ahead"
    return verdict if verdict in KINDS else ""


def _legend(figure: Any, rows: Sequence[Row], columns: int) -> None:
    """The marks that the figure has, and the margin."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    there = {kind_of(row) for row in rows}
    handles: list[Any] = [
        Line2D([], [], linestyle="none", markersize=4, label=kind, **style)
        for kind, style in KINDS.items()
        if kind in there
    ]
    if any(row["margin"] > 0 for row in rows):
        handles.append(Patch(color=MARGIN, label="margin of relevance"))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=FONT,
    )
