"""Paired differences per case, and the critical-difference diagram."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from record.schema import StudyPlan
from reports.figures.canvas import new_figure, right_is_better
from reports.figures.curves import PALETTE
from reports.figures.printing import finish
from reports.render.html import Figure
from reports.render.layout import share
from reports.render.tex import file_part
from reports.sections.model_ranks import Ranking
from reports.sections.significance import ONLY_CASES, trainings_only
from reports.sections.significance_layout import bounds

MOST = 20  # models of a critical-difference diagram


def paired_differences(scores: pd.DataFrame, table: pd.DataFrame, plan: StudyPlan) -> list[Figure]:
    """Candidate minus baseline for every case, per task: one figure per comparison and metric
    group.

    The difference with its interval comes from the significance table, so that figure and table
    agree: that of the methods, or the mean over cases, without an interval, where they cannot be
    tested.
    """
    figures = []
    fraction = max(plan.fractions)
    for (baseline, candidate), rows in table.groupby(["baseline", "candidate"], sort=False):  # type: ignore[misc]
        metrics = [metric for metric in ("dice", "nsd", "hd95") if (rows["metric"] == metric).any()]
        here = scores[
            (scores["fraction"] == fraction) & scores["model"].isin([baseline, candidate])
        ]
        tasks = [task for task in plan.tasks if here[here["task"] == task]["model"].nunique() == 2]
        if not metrics or not tasks:
            continue
        size = (min(3.3 * len(metrics) + 1.2, 11), 0.55 * len(tasks) + 1.7)
        figure, axes = new_figure(*size, columns=len(metrics), sharey=True)
        for axis, metric in zip(axes[0], metrics, strict=True):
            for place, task in enumerate(tasks):
                wide = here[here["task"] == task].pivot_table(
                    index="case", columns="model", values=metric, observed=True
                )
                # Without structure in any test case no model has a column.
                wide = wide.reindex(columns=[baseline, candidate])
                found = rows[
                    (rows["task"] == task)
                    & (rows["metric"] == metric)
                    & (rows["fraction"] == fraction)
                ]
                _strip(axis, place, (wide[candidate] - wide[baseline]).dropna().to_numpy(), found)
            info = plan.metrics[metric]
            axis.locator_params(axis="x", nbins=4)
            axis.axvline(0, color="black", linewidth=0.8)
            right_is_better(axis, info)
            axis.grid(axis="x", alpha=0.25)
        axes[0][0].set_yticks(range(len(tasks)), tasks, fontsize=8)
        axes[0][0].set_ylim(len(tasks) - 0.4, -0.6)
        axes[0][0].set_title("< baseline better", fontsize=8, loc="left")
        axes[0][-1].set_title("candidate better >", fontsize=8, loc="right")
        pair = file_part(str(candidate), str(baseline), among=plan.models)
        name = f"paired_differences_{pair}"
        caption = (
            f"{candidate} minus {baseline}, a dot per test case, {share(fraction)} training data, "
            "to the right the candidate is better; diamond and bar: the difference between the "
            "methods with its 95 % interval, on new trainings, training sets and cases. Hollow, "
            "without a bar: not testable for methods. "
            f"'{ONLY_CASES}': the test over cases finds a difference, that of the methods does not."
        )
        figures.append(finish(figure, name, caption))
    return figures


def _strip(axis: Any, place: int, differences: np.ndarray, found: pd.DataFrame) -> None:
    order = np.sort(differences)
    # A fixed low-discrepancy jitter: no random numbers, the same picture every time.
    jitter = (np.arange(len(order)) * 0.618034) % 1 - 0.5
    axis.scatter(order, place + 0.5 * jitter, s=9, color=PALETTE[0], alpha=0.45, linewidths=0)
    if len(found):
        row = found.iloc[0]
        ends = bounds(row.to_dict())
        tested = bool(np.isfinite(ends).all())
        if tested:
            axis.plot(ends, [place, place], color="black", linewidth=2)
        axis.plot(
            [row["method_difference"] if tested else row["difference"]],
            [place],
            marker="D",
            color=PALETTE[1] if tested else "white",
            markeredgecolor="black",
            markersize=6,
        )
        if trainings_only(row):
            axis.text(
                0.99,
                place - 0.3,
                ONLY_CASES,
                transform=axis.get_yaxis_transform(),
                ha="right",
                va="bottom",
                fontsize=6,
                style="italic",
            )


def critical_difference_diagram(ranking: Ranking | None) -> list[Figure]:
    """Mean ranks on a line, a bar over models that no test tells apart (Demsar 2006); from three
    models upward, where there is a test of them, and of no more than can be read.
    """
    if ranking is None or not 3 <= len(ranking.models) <= MOST or ranking.unit == "cases":
        return []
    count = len(ranking.models)
    order = np.argsort(ranking.mean_ranks, kind="stable").tolist()
    half = (count + 1) // 2
    bars_height = 0.22 * len(ranking.bars)
    depth = bars_height + 0.34 * half + 0.35
    figure, axes = new_figure(7.5, 1.1 + 0.75 * depth)
    axis = axes[0, 0]
    axis.set_xlim(1 - 0.75 - 0.12 * count, count + 0.75 + 0.12 * count)
    axis.set_ylim(-depth, 0.45 if ranking.distance is None else 0.9)
    axis.axis("off")
    axis.plot([1, count], [0, 0], color="black", linewidth=1.2)
    for rank in range(1, count + 1):
        axis.plot([rank, rank], [0, 0.1], color="black", linewidth=1)
        axis.text(rank, 0.17, str(rank), ha="center", va="bottom", fontsize=9)
    for level, bar in enumerate(ranking.bars):
        ends = [ranking.mean_ranks[bar[0]] - 0.04, ranking.mean_ranks[bar[-1]] + 0.04]
        axis.plot(
            ends, [-0.18 - 0.22 * level] * 2, color="black", linewidth=4, solid_capstyle="butt"
        )
    for place, index in enumerate(order):
        left = place < half
        row = place if left else count - 1 - place
        rank, y = ranking.mean_ranks[index], -bars_height - 0.34 * (row + 1)
        edge = 1 - 0.15 if left else count + 0.15
        axis.plot([rank, rank, edge], [0, y, y], color=PALETTE[0], linewidth=1)
        text = f"{ranking.models[index]} ({rank:.2f})"
        axis.text(
            edge + (-0.05 if left else 0.05),
            y,
            text,
            ha="right" if left else "left",
            va="center",
            fontsize=9,
        )
    if ranking.distance is not None:
        end = min(1 + ranking.distance, axis.get_xlim()[1])
        axis.plot([1, end], [0.62, 0.62], color=PALETTE[1], linewidth=2, marker="|")
        axis.text(
            (1 + end) / 2,
            0.68,
            f"critical difference {ranking.distance:.2f}",
            ha="center",
            va="bottom",
            fontsize=8,
        )
    caption = (
        f"Mean ranks by Dice over {ranking.n} {ranking.unit}, 1 is best ({ranking.friedman}); a "
        f"bar joins models that are not told apart at 0.05 ({ranking.how})."
    )
    return [finish(figure, "critical_difference", caption)]
