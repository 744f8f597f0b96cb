"""Paired differences and the exact two-sided Wilcoxon signed-rank test, with ties and zeros.

Sources: F. Wilcoxon, Biometrics Bulletin 1 (1945); J. W. Pratt, JASA 54 (1959), for zeros that keep
their ranks. The null distribution is the conditional one: the observed ranks are fixed, each sign
is a fair coin. R's `coin::wilcoxsign_test(distribution = "exact")` computes the same;
`scipy.stats.wilcoxon(method="exact")` does not when there are ties or zeros.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reports.statistics.arrays import as_floats

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Zeros = Literal["pratt", "wilcox"]
Method = Literal["exact", "asymptotic"]

# 0.1 + 0.2 and 0.3 are one value: without rounding, floating point breaks true ties and moves p
DECIMALS = 9
EXACT_N = 1000
# The work of the exact test is (ranks) x (sum of ranks). 1,000 pairs without zeros set the limit: n
# up to 1,000 is exact, and so is a longer list that holds mostly zeros, where a normal
# approximation is poor.
_EXACT_WORK = EXACT_N * EXACT_N * (EXACT_N + 1)
_FEW, _OFF = 50, 0.005  # of `near_level`


@dataclass(frozen=True)
class PairedWilcoxon:
    """A two-sided signed-rank test. `w_plus` and `w_minus` are sums of (mid)ranks, not doubled."""

    n: int  # pairs used, zeros included
    n_zero: int  # pairs whose difference is 0
    n_tied: int  # non-zero differences that share their size with another one
    w_plus: float
    w_minus: float
    p: float
    p_floor: float  # smallest two-sided p that any signs of these non-zero differences could give
    method: Method
    zeros: Zeros = "pratt"
    n_dropped: int = 0  # pairs with NaN on both sides


@dataclass(frozen=True, eq=False)
class SignedRankNull:
    """Distribution of the sum of the positive ranks under fair signs, held as two independent
    halves.

    The ranks are dealt alternately to two groups. `points` is P(sum = s) of the first, `cumulative`
    P(sum <= s) of the second, both on the lattice of step `unit`; one dot product then gives a tail
    of the whole sum. This costs half of one recursion over all ranks.
    """

    unit: int
    points: Floats
    cumulative: Floats

    @classmethod
    def of(cls, ranks: Integers) -> SignedRankNull:
        """Build from positive integer ranks [m] (midranks are doubled first)."""
        unit = int(np.gcd.reduce(ranks)) if ranks.size else 1
        ordered = np.sort(ranks // unit)
        points, other = _point_probabilities(ordered[::2]), _point_probabilities(ordered[1::2])
        return cls(unit, points, np.cumsum(other))

    def cdf(self, w: int) -> float:
        """P(sum of positive ranks <= w). Positive terms only, so tiny tails keep their relative
        accuracy.
        """
        w //= self.unit
        if w < 0:
            return 0.0
        last, other_last = min(w, len(self.points) - 1), len(self.cumulative) - 1
        first = max(w - other_last, 0)  # below it, the second half cannot exceed what is left of w
        free = float(self.points[:first].sum())
        if first > last:
            return free
        shared = self.points[first : last + 1] @ self.cumulative[w - last : w - first + 1][::-1]
        return free + float(shared)


def _point_probabilities(ranks: Integers) -> Floats:
    """P(sum = s), s = 0 .. total, of ascending integer ranks that each count with probability 1/2.

    The recursion p(s) <- p(s) + p(s - rank) starts from 2^-m instead of 1, so it cannot overflow
    and needs no scaling; 2^-m is a normal float64 for the m <= 500 of one half. The distribution is
    symmetric, so only its lower half is computed.
    """
    total = int(ranks.sum())
    p = np.zeros(total // 2 + 1)
    p[0] = 2.0 ** -len(ranks)
    scratch = np.empty_like(p)
    known = 0  # the largest sum so far
    for rank in ranks.tolist():
        middle, mirrored = (known + rank) // 2, known // 2 + 1
        end = min(middle, known)
        p[mirrored : end + 1] = p[known - end : known - mirrored + 1][::-1]
        if rank <= middle:
            shifted = scratch[: middle + 1 - rank]
            np.copyto(shifted, p[: middle + 1 - rank])
            p[rank : middle + 1] += shifted
        known += rank
    return np.concatenate([p, p[: total - total // 2][::-1]])


@lru_cache(maxsize=32)
def untied_null(n: int) -> SignedRankNull:
    """Null distribution for the ranks 1 .. n."""
    return SignedRankNull.of(np.arange(1, n + 1))


def exact_is_feasible(ranks: Integers) -> bool:
    """Whether doubled ranks [m] are within the work of 1,000 pairs without zeros."""
    return len(ranks) * int(ranks.sum()) <= _EXACT_WORK


def paired_differences(x: ArrayLike, y: ArrayLike) -> tuple[Floats, int]:
    """x - y rounded to 1e-9, and the number of dropped pairs.

    x, y: [n], the same cases in the same order. Two equal infinities (both models missed) differ by
    0; a pair with NaN on both sides (not applicable) is dropped and counted.

    Raises ValueError for arrays that are not one-dimensional and equally long, and for NaN on one
    side only.
    """
    a, b = as_floats(x), as_floats(y)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(
            f"x and y must be one-dimensional and equally long, but have shapes {a.shape} and "
            f"{b.shape}; pair them by case id first"
        )
    missing = np.isnan(a)
    _refuse_half_missing(missing, np.isnan(b))
    a, b = a[~missing], b[~missing]
    with np.errstate(invalid="ignore", over="ignore"):
        d = np.where(a == b, 0.0, a - b)
    return rounded(d), int(missing.sum())


def rounded(values: Floats) -> Floats:
    """Values to 1e-9. From 2^23 on, float64 values are further apart than that and stay as they
    are.
    """
    with np.errstate(over="ignore"):
        return np.where(np.abs(values) < 2.0**23, np.round(values, DECIMALS), values)


def _refuse_half_missing(x_missing: NDArray[np.bool_], y_missing: NDArray[np.bool_]) -> None:
    sides = [
        f"{side} is NaN at {positions(missing & ~other)}"
        for side, missing, other in (("x", x_missing, y_missing), ("y", y_missing, x_missing))
        if (missing & ~other).any()
    ]
    if sides:
        raise ValueError(
            f"NaN on one side of a pair: {'; '.join(sides)} (positions from 0). A value that does "
            "not apply must be NaN for both; a missed structure is 0 or inf, not NaN"
        )


def positions(where: NDArray[np.bool_], shown: int = 20) -> str:
    """The first true positions [n], for an error message."""
    found = np.flatnonzero(where).tolist()
    rest = f" and {len(found) - shown} more" if len(found) > shown else ""
    return f"{found[:shown]}{rest}"


def doubled_midranks(values: Floats) -> tuple[Integers, Integers]:
    """Twice the midranks of values [n] (whole numbers even with ties), and how many values share
    each.
    """
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    doubled = 2 * np.cumsum(counts) - counts + 1
    return doubled[group].astype(np.int64), counts[group].astype(np.int64)


def signed_ranks(d: Floats, zeros: Zeros) -> tuple[Integers, Integers]:
    """Doubled midranks of |d| with the sign of d, and the sizes of their ties, for the non-zero
    differences.

    "pratt": zeros are ranked too, lowest, and then left out; "wilcox": they are left out first.
    """
    if zeros not in get_args(Zeros):
        raise ValueError(f"zeros must be one of {list(get_args(Zeros))}, but is {zeros!r}")
    if zeros == "wilcox":
        d = d[d != 0]
    ranks, sizes = doubled_midranks(np.abs(d))
    nonzero = d != 0
    return np.where(d > 0, ranks, -ranks)[nonzero], sizes[nonzero]


def paired_wilcoxon(x: ArrayLike, y: ArrayLike, *, zeros: Zeros = "pratt") -> PairedWilcoxon:
    """Two-sided Wilcoxon signed-rank test that x and y [n] differ by nothing.

    Always gives a p, 1 where no pair differs; a table decides by `p_floor` whether it means
    anything. Exact up to 1,000 pairs (and beyond, while zeros keep the work as small); then the
    normal approximation with the variance of the actual midranks (the tie and zero correction) and
    a continuity correction of 1/2, and `method` says so. An infinite difference ranks above every
    finite one.

    Raises ValueError as `paired_differences` does, and for an unknown `zeros`.
    """
    d, dropped = paired_differences(x, y)
    signed, sizes = signed_ranks(d, zeros)
    ranks = np.abs(signed)
    plus, minus = int(ranks[signed > 0].sum()), int(ranks[signed < 0].sum())
    if exact_is_feasible(ranks):
        method: Method = "exact"
        p = min(1.0, 2.0 * SignedRankNull.of(ranks).cdf(min(plus, minus)))
        floor = min(1.0, 2.0 ** (1 - len(ranks)))
    else:
        method = "asymptotic"
        p, floor = (_normal_p(ranks, smaller) for smaller in (min(plus, minus), 0))
    return PairedWilcoxon(
        n=len(d),
        n_zero=len(d) - len(ranks),
        n_tied=int((sizes > 1).sum()),
        w_plus=plus / 2,
        w_minus=minus / 2,
        p=p,
        p_floor=floor,
        method=method,
        zeros=zeros,
        n_dropped=dropped,
    )


def _normal_p(ranks: Integers, smaller: int) -> float:
    """Two-sided p of the smaller doubled rank sum: mean sum(r)/2, variance sum(r^2)/4."""
    exact = ranks.astype(np.float64)
    distance = max(float(exact.sum()) / 2 - smaller - 1, 0.0)  # 1 is the 1/2 of undoubled ranks
    return math.erfc(distance / math.sqrt(float(exact @ exact) / 2))


def near_level(d: Floats, *, level: float = 0.05) -> float:
    """Two-sided p of signed-rank tests that are only counted: on the same side of `level` as
    `paired_wilcoxon`'s, and equal to it for few pairs and near the level.

    Elsewhere it is the normal approximation, which from `_FEW` differences on is off by less than
    `_OFF` there (its next term is 0.002 or less). NaN where no signs reach the level.

    Args:
        d: [n] differences, rounded, without NaN.
        level: between 0.01 and 0.1.
    """
    signed, _ = signed_ranks(d, "pratt")
    ranks = np.abs(signed)
    if 2.0 ** (1 - len(ranks)) >= level:
        return math.nan
    plus = int(ranks[signed > 0].sum())
    smaller = min(plus, int(ranks.sum()) - plus)
    p = _normal_p(ranks, smaller)
    clear = len(ranks) > _FEW and abs(p - level) > _OFF
    if clear or not exact_is_feasible(ranks):
        return p
    return min(1.0, 2.0 * SignedRankNull.of(ranks).cdf(smaller))
