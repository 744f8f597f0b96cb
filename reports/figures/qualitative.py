"""The paper's qualitative figure: a column a task; rows: the image, the truth, each model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from record.schema import StudyPlan
from reports.figures.canvas import new_figure
from reports.figures.masks import draw_image, fill, key, outline, union, warn
from reports.figures.panels import Panel, panels_of
from reports.figures.saved import Saved, case_dice, predicted_masks, shown_models
from reports.figures.widths import FONT, WIDTHS, save
from reports.render.html import Figure

ACROSS = {"column": 5, "page": 10}  # tasks side by side
FEW = 3  # fewer tasks have a row each


def qualitative_figures(
    arrays: Saved, masks: Saved, rows: pd.DataFrame, plan: StudyPlan, width: str
) -> list[Figure]:
    """The test case of each task that is the median of the first model shown, by Dice.

    All structures of a task are one, as in the paper.

    Args:
        rows: of every test case, which the printed Dice is of.
        width: a key of `WIDTHS`.
    """
    models = shown_models(plan, {model for model, _ in arrays}) or plan.models[:1]
    found = {}
    for task in plan.tasks:
        panels = panels_of(arrays.get((models[0], task), {}))
        if panels:
            found[task] = next((p for p in panels if "median" in p.ranks), panels[0])
    if not found:
        return []
    names = ["image", "truth", *models]
    inches = WIDTHS[width]
    if len(found) < FEW:  # columns of so few tasks would be as wide as half a page
        tile = (inches - 0.25) / len(names)
        figure, axes = new_figure(inches, tile * len(found) + 0.5, len(found), len(names))
        axes = axes.T
    else:
        across = min(ACROSS[width], len(found))
        blocks = -(-len(found) // across)
        tile = (inches - 0.25) / across
        height = (tile * len(names) + 0.3) * blocks + 0.3
        figure, axes = new_figure(inches, height, len(names) * blocks, across)
    figure.set_layout_engine("compressed")
    across = axes.shape[1]
    for axis in axes.ravel():
        axis.set_axis_off()
    size = FONT - (tile < 0.8)
    for place, (task, panel) in enumerate(found.items()):
        block, column = divmod(place, across)
        for row, name in enumerate(names):
            axis = axes[block * len(names) + row, column]
            axis.set_axis_on()
            _tile(axis, panel, task, name, masks, rows, plan, size)
            above, beside = (name, _short(task)) if len(found) < FEW else (_short(task), name)
            if (column if len(found) < FEW else row) == 0:
                axis.set_title(above, fontsize=size)
            if (row if len(found) < FEW else column) == 0:
                axis.set_ylabel(beside, fontsize=size)
    key(figure, ["mask"], FONT)
    caption = (
        f"Qualitative results: of each task the test case of median Dice of {models[0]} (first "
        "fold and seed), the slice with most of the structure. Filled: the mask; outline: the "
        "truth; number: Dice of the whole case, mean over its structures."
    )
    return [save(figure, "qualitative", width, caption)]


def _short(task: str) -> str:
    """`Task04_Hippocampus` as a column's title."""
    return task.partition("_")[2] if task[:4] == "Task" and "_" in task else task.replace("_", "\n")


def _tile(
    axis: Any,
    panel: Panel,
    task: str,
    name: str,
    masks: Saved,
    rows: pd.DataFrame,
    plan: StudyPlan,
    size: float,
) -> None:
    draw_image(axis, _square(panel.image, panel.spacing, 0), panel.spacing)
    truth = _square(union(panel.truths), panel.spacing, False)[None]
    if name == "image":
        return
    if name == "truth":
        fill(axis, truth)
        outline(axis, truth, width=0.6)
        return
    predicted = predicted_masks(masks.get((name, task), {}), panel.case)
    if predicted is None:
        axis.text(0.5, 0.5, "not tested", ha="center", fontsize=size, transform=axis.transAxes)
        return
    found = union(predicted)
    fill(axis, _square(found[..., panel.z], panel.spacing, False)[None])
    outline(axis, truth, width=0.6)
    warn(axis, found[None], panel.z, size=size)
    dice = list(case_dice(rows, plan, name, task, panel.case).values())
    axis.text(
        0.03,
        0.03,
        f"{np.mean(dice):.2f}" if dice else "",
        fontsize=size,
        color="white",
        transform=axis.transAxes,
        bbox={"facecolor": "black", "edgecolor": "none", "pad": 1.0},
    )


def _square(slice_: np.ndarray, spacing: tuple[float, float], empty: Any) -> np.ndarray:
    """A slice [X, Y] in the middle of a square of mm, so that all tiles have one shape."""
    wide, tall = slice_.shape[0] * spacing[0], slice_.shape[1] * spacing[1]
    edge = max(wide, tall)
    missing = [round((edge - wide) / spacing[0]), round((edge - tall) / spacing[1])]
    widths = [(lack // 2, lack - lack // 2) for lack in missing]
    return np.pad(slice_, widths, constant_values=empty)
