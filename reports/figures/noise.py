"""The noise floor, drawn: differences of methods beside those of a model against itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from record.schema import StudyPlan
from reports.figures.canvas import new_figure, right_is_better
from reports.figures.curves import marker, style
from reports.figures.printing import finish
from reports.render.html import Figure
from reports.render.layout import share
from reports.sections.noise_floor import NoiseFloor, count_facts
from reports.statistics.adjustment import ALPHA

COLUMNS = 3
GREY, DARK = "#b8b8b8", "#3a3a3a"


def noise_figure(found: NoiseFloor | None, table: pd.DataFrame, plan: StudyPlan) -> list[Figure]:
    """One panel a metric, at the largest share of the data; nothing without several seeds.

    Args:
        found: the self-comparisons.
        table: the significance table, empty where nothing is compared.
        plan: the study.
    """
    if found is None:
        return []
    fraction = max(plan.fractions)
    pairs = found.pairs[(found.pairs["fraction"] == fraction) & found.pairs["difference"].notna()]
    metrics = list(dict.fromkeys(pairs["metric"]))
    tasks = [task for task in plan.tasks if (pairs["task"] == task).any()]
    if not metrics or not tasks:
        return []
    compared = table[table["fraction"] == fraction] if len(table) else table
    columns, lines = min(len(metrics), COLUMNS), -(-len(metrics) // COLUMNS)
    size = (3.3 * columns + 1.0, lines * (0.5 * len(tasks) + 0.9) + 0.7)
    figure, axes = new_figure(*size, lines, columns, sharey=True)
    for axis in axes.ravel()[len(metrics) :]:
        axis.set_visible(False)
    for axis, metric in zip(axes.ravel(), metrics, strict=False):
        for place, task in enumerate(tasks):
            here = pairs[(pairs["metric"] == metric) & (pairs["task"] == task)]
            _against_itself(axis, place, here)
            _methods(axis, place, _tested(compared, task, metric), plan)
        axis.axvline(0, color="black", linewidth=0.8, zorder=0)
        axis.locator_params(axis="x", nbins=5)
        right_is_better(axis, plan.metrics[metric], 8)
        axis.tick_params(axis="x", labelsize=7)
        axis.tick_params(axis="y", labelsize=8)
        axis.grid(axis="x", alpha=0.25)
    axes[0][0].set_yticks(range(len(tasks)), tasks)
    axes[0][0].set_ylim(len(tasks) - 0.4, -0.6)
    handles: dict[str, Any] = {}
    for axis in axes.ravel()[: len(metrics)]:
        drawn, labels = axis.get_legend_handles_labels()
        handles |= dict(zip(labels, drawn, strict=True))
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=8,
    )
    return [finish(figure, "self", _caption(found, share(fraction), len(compared) > 0))]


def _caption(found: NoiseFloor, data: str, compared: bool) -> str:
    counted = "; ".join(f"{name} in {count}" for name, count in count_facts(found))
    caption = (
        f"Models against themselves, {data} training data: a mark for every two seeds of a model, "
        "the mean difference over cases, in both directions, as which seed comes first means "
        f"nothing. Of the whole study: {counted}."
    )
    if compared:
        caption += (
            " Beside them the difference between the methods, all seeds together, with its 95 % "
            "interval; to the right the candidate is better."
        )
    return caption


def _tested(table: pd.DataFrame, task: str, metric: str) -> pd.DataFrame:
    if table.empty:
        return table
    return table[
        (table["task"] == task) & (table["metric"] == metric) & table["method_difference"].notna()
    ]


def _against_itself(axis: Any, place: int, pairs: pd.DataFrame) -> None:
    """Every pair in both directions, as which seed comes first means nothing."""
    kinds: dict[str, tuple[str, str, int, pd.Series]] = {
        "against itself": (GREY, "o", 14, pd.Series(True, index=pairs.index)),
        "against itself, p cases < 0.05": (DARK, "o", 16, pairs["p_cases"] < ALPHA),
        "against itself, p methods < 0.05": ("black", "o", 70, pairs["p_methods"] < ALPHA),
    }
    # A fixed low-discrepancy jitter: no random numbers, the same picture every time.
    order = np.argsort(pairs["difference"].abs().to_numpy(), kind="stable")
    jitter = np.empty(len(order))
    jitter[order] = 0.5 * ((np.arange(len(order)) * 0.618034) % 1 - 0.5)
    for label, (colour, shape, size, chosen) in kinds.items():
        shown = chosen.to_numpy(dtype=bool)
        x = pairs["difference"].to_numpy()[shown]
        ring = "methods" in label
        axis.scatter(
            np.concatenate([x, -x]),
            place + np.concatenate([jitter[shown], -jitter[shown]]),
            s=size,
            marker=shape,
            facecolors="none" if ring else colour,
            edgecolors=colour if ring else "none",
            linewidths=1.4 if ring else 0,
            label=label,
        )


def _methods(axis: Any, place: int, tested: pd.DataFrame, plan: StudyPlan) -> None:
    """The differences between methods with their intervals, one under the other."""
    rows = tested.to_dict("records")
    for number, row in enumerate(rows):
        y = place + 0.25 * (number - (len(rows) - 1) / 2) / max(len(rows) - 1, 1)
        bounds = [row["method_low"], row["method_high"]]
        if np.isfinite(bounds).all():
            axis.plot(bounds, [y, y], color="black", linewidth=1.6)
        index = plan.models.index(row["candidate"])
        axis.plot(
            [row["method_difference"]],
            [y],
            marker=marker(index),
            markersize=6,
            color=style(index)["color"],
            markeredgecolor="black",
            linestyle="none",
            label=f"{row['candidate']} - {row['baseline']} (methods)",
        )
