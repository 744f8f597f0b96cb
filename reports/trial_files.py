"""The files of one trial as the official code names them, out of its study: training CSV, curves,
slices, test cases.
"""

from __future__ import annotations

import pandas as pd

from record import paths
from record.damage import read_committed
from record.schema import Commit
from record.store import Store
from record.tables import read_results
from reports.figures.canvas import new_figure
from reports.figures.curves import PALETTE, STYLES, finish
from reports.figures.panels import activation_figures, qualitative_panels, saved_arrays
from reports.render.layout import spread, to_csv

CURVES = (("loss", "Loss"), ("dice", "Dice"), ("nsd", "NSD"))
SPLITS = (("train", "Train"), ("val", "Val"))


def trial_files(store: Store) -> tuple[dict[str, bytes], str]:
    """Content by file name of a study's only trial, and its test scores in one line.

    `NAME_training_results.csv` has one line an epoch with the official code's columns but its
    `Test` ones: test cases are looked at once, after training (`NAME_test_cases.csv`, at full
    precision).

    Raises:
        StoreError: the trial is not finished, or a committed file is missing or broken.
    """
    plan, commits = store.plan(), store.commits()
    name, marker = plan.name, commits[str(plan.trials[0].eval_id)]
    history = read_results(store, paths.HISTORY, commits).pivot_table(
        index="epoch", columns=["split", "metric"], values="value", dropna=False
    )
    table = pd.DataFrame({"Epoch": history.index})
    files: dict[str, bytes] = {}
    for metric, title in CURVES:
        figure, axes = new_figure(6, 3.6)
        axis = axes[0, 0]
        for index, (split, label) in enumerate(SPLITS):
            if (split, metric) in history:
                table[f"{label} {title}"] = history[split, metric].to_numpy()
                axis.plot(
                    history.index,
                    history[split, metric],
                    label=label,
                    color=PALETTE[index],
                    linestyle=STYLES[index],
                )
        axis.set_xlabel("epoch")
        axis.set_ylabel(title)
        axis.set_title(name, fontsize=9)
        axis.grid(alpha=0.25)
        axis.legend(frameon=False)
        files[f"{name}_{metric}_curve.png"] = finish(figure, metric, title).png
    files[f"{name}_training_results.csv"] = to_csv(table).encode()
    cases = read_results(store, paths.CASES, commits)
    files[f"{name}_test_cases.csv"] = to_csv(cases.drop(columns=["eval_id"])).encode()
    arrays, masks = (
        saved_arrays(store, plan, commits),
        saved_arrays(store, plan, commits, paths.MASKS),
    )
    for kind, figures in (
        ("slices", qualitative_panels(arrays, masks, plan)),
        ("activations", activation_figures(arrays, plan)),
    ):
        files |= {f"{name}_{kind}.png": figure.png for figure in figures}
    files[f"{name}.safetensors"] = read_committed(store, marker, paths.WEIGHTS)
    return files, _summary(cases, marker)


def _summary(cases: pd.DataFrame, marker: Commit) -> str:
    shown = [
        (title, spread(cases[metric].mean(), cases[metric].std()).text)
        for metric, title in CURVES
        if metric in cases
    ]
    means = ", ".join(f"{title} {text}" for title, text in shown)
    return (
        f"{cases['case'].nunique()} test cases, weights of epoch {marker.cost.chosen_epoch}: "
        f"{means}"
    )
