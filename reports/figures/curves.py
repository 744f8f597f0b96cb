"""Curves out of the result store, as vector (PDF) and PNG: training, and test Dice by share of the
training data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from record.schema import StudyPlan
from reports.figures.canvas import new_figure
from reports.figures.printing import finish
from reports.render.html import Figure
from reports.render.layout import share
from reports.render.tex import file_part

# Okabe and Ito's palette: told apart by the colour-blind; line styles and markers tell the models
# apart in grey.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
BANDS = 4  # models, above which bands would hide each other
LEAST = 0.1  # Dice that an axis reaches at least: a rise from 0.000 to 0.002 is no progress
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


def training_curves(history: pd.DataFrame, plan: StudyPlan) -> list[Figure]:
    """Mean and standard deviation of the curves: over folds and seeds of each task, and over tasks
    where there are several (`over_tasks`). Nothing of one epoch, which makes no curve.

    Args:
        history: columns of the cell, epoch, split, metric, value.
    """
    if history.empty or history["epoch"].nunique() < 2:
        return []
    figures = []
    tasks = [task for task in plan.tasks if (history["task"] == task).any()]
    if len(tasks) > 1:
        keys = ["model", "task", "fraction", "split", "metric", "epoch"]
        per_task = history.groupby(keys, sort=False, observed=True)["value"].mean().reset_index()
        whole = _of_all_tasks(per_task)
        lacking = per_task.loc[~whole, "model"].unique().tolist()
        shown, shares = over_tasks(per_task[whole])
        mean = f"mean over {len(tasks)} tasks"
        if shares:
            mean += ", whose trainings differ in length, at the same share of each task's epochs"
        mean += ", as far as all of them have values"
        if lacking:
            mean += f" (not drawn where a task has none yet: {', '.join(lacking)})"
        label = "share of the epochs [%]" if shares else "epoch"
        figures += _curves(shown, plan, "training_curves", "all tasks", mean, "tasks", label)
    for task in tasks:
        part = file_part(task, among=plan.tasks)
        name = f"training_curves_{part}" if len(tasks) > 1 else "training_curves"
        here = history[history["task"] == task]
        figures += _curves(here, plan, name, task, "mean over folds and seeds", "trainings")
    return figures


def _of_all_tasks(curves: pd.DataFrame) -> pd.Series:
    """Which rows are of a curve that has every task of its kind: a mean over fewer tasks lies
    elsewhere because of the tasks, and not of the model.
    """
    kind, curve = ["split", "metric"], ["model", "fraction", "split", "metric"]
    asked = curves.groupby(kind, observed=True)["task"].transform("nunique")
    return curves.groupby(curve, observed=True)["task"].transform("nunique") == asked


def over_tasks(curves: pd.DataFrame) -> tuple[pd.DataFrame, bool]:
    """Curves of several tasks at common places, and whether these are shares of the epochs.

    A mean over the epochs that each task happens to have would jump where the shortest training
    ends. So tasks of different lengths are laid on the share of their epochs in percent (column
    epoch), with straight lines between epochs, and a place counts only where every task of a curve
    has a value.

    Args:
        curves: columns model, task, fraction, split, metric, epoch, value; a row per epoch.
    """
    length = curves.groupby(["task", "fraction"], observed=True)["epoch"].transform("max")
    shares = length.nunique() > 1
    place = (100 * curves["epoch"] / length).round(6) if shares else curves["epoch"]
    found = []
    for fraction, here in curves.assign(epoch=place).groupby("fraction", sort=False):
        grid = pd.Index(sorted(here["epoch"].unique()), name="epoch")
        keys = ["model", "split", "metric"]
        for key, one in here.groupby(keys, sort=False, observed=True):
            wide = one.pivot_table(index="epoch", columns="task", values="value", observed=True)
            wide = wide.reindex(grid).interpolate(method="index", limit_area="inside").dropna()
            rows = wide.reset_index().melt(id_vars="epoch", value_name="value")
            named: dict[str, Any] = {"fraction": fraction, **dict(zip(keys, key, strict=True))}
            found.append(rows.assign(**named))
    return pd.concat(found, ignore_index=True) if found else curves.iloc[:0], shares


def _curves(
    history: pd.DataFrame,
    plan: StudyPlan,
    name: str,
    title: str,
    mean: str,
    unit: str,
    along: str = "epoch",
) -> list[Figure]:
    fractions = [fraction for fraction in plan.fractions if (history["fraction"] == fraction).any()]
    panels = [
        (split, metric, label)
        for split, metric, label in PANELS
        if ((history["split"] == split) & (history["metric"] == metric)).any()
    ]
    if not panels:
        return []
    banded = history["model"].nunique() <= BANDS
    height = 2.6 * len(fractions) + 0.6
    figure, axes = new_figure(4.5 * len(panels), height, len(fractions), len(panels))
    for fraction, line in zip(fractions, axes, strict=True):
        here = history[history["fraction"] == fraction]
        for (split, metric, label), axis in zip(panels, line, strict=True):
            curves = here[(here["split"] == split) & (here["metric"] == metric)]
            _draw(axis, curves, plan.models, banded=banded, ratio=metric == "dice")
            data = "full data" if fraction == 1 else f"{share(fraction)} of the data"
            axis.set_title(f"{title}, {data}", fontsize=9)
            axis.set_xlabel(along)
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.set_ylabel(label)
            axis.grid(alpha=0.25)
    handles: dict[str, Any] = {}
    for axis in axes.ravel():
        drawn, labels = axis.get_legend_handles_labels()
        handles |= dict(zip(labels, drawn, strict=True))
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=min(4, len(handles)),
        frameon=False,
    )
    of = "" if unit == "tasks" else f" of {title}"
    band = f", band: one standard deviation between {unit}, cut at 0" if banded else ""
    return [finish(figure, name, f"Training curves{of}: {mean}{band}.")]


def _draw(
    axis: Any, curves: pd.DataFrame, models: Sequence[str], *, banded: bool, ratio: bool
) -> None:
    """Draw the curves of one panel; a ratio's axis begins at 0 and shows no noise as progress."""
    if curves.empty:
        axis.text(
            0.5, 0.5, "no validation cases", ha="center", va="center", transform=axis.transAxes
        )
        return
    for index, model in enumerate(models):
        by_epoch = curves[curves["model"] == model].groupby("epoch")["value"]
        mean, spread = by_epoch.mean(), by_epoch.std().fillna(0.0)
        if mean.empty:
            continue
        axis.plot(mean.index, mean, label=model, **style(index))
        if banded and spread.any():
            # Neither a Dice nor a loss of ours can be below 0, nor a Dice above 1.
            low = np.maximum(mean - spread, np.minimum(mean, 0.0))
            high = np.minimum(mean + spread, 1.0) if ratio else mean + spread
            colour = style(index)["color"]
            axis.fill_between(mean.index, low, high, color=colour, alpha=0.15, linewidth=0)
    if ratio:
        axis.set_ylim(0.0, min(max(LEAST, axis.get_ylim()[1]), 1.02))


def few_shot_curves(data: pd.DataFrame, plan: StudyPlan) -> list[Figure]:
    """Test Dice against the share of the training data; nothing where the study has one share.

    Args:
        data: of the section on shares: columns model, fraction, test_dice, test_low, test_high.
        plan: the study.
    """
    if len(plan.fractions) < 2 or data.empty:
        return []
    figure, axes = new_figure(6, 3.6)
    axis = axes[0, 0]
    for index, model in enumerate(plan.models):
        points = data[data["model"] == model].sort_values("fraction")
        points = points[points["test_dice"].notna()]
        if points.empty:
            continue
        y = points["test_dice"].to_numpy()
        bars = np.stack([y - points["test_low"], points["test_high"] - y]).clip(min=0)
        shift = 1 + 0.03 * (index - (len(plan.models) - 1) / 2)
        axis.errorbar(
            100 * points["fraction"].to_numpy() * shift,
            y,
            yerr=None if np.isnan(bars).all() else bars,
            marker=marker(index),
            capsize=3,
            label=model,
            **style(index),
        )
    fractions = sorted(plan.fractions)
    axis.set_xscale("log")
    axis.set_xticks(
        [100 * fraction for fraction in fractions], [share(fraction) for fraction in fractions]
    )
    axis.minorticks_off()
    axis.set_xlabel("share of the training data")
    axis.set_ylabel("test Dice")
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=8)
    bounds = data[["test_low", "test_high"]].notna().any(axis=None)
    caption = (
        "Test Dice by share of the training data: mean over tasks that all models have finished"
        + (
            ", bars: 95 % of the means over bootstrap samples (training sets, trainings and cases "
            "of these tasks, as far as there are several)."
            if bounds
            else "."
        )
    )
    return [finish(figure, "few_shot", caption)]
