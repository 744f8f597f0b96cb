"""The rules of claims that look at training curves and activations."""

from __future__ import annotations

import numpy as np
import pandas as pd

from reports.sections.claim_study import (
    ALPHA,
    Claim,
    Evidence,
    Study,
    UntestableError,
    at_least,
    interval_text,
)
from reports.sections.overview import last_validation
from reports.statistics import mean_difference, paired_wilcoxon
from reports.statistics.scores import matrix

# a curve has converged at the first epoch with this share of the baseline's best validation Dice
CONVERGED = 0.95


def few_shot(claim: Claim, study: Study) -> Evidence:
    candidate, baseline = claim["candidate"], claim["baseline"]
    last = last_validation(study.history)
    values = matrix(last, [candidate, baseline], claim["fraction"], "dice") if len(last) else last
    if len(values) < len(study.plan.tasks):
        raise UntestableError(
            f"{len(values)} of {len(study.plan.tasks)} tasks have both curves at "
            f"{claim['fraction']:.0%} data"
        )
    x, y = values[candidate].to_numpy(dtype=float), values[baseline].to_numpy(dtype=float)
    interval = mean_difference(x, y)
    text = f"validation Dice {x.mean():.3f} against {y.mean():.3f}; gap {interval_text(interval)}"
    rule = f"the 95 % interval of the gap must lie above 0 and reach {claim['gap']:g}"
    return Evidence(at_least(interval, claim["gap"]), text, rule)


def convergence(claim: Claim, study: Study) -> Evidence:
    candidate, baseline = claim["candidate"], claim["baseline"]
    curves = study.history
    if curves.empty:
        raise UntestableError("no training histories")
    curves = curves[
        (curves["split"] == "val")
        & (curves["metric"] == "dice")
        & (curves["fraction"] == claim["fraction"])
    ]
    mean = curves.groupby(["task", "model", "epoch"], observed=True)["value"].mean()
    x, y = [], []
    for task in study.plan.tasks:
        try:
            ours, theirs = mean.loc[task, candidate], mean.loc[task, baseline]
        except KeyError:
            continue
        level = CONVERGED * theirs.max()
        x.append(_first(ours, level))
        y.append(_first(theirs, level))
    if len(x) < len(study.plan.tasks):
        raise UntestableError(
            f"{len(x)} of {len(study.plan.tasks)} tasks have both curves at "
            f"{claim['fraction']:.0%} data"
        )
    interval = mean_difference(np.array(y), np.array(x))
    text = (
        f"epoch {np.mean(x):.1f} against {np.mean(y):.1f}; earlier by {interval_text(interval, 1)}"
    )
    rule = (
        f"first epoch at {CONVERGED:.0%} of the baseline's best validation Dice; the 95 % interval "
        "must lie above 0"
    )
    return Evidence(at_least(interval, 0.0), text, rule)


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
    test = paired_wilcoxon(pairs[candidate].to_numpy(), pairs[baseline].to_numpy())
    if test.p_floor >= ALPHA:
        raise UntestableError(f"{len(pairs)} cases with activations are too few for a test")
    text = (
        f"focus {pairs[candidate].mean():.3f} against {pairs[baseline].mean():.3f} over "
        f"{len(pairs)} cases, p = {test.p:.2g}"
    )
    rule = (
        "focus: mean activation inside the structure over the mean everywhere; larger with p < "
        "0.05, by the test's ranks"
    )
    return Evidence(test.w_plus > test.w_minus if test.p < ALPHA else None, text, rule)
