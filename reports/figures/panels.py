"""Qualitative panels and activation maps, drawn from arrays that the run saved (first fold, first
seed).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from record import paths
from record.damage import read_committed
from record.schema import Commit, StudyPlan
from record.store import Store, StoreError
from reports.figures.canvas import new_figure
from reports.figures.curves import finish, style
from reports.render.html import Figure

Arrays = Mapping[str, np.ndarray]
RANKS = ("best", "median", "worst")
STAGES = ("encoder", "mapper 1", "LLM block", "mapper 2", "decoder", "output")


def saved_arrays(
    store: Store, plan: StudyPlan, commits: Mapping[str, Commit], kind: str = paths.ARRAYS
) -> dict[tuple[str, str], Arrays]:
    """Arrays by (model, task) at the largest share of the data; empty where a study saved none.

    Args:
        kind: `arrays` (panels and activations) or `masks` of the same trials.

    Raises:
        StoreError: a committed file is missing, not what was committed, or no npz file.
    """
    found: dict[tuple[str, str], Arrays] = {}
    fraction = max(plan.fractions)
    for trial in plan.trials:
        marker = commits.get(trial.eval_id or "")
        if (
            marker is None
            or trial.fraction != fraction
            or paths.ARRAYS not in marker.files
            or (trial.model, trial.task) in found
        ):
            continue
        try:
            content = io.BytesIO(read_committed(store, marker, kind))
            with np.load(content, allow_pickle=False) as arrays:
                found[trial.model, trial.task] = {name: arrays[name] for name in arrays.files}
        except (ValueError, OSError, EOFError) as error:
            raise StoreError(
                f"{store.path(marker.files[kind])}: is no valid npz file: {error}"
            ) from error
    return found


def focus_rows(arrays: Mapping[tuple[str, str], Arrays]) -> pd.DataFrame:
    """Columns model, task, case, stage, focus: mean activation inside the structure over the mean
    everywhere.
    """
    rows = []
    for (model, task), saved in arrays.items():
        for name, value in saved.items():
            if name.startswith("focus/"):
                _, stage, case = name.split("/", 2)
                rows.append(
                    {
                        "model": model,
                        "task": task,
                        "case": case,
                        "stage": stage,
                        "focus": float(value),
                    }
                )
    return pd.DataFrame(rows, columns=["model", "task", "case", "stage", "focus"])


def qualitative_panels(
    arrays: Mapping[tuple[str, str], Arrays],
    masks: Mapping[tuple[str, str], Arrays],
    plan: StudyPlan,
) -> list[Figure]:
    """Per task: the reference model's best, median and worst test case with the truth and every
    model's contour.
    """
    figures = []
    for task in plan.tasks:
        models = [model for model in plan.models if (model, task) in arrays]
        if not models:
            continue
        reference, source = models[0], arrays[models[0], task]
        ranks = [rank for rank in RANKS if f"panel/{rank}/case" in source]
        if not ranks:
            continue
        columns = ["truth", *models]
        size = (1.9 * len(columns) + 0.4, 2.05 * len(ranks) + 0.2)
        figure, axes = new_figure(*size, len(ranks), len(columns))
        for line, rank in zip(axes, ranks, strict=True):
            case, z = str(source[f"panel/{rank}/case"]), int(source[f"panel/{rank}/slice"])
            spacing, truth = source[f"panel/{rank}/spacing"], source[f"panel/{rank}/truth"]
            for axis, name in zip(line, columns, strict=True):
                _image(axis, source[f"panel/{rank}/image"], aspect=float(spacing[1] / spacing[0]))
                _contour(axis, truth, color="black", linewidth=2.6)
                _contour(axis, truth, color="white", linewidth=1.4)
                if (
                    name != "truth"
                    and (predicted := _mask(masks.get((name, task), {}), case)) is not None
                ):
                    colour = style(plan.models.index(name))["color"]
                    _contour(axis, predicted[..., z], color=colour, linestyle="--", linewidth=1.4)
                axis.set_title(name if rank == ranks[0] else "", fontsize=8)
            line[0].set_ylabel(f"{rank}\n{case}, z = {z}", fontsize=7)
        caption = (
            f"{task}: best, median and worst test case of {reference} by Dice (first fold and "
            "seed), the slice with most of the structure. White: truth; dashed: prediction."
        )
        figures.append(finish(figure, f"panels_{task}", caption))
    return figures


def activation_figures(arrays: Mapping[tuple[str, str], Arrays], plan: StudyPlan) -> list[Figure]:
    """Per task: activation by stage for the models of the comparisons, in the test case of median
    structure size.
    """
    figures = []
    for task in plan.tasks:
        models = [
            model for model in plan.models if "activation/case" in arrays.get((model, task), {})
        ]
        shown = [
            stage
            for stage in STAGES
            if any(f"activation/stage/{stage}" in arrays[model, task] for model in models)
        ]
        if not shown:
            continue
        size = (1.45 * (len(shown) + 1) + 0.3, 1.6 * len(models) + 0.3)
        figure, axes = new_figure(*size, len(models), len(shown) + 1)
        for row, (model, line) in enumerate(zip(models, axes, strict=True)):
            saved = arrays[model, task]
            _image(line[0], saved["activation/image"])
            _contour(line[0], saved["activation/truth"], color="black", linewidth=2.6)
            _contour(line[0], saved["activation/truth"], color="white", linewidth=1.4)
            line[0].set_ylabel(model, fontsize=8)
            for axis, stage in zip(line[1:], shown, strict=True):
                _activation(axis, saved, stage)
            for axis, title in zip(line, ["image, truth", *shown], strict=True):
                axis.set_title(title if row == 0 else "", fontsize=8)
        saved = arrays[models[0], task]
        caption = (
            f"{task}, {saved['activation/case']}, slice {int(saved['activation/slice'])}: "
            "activation by stage, the length of each token's vector without the mean token; bright "
            "is strong, each map scaled to its own range. White line: truth. Output: probability."
        )
        figures.append(finish(figure, f"activations_{task}", caption))
    return figures


def _activation(axis: Any, saved: Arrays, stage: str) -> None:
    name = f"activation/stage/{stage}"
    if name not in saved:
        axis.set_aspect(1)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
        axis.text(
            0.5,
            0.5,
            "no such\nstage",
            ha="center",
            va="center",
            fontsize=7,
            transform=axis.transAxes,
        )
        return
    truth = saved["activation/truth"]
    extent = (-0.5, truth.shape[0] - 0.5, -0.5, truth.shape[1] - 0.5)
    axis.imshow(
        saved[name].astype(np.float32).T, cmap="viridis", origin="lower", extent=extent
    )  # viridis: monotone in grey
    _contour(axis, truth, color="white", linewidth=0.9)
    axis.set_xticks([])
    axis.set_yticks([])


def _image(axis: Any, image: np.ndarray, aspect: float = 1.0) -> None:
    """A slice [X, Y], x to the right and y up."""
    axis.imshow(image.T, cmap="gray", origin="lower", aspect=aspect, vmin=0, vmax=255)
    axis.set_xticks([])
    axis.set_yticks([])


def _contour(
    axis: Any, mask: np.ndarray, *, color: str, linewidth: float, linestyle: str = "-"
) -> None:
    if mask.any() and not mask.all():
        axis.contour(
            mask.T.astype(float),
            levels=[0.5],
            colors=[color],
            linewidths=linewidth,
            linestyles=linestyle,
        )


def _mask(saved: Arrays, case: str) -> np.ndarray | None:
    """Predicted structure [X, Y, Z], any label group; None where the trial did not test this
    case.
    """
    if f"bits/{case}" not in saved:
        return None
    shape: Sequence[int] = saved[f"shape/{case}"].tolist()
    bits = np.unpackbits(saved[f"bits/{case}"], count=int(np.prod(shape)))
    return np.asarray(bits.reshape(shape).max(axis=0), dtype=bool)
