"""Differences against a margin of practical equivalence: where an interval lies, and how probable.

A margin m > 0 in the metric's unit makes three regions of a difference: below -m, within [-m, m]
and beyond m.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from numpy.typing import ArrayLike
from scipy.special import stdtr

from reports.statistics.arrays import as_floats
from reports.statistics.methods import MethodDifference

Place = Literal["below", "within", "beyond", "undecided", "not testable"]


@dataclass(frozen=True)
class Practical:
    """Probabilities that the difference lies below -margin, within the margins, beyond +margin."""

    below: float
    within: float
    beyond: float


def place(low: float, high: float, margin: float) -> Place:
    """The region that holds all of the interval [low, high]; "undecided" if none does.

    With a 95 % interval "within" is two one-sided tests at 2.5 % (D. J. Schuirmann, J.
    Pharmacokinet. Biopharm. 15 (1987)). Without an interval (NaN) it is "not testable".

    Raises ValueError for a margin that is not positive and finite.
    """
    _check(margin)
    if math.isnan(low) or math.isnan(high):
        return "not testable"
    if low >= -margin and high <= margin:
        return "within"
    if low > margin:
        return "beyond"
    return "below" if high < -margin else "undecided"


def practical(difference: MethodDifference, margin: float) -> Practical:
    """From the t distribution behind the method's interval, read as a posterior (flat prior).

    NaN where the difference is not testable.

    Raises ValueError for a margin that is not positive and finite.
    """
    _check(margin)
    if not difference.testable:
        return Practical(math.nan, math.nan, math.nan)
    return _from_t(difference.estimate, difference.scale, difference.df, margin)


def correlated_t(differences: ArrayLike, *, margin: float, repeats: int = 1) -> Practical:
    """The Bayesian correlated t-test over the folds of one or several cross-validations.

    G. Corani and A. Benavoli, Machine Learning 100 (2015): the posterior of the mean is a t with
    n - 1 degrees of freedom around the mean of the differences and variance
    (1 / n + 1 / (K - 1)) s^2, where K = n / repeats folds share their training cases (C. Nadeau and
    Y. Bengio). baycomp computes the same.

    Args:
        differences: [n] mean differences of the folds, seeds averaged, all repeats together.
        margin: in the unit of the differences.
        repeats: cross-validations.

    Raises:
        ValueError: margin is not positive and finite, or there are less than two folds a repeat.
    """
    _check(margin)
    d = as_floats(differences)
    if d.ndim != 1 or repeats < 1 or d.size % repeats or d.size < 2 * repeats:
        raise ValueError(
            f"differences must hold two folds or more for each repeat, but have shape {d.shape} "
            f"for {repeats} repeats"
        )
    share = 1 / d.size + 1 / (d.size / repeats - 1)
    return _from_t(float(d.mean()), math.sqrt(share * float(d.var(ddof=1))), d.size - 1.0, margin)


def _from_t(center: float, scale: float, df: float, margin: float) -> Practical:
    if scale == 0:
        below, beyond = float(center < -margin), float(center > margin)
    else:
        below = float(stdtr(df, (-margin - center) / scale))
        beyond = float(stdtr(df, (center - margin) / scale))
    return Practical(below, max(1 - below - beyond, 0.0), beyond)


def _check(margin: float) -> None:
    if not 0 < margin < math.inf:
        raise ValueError(f"margin must be positive and finite, but is {margin}")
