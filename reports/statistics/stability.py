"""How stable means and a ranking are: cases, trainings and training sets drawn anew.

The bootstrap of crossed effects (A. B. Owen and D. Eckles, Ann. Appl. Stat. 6 (2012)): in every
sample the training sets (folds), the trainings of each and the cases are drawn with replacement,
each by itself, and a score counts as often as its three numbers multiply to. So what folds, seeds
and cases contribute to chance is all there; of few folds and seeds a little less than their part
(K - 1 of K), of cases and trainings up to twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reports.statistics.ranking import complete_rows, midranks
from reports.statistics.wilcoxon import Floats, Integers, rounded

Aggregation = Literal["mean", "rank"]
Labels = ArrayLike | Sequence[object]


@dataclass(frozen=True, eq=False)
class RankingStability:
    """A ranking and what becomes of it when cases, trainings and training sets are drawn anew."""

    ranks: Integers  # [k], 1 is best, ties share the better rank
    low: Floats  # [k], bounds of each model's rank at the given level
    high: Floats
    frequency: Floats  # [k, k], share of the resamples in which model i has rank j + 1
    tau: Floats  # [resamples], Kendall's tau-b of each resampled ranking with the observed one
    n_dropped: int = 0
    mean_low: Floats | None = None  # [k], bounds of the mean over tasks of the ranks in a task
    mean_high: Floats | None = None


def ranking_stability(
    scores: ArrayLike,
    *,
    tasks: Labels | None = None,
    fold: Labels | None = None,
    training: Labels | None = None,
    case: Labels | None = None,
    by: Aggregation = "mean",
    higher_is_better: bool = True,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> RankingStability:
    """Rank k models, and again on bootstrap samples (M. Wiesenfarth et al., Sci. Rep. 11 (2021),
    challengeR, who draw the cases alone).

    The same seed gives the same result.

    Args:
        scores: [n, k], a row per case, or per run and case where these are named.
        tasks: [n] of each row; samples are drawn within a task, models ranked in each, and the
            tasks' ranks averaged, so that every task counts the same.
        fold: [n] the training set of each row; by default there is one.
        training: [n] the training (seed) within its fold; by default there is one.
        case: [n] the case within its task; by default every row is one.
        by: "mean" ranks the mean scores (which must be finite: cap first), "rank" the mean of each
            row's ranks.
        higher_is_better: of the scores.
        level: of the bounds.
        resamples: samples.
        seed: of the draws.

    Raises:
        ValueError: as `friedman` for the shape and NaN, for infinite scores with "mean", for labels
            of another length, and for arguments out of range.
    """
    if by not in get_args(Aggregation) or not 0 < level < 1 or resamples < 1:
        raise ValueError(
            f"by must be one of {list(get_args(Aggregation))}, level between 0 and 1 and resamples "
            f"at least 1, but they are {by!r}, {level} and {resamples}"
        )
    table, kept, dropped = complete_rows(scores)
    if by == "mean" and np.isinf(table).any():
        raise ValueError("scores hold infinite values: cap them, or rank with by='rank'")
    cost = -table if higher_is_better else table
    if by == "rank":
        cost = midranks(cost)
    k = table.shape[1]
    observed, resampled, count = np.zeros((1, k)), np.zeros((resamples, k)), 0
    labels = _labels(kept, tasks, fold, training, case)
    for mean, drawn_means in _by_task(cost, labels, resamples, seed):
        observed += midranks(rounded(mean[None]))
        resampled += midranks(rounded(drawn_means))
        count += 1
    ranks, drawn = _shared_ranks(observed)[0], _shared_ranks(resampled)
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(drawn, tails, axis=0)
    mean_low, mean_high = np.quantile(resampled / count, tails, axis=0)
    frequency = (drawn[:, :, None] == np.arange(1, k + 1)).mean(axis=0)
    tau = _kendall_tau_b(drawn, ranks)
    return RankingStability(ranks, low, high, frequency, tau, dropped, mean_low, mean_high)


def mean_bounds(
    scores: ArrayLike,
    *,
    tasks: Labels | None = None,
    fold: Labels | None = None,
    training: Labels | None = None,
    case: Labels | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """Bounds [k] of the mean over tasks of each column's mean; the samples of `ranking_stability`.

    Raises:
        ValueError: as `ranking_stability`.
    """
    table, kept, _ = complete_rows(scores, least=1)
    labels = _labels(kept, tasks, fold, training, case)
    drawn = [means for _, means in _by_task(table, labels, resamples, seed)]
    low, high = np.quantile(np.mean(drawn, axis=0), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def _labels(kept: NDArray[np.bool_], *labels: Labels | None) -> Integers:
    """Tasks, folds, trainings and cases of the rows that are kept, as numbers: [4, n]."""
    n, names = len(kept), ("tasks", "fold", "training", "case")
    if not kept.any():
        raise ValueError(f"scores must hold rows without NaN, one at least, but none of {n} is one")
    found = np.zeros((4, n), dtype=np.int64)
    found[3] = np.arange(n)
    for row, (name, given) in enumerate(zip(names, labels, strict=True)):
        if given is None:
            continue
        values = np.asarray(given)
        if values.shape != (n,):
            raise ValueError(
                f"{name} must label each of the {n} rows, one at least, but has shape "
                f"{values.shape}"
            )
        found[row] = np.unique(values, return_inverse=True)[1]
    return found[:, kept]


def _by_task(
    values: Floats, labels: Integers, resamples: int, seed: int
) -> Iterator[tuple[Floats, Floats]]:
    """Of each task the mean [k] of its rows, and the means [resamples, k] of bootstrap samples."""
    rng = np.random.default_rng(seed)
    for task in np.unique(labels[0]):
        here = labels[0] == task
        yield (
            values[here].mean(axis=0),
            _drawn_means(rng, resamples, values[here], *labels[1:, here]),
        )


def _drawn_means(
    rng: np.random.Generator,
    resamples: int,
    values: Floats,
    fold: Integers,
    training: Integers,
    case: Integers,
) -> Floats:
    """Means [resamples, k] of values [n, k], with folds, the trainings of each and cases drawn."""
    fold, case = (np.unique(labels, return_inverse=True)[1] for labels in (fold, case))
    first_fold = np.full(case.max() + 1, fold.max() + 1)
    np.minimum.at(first_fold, case, fold)
    # Cases are drawn within the fold that tests them, so that no fold is without cases.
    of_case = np.zeros((resamples, len(first_fold)))
    for stratum in np.unique(first_fold):
        members = np.flatnonzero(first_fold == stratum)
        of_case[:, members] = _draw_counts(rng, resamples, len(members))
    of_fold = _draw_counts(rng, resamples, fold.max() + 1)
    total, weight = np.zeros((resamples, values.shape[1])), np.zeros((resamples, 1))
    for number in range(fold.max() + 1):
        rows = np.flatnonzero(fold == number)
        runs, run = np.unique(training[rows], return_inverse=True)
        cases, place = np.unique(case[rows], return_inverse=True)
        seen, table = (np.zeros((len(cases), len(runs), k)) for k in (1, values.shape[1]))
        seen[place, run], table[place, run] = 1, values[rows]
        times = _draw_counts(rng, resamples, len(runs)) * of_fold[:, [number]]
        for sums, of in ((total, table), (weight, seen)):
            of_run = (of_case[:, cases] @ of.reshape(len(cases), -1)).reshape(
                resamples, len(runs), -1
            )
            sums += np.einsum("br,brk->bk", times, of_run)
    # Only where cross-validations are repeated can all drawn folds be without drawn cases.
    return np.where(weight > 0, total / np.maximum(weight, 1), values.mean(axis=0))


def _draw_counts(rng: np.random.Generator, resamples: int, n: int) -> Floats:
    """How often each of n levels is drawn in each bootstrap sample: [resamples, n]."""
    if n == 1:
        return np.ones((resamples, 1))
    drawn = rng.integers(0, n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    return (
        np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)
    )


def _shared_ranks(mean_ranks: Floats) -> Integers:
    """1 + the number of smaller values in the row: ties share the better rank, as in a league
    table.
    """
    ranks: Integers = 1 + (mean_ranks[:, None, :] < mean_ranks[:, :, None]).sum(axis=2)
    return ranks


def _kendall_tau_b(rankings: Integers, reference: Integers) -> Floats:
    """Kendall's tau-b of each row of rankings [b, k] with reference [k]; NaN where one of them ties
    all.
    """
    i, j = np.triu_indices(len(reference), 1)
    ours, theirs = np.sign(rankings[:, i] - rankings[:, j]), np.sign(reference[i] - reference[j])
    untied = np.sqrt((ours**2).sum(axis=1) * float((theirs**2).sum()))
    tau: Floats = np.divide(ours @ theirs, untied, out=np.full(len(ours), np.nan), where=untied > 0)
    return tau
