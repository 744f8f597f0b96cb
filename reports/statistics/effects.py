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

from reports.statistics.wilcoxon import (
    EXACT_N,
    Floats,
    Zeros,
    paired_differences,
    signed_ranks,
    untied_null,
)

_NORMAL = NormalDist()
_DRAWS_AT_ONCE = (
    2**17
)  # bootstrap indices in memory at a time; part of the random stream, so a fixed number


@dataclass(frozen=True)
class Interval:
    """An estimate with a two-sided confidence interval, both ends included.

    method: "exact" or "asymptotic" (inverted signed-rank test), "bca", or "unattainable": so few
    pairs that no finite interval has this level; low and high are then infinite.
    """

    estimate: float
    low: float
    high: float
    level: float
    n: int
    method: Literal["exact", "asymptotic", "bca", "unattainable"]


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


def mean_difference(
    x: ArrayLike, y: ArrayLike, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Mean of x - y with a bias-corrected and accelerated (BCa) bootstrap interval over the pairs.

    B. Efron, JASA 82 (1987); the acceleration is the jackknife's, which has a closed form for a
    mean. The same seed gives the same interval. Two pairs or more are needed; equal differences
    give an interval of no width.

    Raises ValueError as `paired_differences` does, for infinite values, a level outside (0, 1) and
    resamples < 1.
    """
    d = _finite_differences(x, y)
    n, tail = len(d), _tail(level)
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, but is {resamples}")
    if n < 2:
        return _unattainable(float(d.mean()) if n else math.nan, level, n)
    estimate = float(d.mean())
    residuals = d - estimate
    spread = float(residuals @ residuals)
    if np.ptp(d) == 0:
        return Interval(estimate, estimate, estimate, level, n, "bca")
    means = _bootstrap_means(d, resamples, seed)
    # Means of the same values in another order differ by rounding only, and must count as equal.
    distance = np.round((means - estimate) / math.sqrt(spread), 12)
    below = (np.count_nonzero(distance < 0) + np.count_nonzero(distance == 0) / 2) / resamples
    bias = _NORMAL.inv_cdf(min(max(below, 0.5 / resamples), 1 - 0.5 / resamples))
    acceleration = float((residuals**3).sum()) / (6 * spread**1.5)
    shifted = [bias + _NORMAL.inv_cdf(q) for q in (tail, 1 - tail)]
    quantiles = [_NORMAL.cdf(bias + z / max(1 - acceleration * z, 1e-12)) for z in shifted]
    low, high = np.quantile(means, quantiles).tolist()
    return Interval(estimate, low, high, level, n, "bca")


def _bootstrap_means(d: Floats, resamples: int, seed: int) -> Floats:
    """Means [resamples] of d [n] drawn n times with replacement."""
    rng = np.random.default_rng(seed)
    rows = max(_DRAWS_AT_ONCE // len(d), 1)
    means = np.empty(resamples)
    for start in range(0, resamples, rows):
        part = means[start : start + rows]
        part[:] = d[rng.integers(0, len(d), size=(len(part), len(d)))].mean(axis=1)
    return means


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
    infinite = np.flatnonzero(
        np.isinf(np.asarray(x, dtype=np.float64)) | np.isinf(np.asarray(y, dtype=np.float64))
    )
    d, _ = paired_differences(x, y)
    if infinite.size:
        raise ValueError(
            f"{infinite.size} pairs hold infinite values, the first at position {infinite[0]}; a "
            "mean or a shift needs capped values (a missed structure's HD95 is capped at the "
            "volume's diagonal)"
        )
    return d
