"""Qualitative panels: the reference model's best, median and worst test case, with the truth and
every model's prediction (first fold, first seed).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from record.schema import StudyPlan
from reports.figures.canvas import new_figure
from reports.figures.masks import draw_image, fill, key, outline, scores_text, warn
from reports.figures.printing import finish
from reports.figures.saved import Arrays, Saved, case_dice, predicted_masks
from reports.render.html import Figure
from reports.render.tex import file_part

RANKS = ("best", "median", "worst")


@dataclass(frozen=True)
class Panel:
    """A slice of a test case. `ranks`: what the case is to the reference model, `image` uint8
    [X, Y], `truths` bool [G, X, Y], `voxels`: of each structure in the whole case, None in studies
    that did not keep them; `spacing`: mm along X and Y.
    """

    case: str
    ranks: str
    z: int
    spacing: tuple[float, float]
    image: np.ndarray
    truths: np.ndarray
    voxels: list[int] | None


def panels_of(saved: Arrays) -> list[Panel]:
    """The panels that a trial kept, a case that is several of best, median and worst once."""
    found: dict[str, Panel] = {}
    for rank in RANKS:
        start = f"panel/{rank}/"
        if f"{start}case" not in saved:
            continue
        case = str(saved[f"{start}case"])
        ranks = f"{found[case].ranks} and {rank}" if case in found else rank
        # Studies of before structures were told apart have their union only.
        truths = saved.get(f"{start}truths", saved[f"{start}truth"][None])
        voxels = saved.get(f"{start}truth_voxels")
        x, y = (float(edge) for edge in saved[f"{start}spacing"][:2])
        found[case] = Panel(
            case,
            ranks,
            int(saved[f"{start}slice"]),
            (x, y),
            saved[f"{start}image"],
            truths,
            None if voxels is None else [int(count) for count in voxels],
        )
    return list(found.values())


def structure_names(saved: Arrays, count: int) -> list[str]:
    """Names of the label groups that a trial kept; numbers in studies that did not keep them."""
    names = [str(name) for name in saved.get("groups", ())]
    return names if len(names) == count else [f"structure {n}" for n in range(1, count + 1)]


def qualitative_panels(
    arrays: Saved, masks: Saved, rows: pd.DataFrame, plan: StudyPlan
) -> list[Figure]:
    """One figure a task.

    Args:
        rows: of every test case, which the printed Dice is of.
    """
    figures = []
    for task in plan.tasks:
        models = [model for model in plan.models if (model, task) in arrays]
        panels = panels_of(arrays[models[0], task]) if models else []
        if panels:
            figures.append(_figure(task, models, panels, arrays, masks, rows, plan))
    return figures


def _figure(
    task: str,
    models: list[str],
    panels: list[Panel],
    arrays: Saved,
    masks: Saved,
    rows: pd.DataFrame,
    plan: StudyPlan,
) -> Figure:
    reference, columns = models[0], ["truth", *models]
    # Structures are told apart where truth and predictions have the same ones.
    names = structure_names(arrays[reference, task], len(panels[0].truths))
    edges = [np.multiply(panel.image.shape, panel.spacing) for panel in panels]  # mm
    tall = float(np.mean([y / x for x, y in edges]))
    size = (
        1.9 * len(columns) + 0.4,
        (1.9 * tall + 0.12 + 0.12 * len(names)) * len(panels) + 0.45 + 0.15 * len(names),
    )
    figure, axes = new_figure(*size, len(panels), len(columns))
    figure.set_layout_engine("compressed")
    for panel, line in zip(panels, axes, strict=True):
        for axis, name in zip(line, columns, strict=True):
            draw_image(axis, panel.image, panel.spacing)
            axis.set_title(name if panel is panels[0] else "", fontsize=8)
            if name == "truth":
                if panel.voxels is not None:
                    axis.set_xlabel(scores_text(names, {}, panel.voxels), fontsize=6.5)
                if not panel.truths.any():
                    axis.text(0.5, 0.5, "no structure", transform=axis.transAxes, ha="center")
            else:
                predicted = predicted_masks(masks.get((name, task), {}), panel.case)
                if predicted is None:
                    axis.set_xlabel("not tested on this case", fontsize=6.5)
                    continue
                if len(predicted) != len(panel.truths):
                    predicted = predicted.max(axis=0, keepdims=True)
                fill(axis, predicted[..., panel.z])
                warn(axis, predicted, panel.z)
                dice = case_dice(rows, plan, name, task, panel.case)
                volumes = [int(mask.sum()) for mask in predicted]
                axis.set_xlabel(scores_text(names, dice, volumes), fontsize=6.5)
            outline(axis, panel.truths)
        line[0].set_ylabel(f"{panel.ranks}\n{panel.case}, z = {panel.z}", fontsize=7)
    key(figure, names if len(names) > 1 else ["predicted"])
    caption = (
        f"{task}: best, median and worst test case of {reference} by Dice (first fold and seed), "
        "the slice with most of the structure. Filled: prediction; outline: truth. Dice and voxels "
        f"are those of the whole case.{_ties(panels, rows, plan, reference, task)}"
    )
    return finish(figure, f"panels_{file_part(task, among=plan.tasks)}", caption)


def _ties(
    panels: list[Panel], rows: pd.DataFrame, plan: StudyPlan, reference: str, task: str
) -> str:
    """Why the rows are not three different cases, or not different in Dice, if so."""
    if len(panels) < len(RANKS):
        tested = "one test case" if len(panels) == 1 else f"{len(panels)} test cases"
        return f" {reference} has {tested} with a Dice, so there are no three to show."
    dice = [
        np.mean(list(case_dice(rows, plan, reference, task, panel.case).values()))
        for panel in panels
    ]
    if dice[0] == dice[-1]:
        return (
            f" {reference} has Dice {dice[0]:.3f} in all three (and in every case between them), "
            "so they are in the order of their names."
        )
    return ""
