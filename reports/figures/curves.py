"""Curves out of the result store, as vector (PDF) and PNG: training, and test Dice by share of the
training data.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from record.schema import StudyPlan
from reports.figures.canvas import new_figure
from reports.render.html import Figure
from reports.render.layout import share
from reports.statistics.scores import common_tasks

# Okabe and Ito's palette: told apart by the colour-blind; line styles and markers tell the models
# apart in grey.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
PANELS = (("val", "dice", "Validation Dice"), ("train", "loss", "Training loss"))


def style(index: int) -> dict[str, Any]:
    """Colour and line style of the model at this place of the plan, the same in every figure."""
    return {
        "color": PALETTE[index % len(PALETTE)],
        "linestyle": STYLES[(index + index // len(PALETTE)) % len(STYLES)],
    }


def marker(index: int) -> str:
    """Marker of the model at this place of the plan."""
    return MARKERS[(index + index // len(PALETTE)) % len(MARKERS)]


def finish(figure: Any, name: str, caption: str) -> Figure:
    """Save a figure as PNG and PDF, without dates, so that the same results give the same bytes."""
    files = {}
    for suffix in ("png", "pdf"):
        buffer = io.BytesIO()
        figure.savefig(
            buffer,
            format=suffix,
            dpi=150,
            metadata={"CreationDate": None} if suffix == "pdf" else None,
        )
        files[suffix] = buffer.getvalue()
    return Figure(name, caption, files["png"], files["pdf"])


def training_curves(history: pd.DataFrame, plan: StudyPlan) -> list[Figure]:
    """Mean and standard deviation of the curves: over folds and seeds of each task, and over tasks
    where there are many.

    Args:
        history: columns of the cell, epoch, split, metric, value.
    """
    if history.empty:
        return []
    figures = []
    tasks = [task for task in plan.tasks if (history["task"] == task).any()]
    if len(tasks) > 1:
        keys = ["model", "task", "fraction", "split", "metric", "epoch"]
        per_task = history.groupby(keys, sort=False, observed=True)["value"].mean().reset_index()
        caption = (
            f"Training curves: mean over {len(tasks)} tasks, band: one standard deviation between "
            "tasks."
        )
        figures.append(_curves(per_task, plan, "training_curves", "all tasks", caption))
    for task in tasks:
        name = f"training_curves_{task}" if len(tasks) > 1 else "training_curves"
        caption = (
            f"Training curves of {task}: mean over folds and seeds, band: one standard deviation."
        )
        figures.append(_curves(history[history["task"] == task], plan, name, task, caption))
    return figures


def _curves(history: pd.DataFrame, plan: StudyPlan, name: str, title: str, caption: str) -> Figure:
    fractions = [fraction for fraction in plan.fractions if (history["fraction"] == fraction).any()]
    height = 2.6 * len(fractions) + 0.6
    figure, axes = new_figure(9, height, len(fractions), len(PANELS))
    for fraction, line in zip(fractions, axes, strict=True):
        here = history[history["fraction"] == fraction]
        for (split, metric, label), axis in zip(PANELS, line, strict=True):
            _draw(axis, here[(here["split"] == split) & (here["metric"] == metric)], plan.models)
            data = "full data" if fraction == 1 else f"{share(fraction)} of the data"
            axis.set_title(f"{title}, {data}", fontsize=9)
            axis.set_xlabel("epoch")
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.set_ylabel(label)
            axis.grid(alpha=0.25)
    handles, labels = axes[0][-1].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(4, max(1, len(labels))),
        frameon=False,
    )
    return finish(figure, name, caption)


def _draw(axis: Any, curves: pd.DataFrame, models: Sequence[str]) -> None:
    if curves.empty:
        axis.text(
            0.5, 0.5, "no validation cases", ha="center", va="center", transform=axis.transAxes
        )
        return
    for index, model in enumerate(models):
        by_epoch = curves[curves["model"] == model].groupby("epoch")["value"]
        mean, spread = by_epoch.mean(), by_epoch.std().fillna(0.0)
        axis.plot(mean.index, mean, label=model, **style(index))
        colour = style(index)["color"]
        axis.fill_between(
            mean.index, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0
        )


def few_shot_curves(means: pd.DataFrame, plan: StudyPlan) -> list[Figure]:
    """Test Dice against the share of the training data; nothing where the study has one share."""
    fractions = sorted(plan.fractions)
    if len(fractions) < 2 or means.empty:
        return []
    figure, axes = new_figure(6, 3.6)
    axis = axes[0, 0]
    several = False
    for index, model in enumerate(plan.models):
        points = []
        for fraction in fractions:
            finished = [
                m
                for m in plan.models
                if ((means["model"] == m) & (means["fraction"] == fraction)).any()
            ]
            tasks = common_tasks(means, finished, fraction)
            here = means[
                (means["model"] == model)
                & (means["fraction"] == fraction)
                & means["task"].isin(tasks)
            ]["dice"]
            if len(here):
                several = several or len(here) > 1
                points.append(
                    (100 * fraction, here.mean(), here.std(ddof=1) if len(here) > 1 else np.nan)
                )
        if points:
            x, y, spread = np.array(points).T
            shift = 1 + 0.03 * (index - (len(plan.models) - 1) / 2)
            axis.errorbar(
                x * shift,
                y,
                yerr=spread,
                marker=marker(index),
                capsize=3,
                label=model,
                **style(index),
            )
    axis.set_xscale("log")
    axis.set_xticks(
        [100 * fraction for fraction in fractions], [share(fraction) for fraction in fractions]
    )
    axis.minorticks_off()
    axis.set_xlabel("share of the training data")
    axis.set_ylabel("test Dice")
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=8)
    spread_text = ", bars: one standard deviation between tasks" if several else ""
    caption = (
        "Test Dice by share of the training data: mean over tasks that all models have "
        f"finished{spread_text}."
    )
    return [finish(figure, "few_shot", caption)]
