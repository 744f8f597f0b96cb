"""Training curves out of the result store, as vector (PDF) and PNG."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd

# Okabe and Ito's palette: told apart by the colour-blind; line styles tell the models apart in grey.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
STYLES = ("-", "--", "-.", ":")
PANELS = (("val", "dice", "Validation Dice"), ("train", "loss", "Training loss"))


def training_curves(history: pd.DataFrame, plan: Mapping[str, Any]) -> dict[str, bytes]:
    """Mean over folds and seeds with a band of one standard deviation: a row per task and fraction.

    Args:
        history: columns of the cell, epoch, split, metric, value.

    Returns:
        File name -> content; empty where there is no history.
    """
    if history.empty:
        return {}
    rows = list(itertools.product(plan["tasks"], plan["fractions"]))
    figure, axes = plt.subplots(
        len(rows), len(PANELS), figsize=(9, 2.6 * len(rows) + 0.6), squeeze=False, layout="constrained"
    )
    for (task, fraction), line in zip(rows, axes, strict=True):
        here = history[(history["task"] == task) & (history["fraction"] == fraction)]
        for (split, metric, title), axis in zip(PANELS, line, strict=True):
            curves = here[(here["split"] == split) & (here["metric"] == metric)]
            _draw(axis, curves, plan["models"])
            share = "full data" if fraction == 1 else f"{fraction:.0%} of the data"
            axis.set_title(f"{task}, {share}", fontsize=9)
            axis.set_xlabel("epoch")
            axis.set_ylabel(title)
            axis.grid(alpha=0.25)
    handles, labels = axes[0][-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, max(1, len(labels))), frameon=False)
    files = {}
    for suffix in ("png", "pdf"):
        buffer = io.BytesIO()
        # No date in the file, so that the same results give the same bytes.
        figure.savefig(buffer, format=suffix, dpi=150, metadata={"CreationDate": None} if suffix == "pdf" else None)
        files[f"training_curves.{suffix}"] = buffer.getvalue()
    plt.close(figure)
    return files


def _draw(axis: Any, curves: pd.DataFrame, models: list[str]) -> None:
    if curves.empty:
        axis.text(0.5, 0.5, "no validation cases", ha="center", va="center", transform=axis.transAxes)
        return
    for index, model in enumerate(models):
        by_epoch = curves[curves["model"] == model].groupby("epoch")["value"]
        mean, spread = by_epoch.mean(), by_epoch.std().fillna(0.0)
        colour = PALETTE[index % len(PALETTE)]
        axis.plot(mean.index, mean, STYLES[index % len(STYLES)], color=colour, label=model)
        axis.fill_between(mean.index, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
