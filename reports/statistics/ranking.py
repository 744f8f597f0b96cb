"""Several models at once: Friedman's test, pairwise tests and critical differences.

`scores` is [n, k]: a row per case (or fold, or task) and a column per model, compared after
rounding to 1e-9. A row that is NaN for every model is left out and counted; NaN for some models
only is an error, because every model must have seen the same cases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, fdtrc

from reports.statistics.adjustment import adjust
from reports.statistics.arrays import as_floats
from reports.statistics.wilcoxon import (
    Floats,
    Integers,
    PairedWilcoxon,
    Zeros,
    paired_wilcoxon,
    positions,
    rounded,
)


@dataclass(frozen=True)
class Friedman:
    """Friedman's test, with the correction for ties, and Iman and Davenport's F of the same
    statistic.
    """

    n: int
    k: int
    mean_ranks: tuple[float, ...]  # 1 is best
    statistic: float  # chi-square with k - 1 degrees of freedom
    p: float
    f_statistic: float  # F with k - 1 and (k - 1)(n - 1) degrees of freedom
    f_p: float
    n_dropped: int = 0


@dataclass(frozen=True, eq=False)
class PairwiseWilcoxon:
    """All k (k - 1) / 2 paired tests of k models, as one family."""

    pairs: tuple[tuple[int, int], ...]
    tests: tuple[PairedWilcoxon, ...]
    p_holm: Floats  # [pairs]
    matrix: Floats  # [k, k], p_holm of each pair, NaN on the diagonal


def friedman(scores: ArrayLike, *, higher_is_better: bool = True) -> Friedman:
    """Do k models differ over n cases (or tasks)? Two rows and two models at least.

    M. Friedman, JASA 32 (1937); R. L. Iman and J. M. Davenport, Commun. Stat. A 9 (1980), whose F
    is the less conservative for few rows (J. Demsar, JMLR 7 (2006)). Both p are approximations;
    that of F is never below the smallest that n rows allow, k! to the power of 1 - n, where it
    would be 0. p is 1 where all models tie everywhere.

    Raises ValueError for scores that are not [n >= 2, k >= 2] and for NaN on some models of a row.
    """
    table, _, dropped = complete_rows(scores)
    n, k = table.shape
    if n < 2:
        raise ValueError(f"Friedman's test needs at least 2 rows without NaN, but has {n}")
    ranks = midranks(-table if higher_is_better else table)
    centred = ranks - (k + 1) / 2
    between, within = float((centred.sum(axis=0) ** 2).sum()), float((centred**2).sum())
    statistic = (k - 1) * between / within if within else 0.0
    rest = n * (k - 1) - statistic
    f_statistic = (n - 1) * statistic / rest if rest > 0 else math.inf
    least = math.exp((1 - n) * math.lgamma(k + 1))
    return Friedman(
        n=n,
        k=k,
        mean_ranks=tuple(ranks.mean(axis=0).tolist()),
        statistic=statistic,
        p=float(chdtrc(k - 1, statistic)),
        f_statistic=f_statistic,
        f_p=max(float(fdtrc(k - 1, (k - 1) * (n - 1), f_statistic)), least),
        n_dropped=dropped,
    )


def pairwise_wilcoxon(scores: ArrayLike, *, zeros: Zeros = "pratt") -> PairwiseWilcoxon:
    """`paired_wilcoxon` of every pair of columns, all over the same rows, adjusted by Holm as one
    family.

    k models make k (k - 1) / 2 tests, and n rows a smallest p of 2^(1 - n): over 10 tasks no pair
    of 15 models can come below 0.05 after Holm (105 x 0.002). Test over cases, or use
    `critical_difference`.

    Raises ValueError as `friedman` does for the shape and NaN.
    """
    table, _, _ = complete_rows(scores)
    k = table.shape[1]
    pairs = tuple(combinations(range(k), 2))
    tests = tuple(paired_wilcoxon(table[:, i], table[:, j], zeros=zeros) for i, j in pairs)
    p_holm = adjust([test.p for test in tests], "holm")
    matrix = np.full((k, k), np.nan)
    for (i, j), p in zip(pairs, p_holm, strict=True):
        matrix[i, j] = matrix[j, i] = p
    return PairwiseWilcoxon(pairs, tests, p_holm, matrix)


def critical_difference(n: int, k: int, *, alpha: float = 0.05) -> float:
    """Nemenyi's critical difference of the mean ranks of k models over n rows (Demsar 2006, sect.
    3.2.2).
    """
    if n < 2 or k < 2 or not 0 < alpha < 1:
        raise ValueError(
            f"a critical difference needs n >= 2, k >= 2 and 0 < alpha < 1, but has {n}, {k}, "
            f"{alpha}"
        )
    from scipy.stats import studentized_range  # a second to import, and only this needs it

    return float(studentized_range.ppf(1 - alpha, k, np.inf)) * math.sqrt(k * (k + 1) / (12 * n))


def cliques(mean_ranks: ArrayLike, differs: ArrayLike) -> list[tuple[int, ...]]:
    """The bars of a critical-difference diagram: longest runs of two or more models, neighbours by
    mean rank [k], no two of which differ. Each run lists its models from best to worst.

    differs: [k, k] bool, symmetric: `pairwise_wilcoxon(...).matrix < alpha`, or mean ranks further
    apart than `critical_difference`.
    """
    distinct = np.asarray(differs, dtype=bool)
    order = np.argsort(np.asarray(mean_ranks, dtype=np.float64), kind="stable").tolist()
    runs: list[tuple[int, ...]] = []
    reached = 0
    for start in range(len(order)):
        end = start + 1
        while end < len(order) and not distinct[order[end], order[start:end]].any():
            end += 1
        if end > reached and end - start > 1:
            runs.append(tuple(order[start:end]))
        reached = max(reached, end)
    return runs


def midranks(cost: Floats) -> Floats:
    """Rank of each value [n, k] in its row: 1 is the smallest, ties share the mean rank."""
    mine, other = cost[:, :, None], cost[:, None, :]
    ranks: Floats = (other < mine).sum(axis=2) + ((other == mine).sum(axis=2) + 1) / 2
    return ranks


def complete_rows(scores: ArrayLike, least: int = 2) -> tuple[Floats, NDArray[np.bool_], int]:
    """The rows without NaN, which rows they are, and how many were left out."""
    table = as_floats(scores)
    if table.ndim != 2 or table.shape[1] < least:
        raise ValueError(
            f"scores must be [cases, models] with {least} models at least, but have shape "
            f"{table.shape}"
        )
    missing: Integers = np.isnan(table).sum(axis=1)
    partly = (missing > 0) & (missing < table.shape[1])
    if partly.any():
        raise ValueError(
            f"rows {positions(partly)} (from 0) are NaN for some models only; all models must have "
            "the same cases, and a value that does not apply must be NaN for all"
        )
    kept = missing == 0
    return rounded(table[kept]), kept, int((~kept).sum())
