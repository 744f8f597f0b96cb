"""The paper's few-shot figure: validation Dice above, validation loss below, over the epochs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from record.schema import StudyPlan
from reports.figures.canvas import new_figure
from reports.figures.curves import STYLES
from reports.figures.saved import shown_models
from reports.figures.widths import FONT, WIDTHS, save
from reports.render.html import Figure
from reports.render.layout import share

# By share of the data, the smallest first; lightness tells the first three apart in grey.
COLOURS = ("#E69F00", "#0072B2", "#000000", "#56B4E9", "#009E73")
PANELS = (("dice", "Validation Dice"), ("loss", "Validation loss"))
KEYS = ["model", "fraction", "task", "metric", "epoch"]


def few_shot_figures(history: pd.DataFrame, plan: StudyPlan, width: str) -> list[Figure]:
    """Nothing where the study has one share of the training data, or no validation cases.

    The line is the mean over tasks of each task's mean over folds and seeds, the band one standard
    deviation between tasks; with one task both are over its trainings. At one share of the data
    every curve is of the same tasks, those that all models shown have validation curves of.

    Args:
        history: columns of the cell, epoch, split, metric, value.
        width: a key of `WIDTHS`.
    """
    curves = history[history["split"] == "val"] if not history.empty else history
    models = shown_models(plan, curves["model"].unique()) if not curves.empty else []
    fractions = sorted(plan.fractions)
    curves = curves[curves["model"].isin(models)] if models else curves[:0]
    if len(fractions) < 2 or curves.empty:
        return []
    tasks = {fraction: _tasks(curves, plan, models, fraction) for fraction in fractions}
    several = any(len(found) > 1 for found in tasks.values())
    inches = WIDTHS[width]
    figure, axes = new_figure(inches, 3.9 if width == "column" else 4.6, 2)
    for axis, (metric, label) in zip(axes[:, 0], PANELS, strict=True):
        for place, fraction in enumerate(fractions):
            for row, model in enumerate(models):
                here = curves[
                    (curves["metric"] == metric)
                    & (curves["model"] == model)
                    & (curves["fraction"] == fraction)
                    & curves["task"].isin(tasks[fraction])
                ]
                _curve(axis, here, place, row, several=several, dice=metric == "dice")
        axis.set_ylabel(label, fontsize=FONT)
        axis.tick_params(labelsize=FONT)
        axis.grid(alpha=0.25, linewidth=0.5)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.01)
    axes[0, 0].tick_params(labelbottom=False)
    axes[1, 0].set_xlabel("epoch", fontsize=FONT)
    _legend(figure, models, fractions, columns=1 if width == "column" else 2)
    counts = sorted({len(found) for found in tasks.values()})
    over = (
        f"{' or '.join(map(str, counts))} tasks (each the mean over folds and seeds); band: one "
        "standard deviation between tasks"
        if several
        else f"the trainings on {plan.tasks[0]}; band: one standard deviation"
    )
    left_out = [
        f"{share(fraction)}: {', '.join(task for task in plan.tasks if task not in found)}"
        for fraction, found in tasks.items()
        if len(found) < len(plan.tasks)
    ]
    caption = (
        f"Few-shot: validation Dice (above) and loss (below) by epoch, mean over {over}. Colour: "
        "share of the training data; line style: model."
        + (f" Without validation curves of every model: {'; '.join(left_out)}." if left_out else "")
    )
    return [save(figure, "few_shot", width, caption)]


def _tasks(curves: pd.DataFrame, plan: StudyPlan, models: list[str], fraction: float) -> list[str]:
    """Tasks with validation curves of every model at this share of the data."""
    here = curves[(curves["fraction"] == fraction) & (curves["metric"] == "dice")]
    found = here.groupby("task", observed=True)["model"].nunique()
    return [task for task in plan.tasks if found.get(task, 0) == len(models)]


def _curve(
    axis: Any, here: pd.DataFrame, place: int, row: int, *, several: bool, dice: bool
) -> None:
    if here.empty:
        return
    if several:
        per_task = here.groupby(["task", "epoch"], observed=True)["value"].mean().reset_index()
    else:
        per_task = here
    # A mean over fewer tasks at the end of the curve would jump: only epochs that all have.
    by_epoch = per_task.groupby("epoch")["value"]
    whole = by_epoch.count() == by_epoch.count().max()
    mean, spread = by_epoch.mean()[whole], by_epoch.std().fillna(0.0)[whole]
    low, high = mean - spread, mean + spread
    if dice:  # a share has no value below 0 or above 1
        low, high = np.clip(low, 0, 1), np.clip(high, 0, 1)
    else:
        low = np.clip(low, 0, None)
    colour = COLOURS[place % len(COLOURS)]
    axis.plot(
        mean.index,
        mean,
        color=colour,
        linestyle=STYLES[row % len(STYLES)],
        linewidth=1.3,
        marker="o" if len(mean) == 1 else None,
        markersize=3,
    )
    axis.fill_between(mean.index, low, high, color=colour, alpha=0.12, linewidth=0)


def _legend(figure: Any, models: list[str], fractions: list[float], columns: int) -> None:
    from matplotlib.lines import Line2D

    colours = [
        Line2D([], [], color=COLOURS[place % len(COLOURS)], linewidth=3, label=_data(fraction))
        for place, fraction in enumerate(fractions)
    ]
    looks: list[dict[str, Any]] = [
        {"linestyle": STYLES[row % len(STYLES)], "label": model} for row, model in enumerate(models)
    ]
    styles = [Line2D([], [], color="#555555", **look) for look in looks]
    # Legends are filled by columns: shares of the data in the first rows, models below.
    wide = max(len(colours), len(styles))
    empty = Line2D([], [], alpha=0, label=" ")
    if columns == 1:
        rows = [group + [empty] * (wide - len(group)) for group in (colours, styles)]
        handles = [row[place] for place in range(wide) for row in rows]
    else:
        handles, wide = [*colours, *styles], len(colours) + len(styles)
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=wide,
        frameon=False,
        fontsize=FONT,
        columnspacing=1.2,
        handlelength=2.2,
    )


def _data(fraction: float) -> str:
    return "all data" if fraction == 1 else f"{share(fraction)} of the data"
