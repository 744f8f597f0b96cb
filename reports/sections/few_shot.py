"""Table 4: test and validation Dice by share of the training data, with what other trainings would
change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from record.schema import StudyPlan
from reports.render.layout import (
    Cell,
    Section,
    Table,
    number,
    of_fewer,
    share,
    spread,
    stands_out,
    text_cell,
)
from reports.sections.model_ranks import drawn_by, drawn_text, finished_models, runs_of
from reports.statistics import mean_bounds
from reports.statistics.scores import common_tasks

HEADER = [
    "Training data",
    "Model",
    "Tasks",
    "Test Dice",
    "Drawn anew [95%]",
    "Validation Dice, last epoch",
]


def few_shot_section(
    means: pd.DataFrame, history: pd.DataFrame, plan: StudyPlan, runs: pd.DataFrame | None = None
) -> Section:
    """Test Dice, and validation Dice after the last epoch, by share of the training data.

    Args:
        means: of every task.
        history: the curves.
        plan: the study.
        runs: Dice of every run and case; without them there are no bounds.
    """
    made, rows = [], []
    last = last_validation(history)
    for fraction in plan.fractions:
        models = finished_models(means, plan, fraction)
        tasks = common_tasks(means, models, fraction)
        if not tasks:
            continue
        reached = [means_at(means, model, tasks, fraction).mean() for model in models]
        bounds = _bounds(runs, models, tasks, fraction)
        for place, model in enumerate(models):
            row: dict[str, Any] = {"fraction": fraction, "model": model, "tasks": len(tasks)}
            for name, of in (("test", means), ("validation", last)):
                values = means_at(of, model, tasks, fraction)
                row |= {
                    f"{name}_dice": values.mean() if len(values) else np.nan,
                    f"{name}_sd": values.std(ddof=1) if len(values) > 1 else np.nan,
                    f"{name}_tasks": len(values),
                }
            row |= {"test_low": bounds[0][place], "test_high": bounds[1][place]}
            made.append(row)
            rows.append(_cells(row, reached))
    notes = [
        "Mean ± standard deviation over tasks that every listed model has finished at that share "
        "of the training data. Test: every test case, on its own grid; in brackets 95 % of its "
        f"mean over 1,000 bootstrap samples of {drawn_text(runs)}, within each task. Validation: "
        "after the last epoch, on the network's grid; where fewer of these tasks have validation "
        "cases it says of how many it is the mean."
    ]
    data = pd.DataFrame(made)
    return Section(
        "few_shot",
        "Few-shot",
        [Table("", HEADER, "llrrrr", rows, notes[0], keys=2)],
        data,
        notes,
        place="shown" if len(plan.fractions) > 1 else "file",
    )


def _cells(row: dict[str, Any], reached: Sequence[float]) -> list[Cell]:
    """Cells of HEADER; `reached`: the test Dice of all models at this share of the data."""
    low, high = row["test_low"], row["test_high"]
    return [
        Cell(share(row["fraction"]), sort=row["fraction"]),
        text_cell(row["model"]),
        number(row["tasks"], 0),
        spread(
            row["test_dice"],
            row["test_sd"],
            best=stands_out(row["test_dice"], max(reached), reached),
        ),
        Cell(
            "" if np.isnan(low) else f"[{low:.3f}, {high:.3f}]", sort=None if np.isnan(low) else low
        ),
        of_fewer(
            spread(row["validation_dice"], row["validation_sd"]),
            row["validation_tasks"],
            row["tasks"],
        ),
    ]


def _bounds(
    runs: pd.DataFrame | None, models: Sequence[str], tasks: Sequence[str], fraction: float
) -> tuple[np.ndarray, np.ndarray]:
    """Of the mean over tasks of each model [models], NaN without scores of runs."""
    wide = runs_of(runs, models, tasks, fraction, "dice") if runs is not None else pd.DataFrame()
    if wide.empty:
        nothing = np.full(len(models), np.nan)
        return nothing, nothing
    return mean_bounds(wide.to_numpy(dtype=float), **drawn_by(wide))


def last_validation(history: pd.DataFrame) -> pd.DataFrame:
    """Validation Dice after the last epoch, mean over folds and seeds: columns model, task,
    fraction, dice.
    """
    columns = ["model", "task", "fraction", "dice"]
    if history.empty:
        return pd.DataFrame(columns=columns)
    curves = history[(history["split"] == "val") & (history["metric"] == "dice")]
    last = (
        curves.sort_values("epoch", kind="stable")
        .groupby([*columns[:3], "fold", "seed"], observed=True)["value"]
        .last()
    )
    return last.groupby(level=[0, 1, 2]).mean().rename("dice").reset_index()


def means_at(means: pd.DataFrame, model: str, tasks: Sequence[str], fraction: float) -> pd.Series:
    """Dice of one model in these tasks at one fraction."""
    here = means[
        (means["model"] == model) & (means["fraction"] == fraction) & means["task"].isin(tasks)
    ]
    return here["dice"].astype(float)
