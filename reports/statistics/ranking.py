"""Several models at once: Friedman's test, pairwise tests, critical differences and how stable a
ranking is.

`scores` is [n, k]: a row per case (or task) and a column per model, compared after rounding to
1e-9. A row that is NaN for every model is left out and counted; NaN for some models only is an
error, because every model must have seen the same cases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

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


@dataclass(frozen=True, eq=False)
class RankingStability:
    """A ranking and what becomes of it when the cases are drawn anew."""

    ranks: Integers  # [k], 1 is best, ties share the better rank
    low: Floats  # [k], bounds of each model's rank at the given level
    high: Floats
    frequency: Floats  # [k, k], share of the resamples in which model i has rank j + 1
    tau: Floats  # [resamples], Kendall's tau-b of each resampled ranking with the observed one
    n_dropped: int = 0


def friedman(scores: ArrayLike, *, higher_is_better: bool = True) -> Friedman:
    """Do k models differ over n cases (or tasks)? Two rows and two models at least.

    M. Friedman, JASA 32 (1937); R. L. Iman and J. M. Davenport, Commun. Stat. A 9 (1980), whose F
    is the less conservative for few rows (J. Demsar, JMLR 7 (2006)). Both p are approximations; p
    is 1 where all models tie everywhere.

    Raises ValueError for scores that are not [n >= 2, k >= 2] and for NaN on some models of a row.
    """
    table, _, dropped = _complete_rows(scores)
    n, k = table.shape
    if n < 2:
        raise ValueError(f"Friedman's test needs at least 2 rows without NaN, but has {n}")
    ranks = _midranks(-table if higher_is_better else table)
    centred = ranks - (k + 1) / 2
    between, within = float((centred.sum(axis=0) ** 2).sum()), float((centred**2).sum())
    statistic = (k - 1) * between / within if within else 0.0
    rest = n * (k - 1) - statistic
    f_statistic = (n - 1) * statistic / rest if rest > 0 else math.inf
    return Friedman(
        n=n,
        k=k,
        mean_ranks=tuple(ranks.mean(axis=0).tolist()),
        statistic=statistic,
        p=float(chdtrc(k - 1, statistic)),
        f_statistic=f_statistic,
        f_p=float(fdtrc(k - 1, (k - 1) * (n - 1), f_statistic)),
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
    table, _, _ = _complete_rows(scores)
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


Aggregation = Literal["mean", "rank"]


def ranking_stability(
    scores: ArrayLike,
    *,
    tasks: ArrayLike | None = None,
    by: Aggregation = "mean",
    higher_is_better: bool = True,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> RankingStability:
    """Rank k models, and again on bootstrap samples of the cases (M. Wiesenfarth et al., Sci. Rep.
    11 (2021), challengeR).

    by: "mean" ranks the mean scores (which must be finite: cap first), "rank" the mean of each
    case's ranks. With `tasks` [n], a label per case, cases are drawn within their task, models
    ranked in each task, and the tasks' ranks averaged, so that every task counts the same. The same
    seed gives the same result.

    Raises ValueError as `friedman` does for the shape and NaN, for infinite scores with "mean", and
    for arguments out of range.
    """
    if by not in get_args(Aggregation) or not 0 < level < 1 or resamples < 1:
        raise ValueError(
            f"by must be one of {list(get_args(Aggregation))}, level between 0 and 1 and resamples "
            f"at least 1, but they are {by!r}, {level} and {resamples}"
        )
    table, kept, dropped = _complete_rows(scores)
    labels = np.zeros(len(kept)) if tasks is None else np.asarray(tasks)
    if labels.shape != kept.shape or not len(table):
        raise ValueError(
            f"tasks must label each of the {len(kept)} rows, one at least, but has shape "
            f"{labels.shape}"
        )
    if by == "mean" and np.isinf(table).any():
        raise ValueError("scores hold infinite values: cap them, or rank with by='rank'")
    cost = -table if higher_is_better else table
    if by == "rank":
        cost = _midranks(cost)
    rng = np.random.default_rng(seed)
    observed, resampled = np.zeros((1, table.shape[1])), np.zeros((resamples, table.shape[1]))
    for label in np.unique(labels[kept]):
        group = cost[labels[kept] == label]
        observed += _midranks(rounded(group.mean(axis=0, keepdims=True)))
        resampled += _midranks(
            rounded(_draw_counts(rng, resamples, len(group)) @ group / len(group))
        )
    ranks, drawn = _shared_ranks(observed)[0], _shared_ranks(resampled)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    frequency = (drawn[:, :, None] == np.arange(1, len(ranks) + 1)).mean(axis=0)
    return RankingStability(ranks, low, high, frequency, _kendall_tau_b(drawn, ranks), dropped)


def _midranks(cost: Floats) -> Floats:
    """Rank of each value [n, k] in its row: 1 is the smallest, ties share the mean rank."""
    mine, other = cost[:, :, None], cost[:, None, :]
    ranks: Floats = (other < mine).sum(axis=2) + ((other == mine).sum(axis=2) + 1) / 2
    return ranks


def _shared_ranks(mean_ranks: Floats) -> Integers:
    """1 + the number of smaller values in the row: ties share the better rank, as in a league
    table.
    """
    ranks: Integers = 1 + (mean_ranks[:, None, :] < mean_ranks[:, :, None]).sum(axis=2)
    return ranks


def _draw_counts(rng: np.random.Generator, resamples: int, n: int) -> Floats:
    """How often each of n cases is drawn in each bootstrap sample: [resamples, n]."""
    drawn = rng.integers(0, n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    return (
        np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)
    )


def _kendall_tau_b(rankings: Integers, reference: Integers) -> Floats:
    """Kendall's tau-b of each row of rankings [b, k] with reference [k]; NaN where one of them ties
    all.
    """
    i, j = np.triu_indices(len(reference), 1)
    ours, theirs = np.sign(rankings[:, i] - rankings[:, j]), np.sign(reference[i] - reference[j])
    untied = np.sqrt((ours**2).sum(axis=1) * float((theirs**2).sum()))
    tau: Floats = np.divide(ours @ theirs, untied, out=np.full(len(ours), np.nan), where=untied > 0)
    return tau


def _complete_rows(scores: ArrayLike) -> tuple[Floats, NDArray[np.bool_], int]:
    """The rows without NaN, which rows they are, and how many were left out."""
    table = as_floats(scores)
    if table.ndim != 2 or table.shape[1] < 2:
        raise ValueError(
            f"scores must be [cases, models] with two models at least, but have shape {table.shape}"
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
