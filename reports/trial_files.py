"""The files of one trial as the official code names them, out of its study: training CSV, curves,
slices, test cases.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from record import paths
from record.damage import read_committed
from record.schema import Commit
from record.store import StoreError
from record.study import StoredStudy
from reports.figures.activations import activation_figures
from reports.figures.canvas import new_figure
from reports.figures.curves import PALETTE, STYLES
from reports.figures.panels import qualitative_panels
from reports.figures.printing import finish
from reports.figures.saved import saved_arrays
from reports.render.layout import spread, to_csv

CURVES = (("loss", "Loss"), ("dice", "Dice"), ("nsd", "NSD"))
SPLITS = (("train", "Train"), ("val", "Val"))


def trial_files(study: StoredStudy) -> tuple[dict[str, bytes], str]:
    """Content by path of a study's only trial, and its test scores in one line.

    All lie in a folder named after the task. `TASK_training_results.csv` has a line an epoch and
    always the official code's seven columns, empty where nothing was measured; the curves are
    named as there, too. What the official code does not write is named after the study: the
    table of every test case (at full precision; they are looked at once, after training), slices,
    activations and weights.

    Raises:
        StoreError: the trial is not finished, or a committed file is missing or broken.
    """
    store, plan, finished = study.store, study.plan, study.finished
    for problem in finished.damaged.values():
        raise StoreError(problem)
    commits, task = finished.commits, plan.tasks[0]
    marker = commits[str(plan.trials[0].eval_id)]
    history = study.rows(paths.HISTORY).pivot_table(
        index="epoch", columns=["split", "metric"], values="value", dropna=False
    )
    table = pd.DataFrame({"Epoch": history.index})
    official: dict[str, bytes] = {}
    for metric, title in CURVES:
        figure, axes = new_figure(6, 3.6)
        axis = axes[0, 0]
        for index, (split, label) in enumerate(SPLITS):
            known = (split, metric) in history
            table[f"{label} {title}"] = history[split, metric].to_numpy() if known else np.nan
            if known:
                axis.plot(
                    history.index,
                    history[split, metric],
                    label=label,
                    color=PALETTE[index],
                    linestyle=STYLES[index],
                    marker="o" if len(history) == 1 else None,
                )
        axis.set_xlabel("epoch")
        axis.set_ylabel(title)
        axis.set_title(plan.name, fontsize=9)
        axis.grid(alpha=0.25)
        axis.legend(frameon=False)
        official[f"{metric}_curve.png"] = finish(figure, metric, title).png
    cases = study.rows(paths.CASES)
    arrays, masks = (
        saved_arrays(store, plan, commits),
        saved_arrays(store, plan, commits, paths.MASKS),
    )
    ours = {"test_cases.csv": to_csv(cases.drop(columns=["eval_id"])).encode()}
    for kind, figures in (
        ("slices", qualitative_panels(arrays, masks, cases, plan)),
        ("activations", activation_figures(arrays, plan, "page")),
    ):
        ours |= {f"{kind}.png": figure.png for figure in figures}
    files = {f"{task}/{task}_training_results.csv": to_csv(table).encode()}
    files |= {f"{task}/{task}_{name}": content for name, content in official.items()}
    files |= {f"{task}/{plan.name}_{name}": content for name, content in ours.items()}
    files[f"{task}/{plan.name}.safetensors"] = read_committed(store, marker, paths.WEIGHTS)
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
