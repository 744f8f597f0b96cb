"""How large a paired difference is: effect sizes with intervals, and a region of practical
equivalence.

All take x and y [n], the same cases in the same order, and work on the differences of
`paired_differences`. What uses the values and not only their ranks refuses infinities: cap them
first and print how many.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from reports.statistics.arrays import as_floats
from reports.statistics.wilcoxon import (
    EXACT_N,
    Floats,
    Zeros,
    paired_differences,
    signed_ranks,
    untied_null,
)

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Interval:
    """An estimate with a two-sided confidence interval, both ends included.

    method: "exact" or "asymptotic" (inverted signed-rank test), "t-skew" (`mean_difference`), or
    "unattainable": so few pairs that no finite interval has this level; low and high are then
    infinite.
    """

    estimate: float
    low: float
    high: float
    level: float
    n: int
    method: Literal["exact", "asymptotic", "t-skew", "unattainable"]


def rank_biserial(x: ArrayLike, y: ArrayLike, *, zeros: Zeros = "pratt") -> float:
    """Matched-pairs rank-biserial correlation (W+ - W-) / (W+ + W-), from -1 (y always larger) to
    1; 0 without non-zero differences.

    D. S. Kerby, Comprehensive Psychology 3 (2014). Uses the ranks of `paired_wilcoxon`, so
    infinities are allowed.
    """
    d, _ = paired_differences(x, y)
    signed, _ = signed_ranks(d, zeros)
    total = int(np.abs(signed).sum())
    return int(signed.sum()) / total if total else 0.0


def hodges_lehmann(x: ArrayLike, y: ArrayLike, *, level: float = 0.95) -> Interval:
    """Shift of x against y: the median of the n (n + 1) / 2 Walsh averages, with the inverted
    signed-rank test.

    J. L. Hodges and E. L. Lehmann, Ann. Math. Statist. 34 (1963). The interval runs from the k-th
    smallest to the k-th largest Walsh average, with the largest k whose two tails stay within 1 -
    level; exact up to n = 1,000, then by the normal approximation with continuity correction. With
    ties the closed interval covers at least as often (G. E. Noether, JASA 62 (1967)). Takes 4 n^2
    bytes.

    Raises ValueError as `paired_differences` does, for infinite values, and for a level outside (0,
    1).
    """
    d = _finite_differences(x, y)
    n, tail = len(d), _tail(level)
    if n == 0:
        return _unattainable(math.nan, level, n)
    walsh = np.concatenate([d[i:] + d[i] for i in range(n)]) / 2
    k = _exact_order(n, tail) if n <= EXACT_N else _normal_order(n, tail)
    ends = [k - 1, len(walsh) - k] if k else []
    middle = [(len(walsh) - 1) // 2, len(walsh) // 2]
    walsh.partition([*ends, *middle])
    estimate = float(walsh[middle].mean())
    if not k:
        return _unattainable(estimate, level, n)
    low, high = (float(walsh[end]) for end in ends)
    return Interval(estimate, low, high, level, n, "exact" if n <= EXACT_N else "asymptotic")


def _exact_order(n: int, tail: float) -> int:
    """Largest k with P(W <= k - 1) <= tail for the ranks 1 .. n, by bisection; 0 if there is
    none.
    """
    null = untied_null(n)
    low, high = 0, n * (n + 1) // 4 + 1
    while low < high:
        k = (low + high + 1) // 2
        low, high = (k, high) if null.cdf(k - 1) <= tail else (low, k - 1)
    return low


def _normal_order(n: int, tail: float) -> int:
    deviation = math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
    return max(math.floor(n * (n + 1) / 4 + 0.5 + _NORMAL.inv_cdf(tail) * deviation), 0)


def mean_difference(x: ArrayLike, y: ArrayLike, *, level: float = 0.95) -> Interval:
    """Mean of x - y with an interval that covers skewed differences, too: "t-skew".

    Each end is the outer one of two: Student's t, and the t corrected for skewness by the cubic
    transformation of P. Hall, JRSS B 54 (1992). Of Student's, the bootstrap-t, the BCa bootstrap
    and these two, this covers best of few and of many pairs (docs/statistics.md has the table).
    Three pairs or more are needed; equal differences give an interval of no width.

    Raises ValueError as `paired_differences` does, for infinite values and for a level outside
    (0, 1).
    """
    d = _finite_differences(x, y)
    n, tail = len(d), _tail(level)
    if n < 3:
        return _unattainable(float(d.mean()) if n else math.nan, level, n)
    estimate = float(d.mean())
    residuals = d - estimate
    variance = float(residuals @ residuals) / n
    if np.ptp(d) == 0:
        return Interval(float(d[0]), float(d[0]), float(d[0]), level, n, "t-skew")
    error = math.sqrt(variance / (n - 1))
    skewness = float((residuals**3).mean()) / variance**1.5
    quantile = -float(stdtrit(n - 1, tail))
    below = max(quantile, _unskewed(quantile, skewness, n))
    above = max(quantile, -_unskewed(-quantile, skewness, n))
    return Interval(
        estimate, estimate - below * error, estimate + above * error, level, n, "t-skew"
    )


def _unskewed(t: float, skewness: float, n: int) -> float:
    """The t-statistic of skewed values that Hall's transformation carries to t."""
    k = skewness / math.sqrt(n)
    if abs(k) < 1e-6:  # its limit, without the cancellation
        return t
    return 3 / k * (math.cbrt(1 + k * (t - k / 6)) - 1)


Verdict = Literal["equivalent", "above", "below", "undecided"]


def equivalence(interval: Interval, margin: float) -> Verdict:
    """Where an interval lies against the region of practical equivalence [-margin, margin].

    "equivalent": inside; "above" or "below": wholly outside, x is larger or smaller by more than
    the margin; "undecided": it holds values of both kinds. With a 95 % interval "equivalent" is two
    one-sided tests at
    2.5 % (D. J. Schuirmann, J. Pharmacokinet. Biopharm. 15 (1987)); give a 90 % one for the usual 5
      %.

    Raises ValueError for a margin that is not positive and finite.
    """
    if not 0 < margin < math.inf:
        raise ValueError(f"margin must be positive and finite, but is {margin}")
    if interval.low >= -margin and interval.high <= margin:
        return "equivalent"
    if interval.low > margin:
        return "above"
    return "below" if interval.high < -margin else "undecided"


def _tail(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, such as 0.95, but is {level}")
    return (1 - level) / 2


def _unattainable(estimate: float, level: float, n: int) -> Interval:
    return Interval(estimate, -math.inf, math.inf, level, n, "unattainable")


def _finite_differences(x: ArrayLike, y: ArrayLike) -> Floats:
    infinite = np.flatnonzero(np.isinf(as_floats(x)) | np.isinf(as_floats(y)))
    d, _ = paired_differences(x, y)
    if infinite.size:
        raise ValueError(
            f"{infinite.size} pairs hold infinite values, the first at position {infinite[0]}; a "
            "mean or a shift needs capped values (a missed structure's HD95 is capped at the "
            "volume's diagonal)"
        )
    return d
