"""The paper's activation figure: what passes through a network, from the image to the mask, on the
voxel grid.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from record.schema import StudyPlan
from reports.figures.canvas import new_figure
from reports.figures.masks import draw_image, fill, outline, say
from reports.figures.saved import Arrays, Saved, shown_models
from reports.figures.widths import FONT, WIDTHS, save
from reports.render.html import Figure

TOKENS = ("encoder", "mapper 1", "mapper 2", "decoder")
STAGES = ("input", *TOKENS, "probability", "binary output")
UPRIGHT_TILE = 0.95  # inches, so that a column's figure is no higher than a page
FEWEST = 6  # tokens along a side of a slice, below which a report leaves the figure out
TITLES = {"probability": "probability\nmap", "binary output": "binary\noutput"}


def activation_figures(arrays: Saved, plan: StudyPlan, width: str) -> list[Figure]:
    """One figure a task: a row a model and a column a stage at the width of a page, the other way
    round at the width of a column. Nothing for networks without tokens.

    Args:
        width: a key of `WIDTHS`.
    """
    figures = []
    for task in plan.tasks:
        having = [
            model for (model, name), saved in arrays.items() if name == task and _has_tokens(saved)
        ]
        models = shown_models(plan, having) or [m for m in plan.models[:4] if m in having]
        if models:
            name = "activations" if len(plan.tasks) == 1 else f"activations_{task}"
            figure, caption = _figure(arrays, task, models, width)
            figures.append(save(figure, name, width, caption))
    return figures


def readable_tokens(arrays: Saved) -> bool:
    """Whether the maps of tokens have enough of them to show a shape."""
    sides = [
        min(saved[f"activation/stage/{stage}"].shape)
        for saved in arrays.values()
        for stage in TOKENS
        if f"activation/stage/{stage}" in saved
    ]
    return bool(sides) and min(sides) >= FEWEST


def _has_tokens(saved: Arrays) -> bool:
    return any(f"activation/stage/{stage}" in saved for stage in TOKENS)


def _figure(arrays: Saved, task: str, models: list[str], width: str) -> tuple[Any, str]:
    known = [
        stage
        for stage in STAGES
        if stage not in TOKENS
        or any(f"activation/stage/{stage}" in arrays[model, task] for model in models)
    ]
    inches, upright = WIDTHS[width], width == "column"
    x, y = arrays[models[0], task]["activation/truth"].shape
    across, down = (len(models), len(known)) if upright else (len(known), len(models))
    tile = min((inches - 0.35) / across, UPRIGHT_TILE if upright else inches)
    figure, axes = new_figure(inches, (tile * y / x + 0.05) * down + 0.8, down, across)
    figure.set_layout_engine("compressed")
    heat = None
    for row, (stage, line) in enumerate(zip(known, axes if upright else axes.T, strict=True)):
        for column, (model, axis) in enumerate(zip(models, line, strict=True)):
            drawn = _stage(axis, arrays[model, task], stage)
            heat = drawn if stage == "probability" and drawn is not None else heat
            title = TITLES.get(stage, stage)
            above, beside = (model, title) if upright else (title, model)
            if (row if upright else column) == 0:
                axis.set_title(above, fontsize=FONT)
            if (column if upright else row) == 0:
                axis.set_ylabel(beside, fontsize=FONT)
    if heat is not None:
        place: dict[str, Any] = {
            "location": "bottom",
            "shrink": 0.6 if upright else 0.3,
            "aspect": 25,
            "pad": 0.03,
        }
        bar = figure.colorbar(heat, ax=axes.ravel().tolist(), **place)
        bar.set_label("probability", fontsize=FONT)
        bar.ax.tick_params(labelsize=FONT - 1)
    saved = arrays[models[0], task]
    caption = (
        f"{task}, {saved['activation/case']}, slice {int(saved['activation/slice'])} of the "
        "network's grid: from the image to the mask. Encoder to decoder: the length of each "
        "token's vector without the mean token, on the voxels that the token stands for, bright is "
        "strong, each map from its own 1st to its 99th percentile. White line: truth."
    )
    return figure, caption


def _stage(axis: Any, saved: Arrays, stage: str) -> Any:
    """Draw one tile; gives back what a colour bar is of."""
    truth = saved["activation/truth"]
    x, y = truth.shape
    axis.set_xticks([])
    axis.set_yticks([])
    output = "activation/stage/output"
    name = output if stage in ("probability", "binary output") else f"activation/stage/{stage}"
    if stage != "input" and name not in saved:
        axis.set_xlim(-0.5, x - 0.5)
        axis.set_ylim(-0.5, y - 0.5)
        axis.set_aspect(1)
        axis.spines[:].set_visible(False)
        axis.text(
            0.5, 0.5, "none", ha="center", va="center", fontsize=FONT, transform=axis.transAxes
        )
        return None
    drawn = None
    if stage in ("input", "binary output"):
        draw_image(axis, saved["activation/image"])
    if stage == "binary output":
        predicted = saved[output].astype(np.float32) > 0.5
        fill(axis, predicted[None])
        if not predicted.any() or predicted.all():
            word = "all of\nthis slice" if predicted.any() else "nothing in\nthis slice"
            say(axis, word, FONT - 1)
    elif stage != "input":
        values = saved[name].astype(np.float32)
        low, high = (0.0, 1.0) if stage == "probability" else np.percentile(values, [1, 99])
        drawn = axis.imshow(
            values.T,
            cmap="magma" if stage == "probability" else "viridis",  # both monotone in grey
            origin="lower",
            extent=(-0.5, x - 0.5, -0.5, y - 0.5),
            vmin=low,
            vmax=high if high > low else low + 1,
            interpolation="nearest",
        )
    outline(axis, truth[None], width=0.6)
    return drawn
