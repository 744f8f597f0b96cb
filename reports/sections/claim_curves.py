"""The rules of claims that look at training curves and activations."""

from __future__ import annotations

import numpy as np
import pandas as pd

from reports.sections.claim_study import (
    Claim,
    Evidence,
    Study,
    UntestableError,
    at_least,
    interval_text,
)
from reports.sections.overview import last_validation
from reports.statistics import mean_difference
from reports.statistics.scores import matrix

# a curve has converged at the first epoch with this share of the baseline's best validation Dice
CONVERGED = 0.95


def few_shot(claim: Claim, study: Study) -> Evidence:
    candidate, baseline = claim["candidate"], claim["baseline"]
    curves, without = _validation_curves(claim, study)
    values = matrix(last_validation(curves), [candidate, baseline], claim["fraction"], "dice")
    x, y = values[candidate].to_numpy(dtype=float), values[baseline].to_numpy(dtype=float)
    interval = mean_difference(x, y)
    text = (
        f"validation Dice {x.mean():.3f} against {y.mean():.3f}; gap {interval_text(interval)}"
        f"{without}"
    )
    rule = f"the 95 % interval of the gap must lie above 0 and reach {claim['gap']:g}"
    return Evidence(at_least(interval, claim["gap"]), text, rule)


def convergence(claim: Claim, study: Study) -> Evidence:
    candidate, baseline = claim["candidate"], claim["baseline"]
    curves, without = _validation_curves(claim, study)
    mean = curves.groupby(["task", "model", "epoch"], observed=True)["value"].mean()
    x, y = [], []
    for task in dict.fromkeys(curves["task"]):
        ours, theirs = mean.loc[task, candidate], mean.loc[task, baseline]
        level = CONVERGED * theirs.max()
        x.append(_first(ours, level))
        y.append(_first(theirs, level))
    interval = mean_difference(np.array(y), np.array(x))
    text = (
        f"epoch {np.mean(x):.1f} against {np.mean(y):.1f}; earlier by {interval_text(interval, 1)}"
        f"{without}"
    )
    rule = (
        f"first epoch at {CONVERGED:.0%} of the baseline's best validation Dice; the 95 % interval "
        "must lie above 0"
    )
    return Evidence(at_least(interval, 0.0), text, rule)


def _validation_curves(claim: Claim, study: Study) -> tuple[pd.DataFrame, str]:
    """Validation Dice of both models at the claim's share of the data, and which tasks have none.

    Raises:
        UntestableError: a planned trial of theirs has not finished, or no task has both curves.
    """
    models, fraction = [claim["candidate"], claim["baseline"]], claim["fraction"]
    wanted = [(model, task, fraction) for task in study.plan.tasks for model in models]
    if missing := [cell for cell in wanted if cell not in study.complete]:
        raise UntestableError(
            f"{len(missing)} of {len(wanted)} cells (model and task) at {fraction:.0%} data have "
            "not finished all folds and seeds"
        )
    curves = study.history
    if curves.empty:
        raise UntestableError("no training histories")
    curves = curves[
        (curves["split"] == "val")
        & (curves["metric"] == "dice")
        & (curves["fraction"] == fraction)
        & curves["model"].isin(models)
    ]
    both = curves.groupby("task", observed=True)["model"].nunique()
    tasks = [task for task in study.plan.tasks if both.get(task, 0) == 2]
    if not tasks:
        raise UntestableError(f"no task has a validation case at {fraction:.0%} data")
    absent = [task for task in study.plan.tasks if task not in tasks]
    without = f"; no validation case at this share: {', '.join(absent)}" if absent else ""
    return curves[curves["task"].isin(tasks)], without


def _first(curve: pd.Series, level: float) -> float:
    """First epoch at or above a level; one past the last where it is never reached."""
    reached = curve[curve >= level]
    return float(reached.index[0]) if len(reached) else float(curve.index[-1]) + 1


def focus(claim: Claim, study: Study) -> Evidence:
    candidate, baseline = claim["candidate"], claim["baseline"]
    here = study.focus[study.focus["stage"] == claim["stage"]] if len(study.focus) else study.focus
    wide = (
        here.pivot_table(index=["task", "case"], columns="model", values="focus")
        if len(here)
        else pd.DataFrame()
    )
    if candidate not in wide or baseline not in wide:
        raise UntestableError("no activations were saved for both models")
    pairs = wide[[candidate, baseline]].dropna()
    # One training a task saves its activations: tasks are the units, not the cases of a training.
    values = pairs.groupby(level="task").mean()
    if len(values) < len(study.plan.tasks):
        raise UntestableError(
            f"{len(values)} of {len(study.plan.tasks)} tasks have activations of both models"
        )
    x, y = values[candidate].to_numpy(dtype=float), values[baseline].to_numpy(dtype=float)
    interval = mean_difference(x, y)
    text = (
        f"focus {x.mean():.3f} against {y.mean():.3f} over {len(pairs)} cases; gain "
        f"{interval_text(interval)}"
    )
    rule = (
        "focus: mean activation inside the structure over the mean everywhere; the 95 % interval "
        "of the gain over tasks must lie above 0"
    )
    return Evidence(at_least(interval, 0.0), text, rule)
