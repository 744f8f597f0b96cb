"""What a design can see: the power of `method_difference`, and the smallest difference for a power.

For balanced designs of normal effects. The mean is normal around the true difference; the squares
between folds are a chi-square with K - 1 degrees of freedom; and what cases and trainings within
folds say of the mean's variance is one with Satterthwaite's. Given both, the test's critical value
is known; power is the mean, over both, of the probability to exceed it. Where training sets matter
this is the noncentral t with K - 1 degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr, stdtrit

from reports.statistics.methods import (
    COMPONENTS,
    Variance,
    relaxation,
    shared_training_factor,
)
from reports.statistics.wilcoxon import Floats

_FOLD_POINTS, _WITHIN_POINTS = 240, 24  # of the two chi-squares, at equal probabilities


def power(
    difference: float,
    components: Mapping[str, float],
    *,
    folds: int,
    seeds: int,
    cases: float,
    level: float = 0.95,
    variance: Variance = "independent",
    repeats: int = 1,
) -> float:
    """The probability that `method_difference` finds p < 1 - level where this is the difference.

    Args:
        difference: true mean difference of the two methods.
        components: variances of fold, training, case and rest, as `method_difference` gives them.
            What a pilot could not tell apart (NaN) stays where more seeds do not make it smaller.
        folds: training sets of one cross-validation; with one, nothing can be found.
        seeds: trainings of each model on each training set.
        cases: of all folds together.
        level: of the interval.
        variance: the setting of `method_difference`.
        repeats: cross-validations of the same cases, each with training sets of its own.

    Raises:
        ValueError: a component is negative, all are 0, fold is NaN, or the design is impossible.
    """
    if folds == 1:
        return 0.0
    design = (components, folds, seeds, cases, level, variance)
    deviation, critical = _repeated(*design, repeats) if repeats > 1 else _critical_values(*design)
    return _exceeding(difference / deviation, critical)


def detectable(
    components: Mapping[str, float],
    *,
    folds: int,
    seeds: int,
    cases: float,
    power: float = 0.8,
    level: float = 0.95,
    variance: Variance = "independent",
    repeats: int = 1,
) -> float:
    """The smallest difference that `method_difference` finds with this power.

    Infinite with one fold. Arguments as in `power`.

    Raises:
        ValueError: as `power`, and for a power that does not lie between 1 - level and 1.
    """
    if not 1 - level < power < 1:
        raise ValueError(f"power must lie between {1 - level:g} and 1, but is {power}")
    if folds == 1:
        return math.inf
    design = (components, folds, seeds, cases, level, variance)
    deviation, critical = _repeated(*design, repeats) if repeats > 1 else _critical_values(*design)
    top = float(critical.max()) + 10
    return deviation * float(brentq(lambda shift: _exceeding(shift, critical) - power, 0, top))


def _exceeding(shift: float, critical: Floats) -> float:
    return float((ndtr(shift - critical) + ndtr(-shift - critical)).mean())


def _critical_values(
    components: Mapping[str, float],
    folds: int,
    seeds: int,
    cases: float,
    level: float,
    variance: Variance,
) -> tuple[float, Floats]:
    """The mean's standard deviation, and the critical values of the mean in units of it."""
    fold, training, case, rest = _variances(components, seeds)
    if folds < 1 or seeds < 1 or cases < folds or not 0 < level < 1:
        raise ValueError(
            "a design needs a fold, a seed and a case in every fold, and a level between 0 and 1, "
            f"but has {folds} folds, {seeds} seeds, {cases} cases and level {level}"
        )
    each = cases / folds
    # Expected mean squares between folds, and those that the values within folds expect there.
    by_case, by_training = rest + seeds * case, rest + each * training
    within = by_case + (by_training - rest if seeds > 1 else 0.0)
    between = within + each * seeds * fold
    if within <= 0:
        raise ValueError(f"power needs variances above 0, but has {dict(components)}")
    spread = by_case**2 / (folds * (each - 1)) if each > 1 else math.inf
    if seeds > 1 and each > 1:
        spread += by_training**2 / (folds * (seeds - 1))
        spread += rest**2 / (folds * (seeds - 1) * (each - 1))
    within_df = within**2 / spread

    tail = (1 - level) / 2
    fold_square = _mean_square(folds - 1, _FOLD_POINTS)[:, None]
    by_folds = -stdtrit(folds - 1, tail) * np.sqrt(fold_square)
    corrected = variance == "nadeau-bengio"
    deviation = math.sqrt(between / (cases * seeds))
    if within_df < 1:
        return deviation, by_folds * (shared_training_factor(folds) if corrected else 1.0)
    within_square = within / between * _mean_square(within_df, _WITHIN_POINTS)
    pooled_df = within_df + folds - 1
    pooled_square = (within_df * within_square + (folds - 1) * fold_square) / pooled_df
    by_components = -stdtrit(pooled_df, tail) * np.sqrt(pooled_square)
    relaxed = -stdtrit(folds - 1, tail * relaxation(folds)) * np.sqrt(fold_square)
    if corrected:
        by_folds = relaxed = by_folds * shared_training_factor(folds)
    pooled = np.maximum(relaxed, by_components)
    return deviation, np.where(fold_square > within_square, by_folds, pooled)


def _repeated(
    components: Mapping[str, float],
    folds: int,
    seeds: int,
    cases: float,
    level: float,
    variance: Variance,
    repeats: int,
) -> tuple[float, Floats]:
    """As `_critical_values`, for several cross-validations of the same cases, roughly.

    A fold's mean varies by `own` (its training set, its trainings, the rest), which every fold
    draws anew, and by its cases, whose mean over a cross-validation is the same in all of them.
    """
    parts = {name: float(components[name]) for name in COMPONENTS}
    if math.isnan(parts["fold"]) or folds < 2 or seeds < 1 or cases < folds or not 0 < level < 1:
        _variances(components, seeds)
        raise ValueError(
            f"a repeated cross-validation of {folds} folds, {seeds} seeds and {cases} cases at "
            f"level {level} is no design"
        )
    fold, training, case, rest = (0.0 if math.isnan(one) else one for one in parts.values())
    each, number = cases / folds, folds * repeats
    within = training / seeds + rest / (each * seeds)
    if seeds == 1:  # trainings and training sets are one
        fold, within = fold + training, rest / each
    own, of_cases = fold + within, case / each
    if own + of_cases <= 0:
        raise ValueError(f"power needs variances above 0, but has {parts}")
    total = own / number + case / cases
    deviation, share = math.sqrt(total), (total - fold / number) / total
    # Contrasts of folds: within a cross-validation, where the cases of its test sets widen what is
    # not told by the other repeats, and between two.
    contrasts, between = repeats * (folds - 1), repeats - 1
    own = max(own, 1e-9 * (own + of_cases))
    weight = (1 / repeats) / (own + repeats * of_cases) + (1 - 1 / repeats) / own
    fold_df = (contrasts * weight + between / own) ** 2 / (contrasts * weight**2 + between / own**2)
    case_part, own_part = case / cases, within / number
    spread = case_part**2 / max(cases - folds, 1)
    spread += own_part**2 / (number * max(seeds - 1, each - 1 if seeds == 1 else 1))
    within_df = (case_part + own_part) ** 2 / spread
    tail, drawn = (1 - level) / 2, _mean_square(fold_df, _FOLD_POINTS)[:, None]
    fold_square = (own / number * drawn + case / cases) / total
    by_folds = -stdtrit(fold_df, tail) * np.sqrt(fold_square)
    relaxed = -stdtrit(fold_df, tail * relaxation(number)) * np.sqrt(share * drawn)
    if variance == "nadeau-bengio":
        once = own / folds + case / cases
        by_folds = relaxed = by_folds * math.sqrt(1 + folds / (folds - 1) * once / total)
    within_square = share * _mean_square(within_df, _WITHIN_POINTS)
    pooled_df = within_df + fold_df
    pooled_square = (within_df * within_square + fold_df * share * drawn) / pooled_df
    pooled = np.maximum(relaxed, -stdtrit(pooled_df, tail) * np.sqrt(pooled_square))
    return deviation, np.where(drawn > within_square / share, by_folds, pooled)


def _mean_square(df: float, points: int) -> Floats:
    """Quantiles of a chi-square over its degrees of freedom, at equal probabilities."""
    return chdtri(df, (np.arange(points) + 0.5) / points) / df


def _variances(components: Mapping[str, float], seeds: int) -> tuple[float, float, float, float]:
    fold, training, case, rest = (float(components[name]) for name in COMPONENTS)
    if math.isnan(fold):
        raise ValueError(
            "one training set says nothing of others: the component of fold is not known; assume "
            "one, or take a pilot of several folds"
        )
    if math.isnan(training):
        training = 0.0  # it is part of the fold's, where seeds do not make it smaller
    if math.isnan(case):
        case, rest = rest, 0.0
    if min(fold, training, case, rest) < 0:
        raise ValueError(f"variances must not be negative, but are {dict(components)}")
    if seeds == 1:
        fold, training, case, rest = fold + training, 0.0, case + rest, 0.0
    return fold, training, case, rest
