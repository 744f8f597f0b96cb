"""Paired differences per case, and the critical-difference diagram."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd

from record.schema import StudyPlan
from reports.figures.canvas import new_figure
from reports.figures.curves import PALETTE, finish
from reports.render.html import Figure
from reports.render.layout import share
from reports.sections.model_ranks import Ranking


def paired_differences(scores: pd.DataFrame, table: pd.DataFrame, plan: StudyPlan) -> list[Figure]:
    """Candidate minus baseline for every case, per task: one figure per comparison and metric
    group.

    The mean with its interval comes from the significance table, so that figure and table
    agree.
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
                found = rows[
                    (rows["task"] == task)
                    & (rows["metric"] == metric)
                    & (rows["fraction"] == fraction)
                ]
                _strip(axis, place, (wide[candidate] - wide[baseline]).dropna().to_numpy(), found)
            info = plan.metrics[metric]
            axis.locator_params(axis="x", nbins=4)
            axis.axvline(0, color="black", linewidth=0.8)
            axis.set_xlabel(
                f"difference in {info.title}" + (f" [{info.unit}]" if info.unit else "")
            )
            axis.set_title(
                "right is better" if info.higher_is_better else "left is better", fontsize=8
            )
            axis.grid(axis="x", alpha=0.25)
        axes[0][0].set_yticks(range(len(tasks)), tasks, fontsize=8)
        axes[0][0].set_ylim(len(tasks) - 0.4, -0.6)
        name = f"paired_differences_{candidate}_vs_{baseline}".replace("+", "p").replace(" ", "_")
        caption = (
            f"{candidate} minus {baseline}, a dot per test case, {share(fraction)} training data; "
            "diamond and bar: mean with its 95 % interval."
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
        if np.isfinite([row["difference_low"], row["difference_high"]]).all():
            axis.plot(
                [row["difference_low"], row["difference_high"]],
                [place, place],
                color="black",
                linewidth=2,
            )
        axis.plot(
            [row["difference"]],
            [place],
            marker="D",
            color=PALETTE[1],
            markeredgecolor="black",
            markersize=6,
        )


def critical_difference_diagram(ranking: Ranking | None) -> list[Figure]:
    """Mean ranks on a line, a bar over models that no test tells apart (Demsar 2006); from three
    models upward.
    """
    if ranking is None or len(ranking.models) < 3:
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
        how = "Nemenyi's critical difference at 0.05"
    else:
        how = "pairwise Wilcoxon tests over the cases, Holm at 0.05"
    caption = (
        f"Mean ranks by Dice over {ranking.n} {ranking.unit}, 1 is best (Friedman p = "
        f"{ranking.p:.2g}); a bar joins models that are not told apart ({how})."
    )
    return [finish(figure, "critical_difference", caption)]


def draw_comparisons(
    scores: pd.DataFrame, table: pd.DataFrame, ranking: Ranking | None, plan: StudyPlan
) -> list[Figure]:
    """Both kinds of figures."""
    drawn = [] if table.empty or scores.empty else paired_differences(scores, table, plan)
    return list(itertools.chain(critical_difference_diagram(ranking), drawn))
