"""The tests of one row of the significance table: over cases, and of the methods.

Over cases: these two groups of trained networks, on new cases. Of the methods: new trainings, new
training sets of this size and new cases.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from reports.statistics import (
    MethodDifference,
    detectable,
    hodges_lehmann,
    mean_difference,
    method_difference,
    paired_wilcoxon,
    place,
    practical,
    rank_biserial,
    wilcoxon_over_runs,
)
from reports.statistics.adjustment import ALPHA
from reports.statistics.methods import COMPONENTS, Variance
from reports.statistics.pairing import Pairs
from reports.statistics.run_scores import Differences

POWER = 0.8
NOT_TESTABLE = "not testable"
NOT_FOR_METHODS = "not testable for methods"

_EQUIVALENCE = {"within": "equivalent", "beyond": "above", "below": "below"}


def over_cases(pairs: Pairs, models: tuple[str, str], *, higher_is_better: bool) -> dict[str, Any]:
    """Columns of means, effects and the exact signed-rank test over cases.

    Args:
        pairs: scores of the same cases, seeds averaged.
        models: baseline and candidate.
        higher_is_better: of the metric.
    """
    test = paired_wilcoxon(pairs.x, pairs.y)
    found: dict[str, Any] = {
        "n": test.n,
        "capped": pairs.capped,
        "dropped": pairs.dropped + test.n_dropped,
    }
    for name, values in (("baseline", pairs.y_capped), ("candidate", pairs.x_capped)):
        finite = values[~np.isnan(values)]
        found[f"{name}_mean"] = finite.mean() if len(finite) else np.nan
        found[f"{name}_sd"] = finite.std(ddof=1) if len(finite) > 1 else np.nan
    difference = found["candidate_mean"] - found["baseline_mean"]
    change = mean_difference(pairs.x_capped, pairs.y_capped)
    shift = hodges_lehmann(pairs.x_capped, pairs.y_capped)
    return found | {
        "difference": difference,
        "difference_low": change.low,
        "difference_high": change.high,
        "change_percent": 100 * difference / found["baseline_mean"]
        if found["baseline_mean"]
        else np.nan,
        "shift": shift.estimate,
        "shift_low": shift.low,
        "shift_high": shift.high,
        "rank_biserial": rank_biserial(pairs.x, pairs.y),
        "better": towards(difference, models, higher_is_better),
        "favours_cases": towards(test.w_plus - test.w_minus, models, higher_is_better),
        "p_cases": test.p,
        "p_floor": test.p_floor,
        "n_zero": test.n_zero,
        "n_tied": test.n_tied,
        "cases_test": test.method,
        "verdict": NOT_TESTABLE if not test.p_floor < ALPHA else "",
    }


def equivalence(low: float, high: float, margin: float) -> str:
    """Where an interval of the methods lies against a margin: `equivalent`, `above`, `below` or
    `undecided`.
    """
    return _EQUIVALENCE.get(place(low, high, margin), "undecided")


def of_methods(
    differences: Differences,
    models: tuple[str, str],
    *,
    higher_is_better: bool,
    margin: float | None = None,
    variance: Variance = "independent",
) -> dict[str, Any]:
    """Columns of the difference between the methods, its test, its components and its margin.

    Args:
        differences: of all runs and cases.
        models: baseline and candidate.
        higher_is_better: of the metric.
        margin: the largest difference without practical importance, if the spec names one.
        variance: the comparison's setting.
    """
    if not len(differences.values):
        return {"method": f"{NOT_TESTABLE}: no case applies"}
    values, fold, training = differences.values, differences.fold, differences.training
    found = method_difference(
        values,
        fold=fold,
        training=training,
        case=differences.case,
        repeat=differences.repeat,
        variance=variance,
    )
    runs = wilcoxon_over_runs(values, fold=fold, training=training)
    columns = {
        "folds": found.folds,
        "trainings": found.trainings,
        "method_difference": found.estimate,
        "method_se": found.se,
        "method_low": found.low,
        "method_high": found.high,
        "method_df": found.df,
        "method": found.method,
        **{f"component_{name}": found.components[name] for name in COMPONENTS},
        "favours": towards(found.estimate, models, higher_is_better) if found.testable else "",
        "p_methods": found.p,
        "p_runs": runs.p,
        "p_runs_floor": runs.p_floor,
        "detectable": _detectable(found, differences, variance),
    }
    if margin:
        place_of = equivalence(found.low, found.high, margin)
        probable = practical(found, margin)
        columns |= {
            "margin": margin,
            "equivalence": place_of if found.testable else "",
            "probability_below": probable.below,
            "probability_within": probable.within,
            "probability_beyond": probable.beyond,
        }
    return columns


def _detectable(found: MethodDifference, of: Differences, variance: Variance) -> float:
    """The smallest difference that this design finds with 80 % power; NaN where none can be told:
    without a test, or where the differences do not vary.
    """
    components = dict(found.components)
    if np.isnan(components["fold"]):  # a fold with one case: its component is part of the rest
        components["fold"] = 0.0
    if not found.testable or not np.nansum(list(components.values())) > 0:
        return np.nan
    repeats = len(set(of.repeat)) if of.repeat else 1
    if found.folds == repeats > 1:  # trainings that all test the same cases: no folds to plan with
        return np.nan
    return detectable(
        components,
        folds=max(round(found.folds / repeats), 2),
        seeds=of.seeds,
        cases=found.cases,
        repeats=repeats,
        power=POWER,
        variance=variance,
    )


def towards(gain: float, models: tuple[str, str], higher_is_better: bool) -> str:
    """The model that a gain in the metric, candidate over baseline, speaks for; empty for none."""
    baseline, candidate = models
    gain = gain if higher_is_better else -gain
    return candidate if gain > 0 else baseline if gain < 0 else ""
