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
    with_methods,
)
from reports.sections.gaps import CONVERGED, by_task, paired_runs, variance_of
from reports.statistics import mean_difference
from reports.statistics.over_tasks import Estimate


def few_shot(claim: Claim, study: Study) -> Evidence:
    pairs, without = _pairs(claim, study)
    means = pairs.groupby("task", sort=False)[["last", "last_baseline"]].mean()
    x, y = (means[name].to_numpy(dtype=float) for name in ("last", "last_baseline"))
    interval = with_methods(mean_difference(x, y), _methods(pairs, "validation", claim, study))
    text = (
        f"validation Dice {x.mean():.3f} against {y.mean():.3f}; gap {interval_text(interval)}"
        f"{without}"
    )
    rule = f"the 95 % interval of the gap must lie above 0 and reach {claim['gap']:g}"
    return Evidence(at_least(interval, claim["gap"]), text, rule)


def convergence(claim: Claim, study: Study) -> Evidence:
    pairs, without = _pairs(claim, study)
    means = pairs.groupby("task", sort=False)[["reached", "reached_baseline"]].mean()
    x, y = (means[name].to_numpy(dtype=float) for name in ("reached", "reached_baseline"))
    interval = with_methods(mean_difference(y, x), _methods(pairs, "epochs", claim, study))
    text = (
        f"epoch {np.mean(x):.1f} against {np.mean(y):.1f}; earlier by {interval_text(interval, 1)}"
        f"{without}"
    )
    rule = (
        f"first epoch of each run at {CONVERGED:.0%} of the best validation Dice of the baseline's "
        "run; the 95 % interval must lie above 0"
    )
    return Evidence(at_least(interval, 0.0), text, rule)


def _methods(pairs: pd.DataFrame, gap: str, claim: Claim, study: Study) -> list[Estimate]:
    """The methods' difference of each task, with the variance of the study's own comparison."""
    return by_task(pairs, gap, variance_of(study.plan, claim["baseline"], claim["candidate"]))


def _pairs(claim: Claim, study: Study) -> tuple[pd.DataFrame, str]:
    """Runs of both models at the claim's share of the data, and which tasks have no curves.

    Raises:
        UntestableError: a planned trial of theirs has not finished, or no task has both curves.
    """
    models, fraction = [claim["candidate"], claim["baseline"]], claim["fraction"]
    _require_complete(claim, study, fraction)
    if study.history.empty:
        raise UntestableError("no training histories")
    plan = study.plan
    pairs = paired_runs(
        study.history, plan, study.commits, models[1], models[0], fraction, plan.tasks
    )
    tasks = set(pairs["task"])
    if not tasks:
        raise UntestableError(
            f"no task has a validation case at {fraction:.0%} data; with splits.validation: fold "
            "each has"
        )
    absent = [task for task in study.plan.tasks if task not in tasks]
    without = f"; no validation case at this share: {', '.join(absent)}" if absent else ""
    if study.plan.recipe.validation == "fold" and fraction < 1:
        without += "; validated on cases of the fold that this share does not shrink"
    return pairs, without


def _require_complete(claim: Claim, study: Study, fraction: float) -> None:
    """Raise UntestableError where a planned trial of the claim's models has not finished."""
    models = [claim["candidate"], claim["baseline"]]
    wanted = [(model, task, fraction) for task in study.plan.tasks for model in models]
    if missing := [cell for cell in wanted if cell not in study.complete]:
        raise UntestableError(
            f"{len(missing)} of {len(wanted)} cells (model and task) at {fraction:.0%} data have "
            "not finished all folds and seeds"
        )


def focus(claim: Claim, study: Study) -> Evidence:
    candidate, baseline = claim["candidate"], claim["baseline"]
    _require_complete(claim, study, 1.0)
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
