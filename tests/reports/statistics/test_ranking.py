import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reports.statistics import (
    adjust,
    cliques,
    critical_difference,
    friedman,
    paired_wilcoxon,
    pairwise_wilcoxon,
    ranking_stability,
)

nan, inf = math.nan, math.inf
tables = st.integers(3, 6).flatmap(
    lambda k: st.lists(st.lists(st.integers(0, 5), min_size=k, max_size=k), min_size=2, max_size=12)
)


@settings(max_examples=80, deadline=None)
@given(tables)
def test_friedman_agrees_with_scipy_with_ties(rows):
    scores = np.array(rows) / 10
    result = friedman(scores)
    if all(len(set(row)) == 1 for row in rows):
        assert (result.statistic, result.p, result.f_p) == (0, 1, 1)
        return
    theirs = stats.friedmanchisquare(*scores.T)
    assert result.statistic == pytest.approx(theirs.statistic, abs=1e-9)
    assert result.p == pytest.approx(theirs.pvalue, rel=1e-9)
    assert result.mean_ranks == pytest.approx(stats.rankdata(-scores, axis=1).mean(axis=0))
    lower = friedman(scores, higher_is_better=False)
    assert lower.mean_ranks == pytest.approx(
        [len(rows[0]) + 1 - rank for rank in result.mean_ranks]
    )
    assert lower.p == pytest.approx(result.p)


def test_iman_davenport_by_hand():
    scores = [[1, 2, 3], [1, 3, 2], [1, 2, 3], [2, 1, 3]]
    result = friedman(scores, higher_is_better=False)
    assert result.mean_ranks == (1.25, 2.0, 2.75)
    assert result.statistic == pytest.approx(12 / (4 * 3 * 4) * (5**2 + 8**2 + 11**2) - 3 * 4 * 4)
    assert result.f_statistic == pytest.approx(3 * 4.5 / (4 * 2 - 4.5))
    assert result.f_p == pytest.approx(stats.f.sf(result.f_statistic, 2, 6))


def test_friedman_in_full_agreement_and_with_misses():
    agreed = friedman([[0.9, 0.8, 0.7]] * 5)
    assert (agreed.statistic, agreed.f_statistic) == (10, inf)
    assert agreed.f_p == pytest.approx(1 / 6**4)  # five rows of three models in one order
    distances = [[1.0, 2.0, inf], [inf, 2.0, inf], [nan, nan, nan]]
    missed = friedman(distances, higher_is_better=False)
    assert missed.mean_ranks == ((1 + 2.5) / 2, (2 + 1) / 2, (3 + 2.5) / 2)
    assert (missed.n, missed.k, missed.n_dropped) == (2, 3, 1)


def test_friedman_is_not_misled_by_floating_point():
    assert friedman([[0.1 + 0.2, 0.3], [1.0, 0.5]]).mean_ranks == (1.25, 1.75)


def test_pairwise_tests_are_one_holm_family():
    scores = np.random.default_rng(1).normal([0, 0, 0.5, 2], 1, (25, 4))
    result = pairwise_wilcoxon(np.vstack([scores, np.full(4, nan)]))
    assert result.pairs == ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
    for (i, j), test in zip(result.pairs, result.tests, strict=True):
        assert test == paired_wilcoxon(scores[:, i], scores[:, j])
    raw = [test.p for test in result.tests]
    assert result.p_holm.tolist() == adjust(raw, "holm").tolist()
    assert np.isnan(np.diag(result.matrix)).all()
    assert result.matrix[3, 1] == result.matrix[1, 3] == result.p_holm[4]
    assert result.matrix[0, 3] < 0.05 < result.matrix[0, 1]


def test_pairwise_over_ten_tasks_cannot_reach_significance_for_fifteen_models():
    result = pairwise_wilcoxon(np.arange(15) + np.linspace(0, 0.1, 10)[:, None])
    assert min(result.p_holm) == pytest.approx(105 * 2 / 2**10)


def test_critical_difference_is_that_of_demsar():
    # Table 5 of the paper: q(0.05) is 1.960 for 2 models, 2.569 for 4, 3.164 for 10; q(0.10) is
    # 2.291 for 4.
    for k, alpha, q in ((2, 0.05, 1.960), (4, 0.05, 2.569), (10, 0.05, 3.164), (4, 0.10, 2.291)):
        expected = q * math.sqrt(k * (k + 1) / (6 * 14))
        assert critical_difference(14, k, alpha=alpha) == pytest.approx(expected, rel=5e-4)


@pytest.mark.parametrize(("n", "k", "alpha"), [(1, 3, 0.05), (10, 1, 0.05), (10, 3, 0), (10, 3, 1)])
def test_critical_difference_needs_sensible_numbers(n, k, alpha):
    with pytest.raises(ValueError, match=f"but has {n}, {k}, {alpha}"):
        critical_difference(n, k, alpha=alpha)


def test_cliques_are_the_longest_runs_of_neighbours():
    ranks = np.array([4.0, 1.0, 2.2, 3.1, 6.0])
    apart = np.abs(ranks[:, None] - ranks) > 2.0
    assert cliques(ranks, apart) == [(1, 2), (2, 3, 0), (0, 4)]
    apart[0, 4] = apart[4, 0] = True
    assert cliques(ranks, apart) == [(1, 2), (2, 3, 0)]
    assert cliques([2.0, 1.0], [[False, True], [True, False]]) == []
    assert cliques([2.0, 1.0, 3.0], np.zeros((3, 3))) == [(1, 0, 2)]


def resampled_plainly(cost, tasks, resamples, seed):
    """The same draws as ours, ranked with scipy one sample at a time."""
    rng = np.random.default_rng(seed)
    total = np.zeros((resamples, cost.shape[1]))
    observed = np.zeros(cost.shape[1])
    for task in sorted(set(tasks)):
        group = cost[np.array(tasks) == task]
        observed += stats.rankdata(group.mean(axis=0).round(9))
        for b, drawn in enumerate(rng.integers(0, len(group), size=(resamples, len(group)))):
            total[b] += stats.rankdata(group[drawn].mean(axis=0).round(9))
    return stats.rankdata(observed, method="min"), stats.rankdata(total, method="min", axis=1)


@pytest.mark.parametrize("by", ["mean", "rank"])
@pytest.mark.parametrize("tasks", [[0] * 30, ["b"] * 5 + ["a"] * 18 + ["c"] * 7])
def test_stability_is_the_plain_bootstrap(by, tasks):
    scores = np.random.default_rng(2).normal([0, 0.2, 0.2, 0.5], 1, (30, 4)).round(1)
    scores = np.column_stack([scores, scores[:, 1]])  # two models that always tie
    cost = stats.rankdata(-scores, axis=1) if by == "rank" else -scores
    observed, drawn = resampled_plainly(cost, tasks, 200, seed=7)
    result = ranking_stability(scores, tasks=tasks, by=by, resamples=200, seed=7)
    assert result.ranks.tolist() == observed.tolist()
    for model in range(5):
        shares = [(drawn[:, model] == rank).mean() for rank in range(1, 6)]
        assert result.frequency[model].tolist() == pytest.approx(shares)
    assert result.low.tolist() == pytest.approx(np.quantile(drawn, 0.025, axis=0).tolist())
    assert result.high.tolist() == pytest.approx(np.quantile(drawn, 0.975, axis=0).tolist())
    plain = [stats.kendalltau(row, observed).statistic for row in drawn]
    assert result.tau.tolist() == pytest.approx(plain, nan_ok=True)


def test_stability_of_clear_and_of_shared_ranks():
    spread = np.random.default_rng(0).uniform(0, 0.1, (20, 1))
    clear = ranking_stability(np.array([0.7, 0.9, 0.5]) + spread)
    assert clear.ranks.tolist() == clear.low.tolist() == clear.high.tolist() == [2, 1, 3]
    assert (clear.tau == 1).all()
    assert clear.frequency.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
    turned = ranking_stability(np.array([0.7, 0.9, 0.5]) + spread, higher_is_better=False)
    assert turned.ranks.tolist() == [2, 3, 1]
    shared = ranking_stability(np.array([0.5, 0.9, 0.9]) + spread)
    assert shared.ranks.tolist() == [3, 1, 1]
    assert np.isnan(ranking_stability(np.hstack([spread, spread])).tau).all()


def test_every_task_counts_the_same():
    scores = np.array([[0.9, 0.1]] * 50 + [[0.4, 0.5]] * 2 + [[0.3, 0.5]] * 2)
    tasks = ["large"] * 50 + ["small"] * 2 + ["tiny"] * 2
    assert ranking_stability(scores).ranks.tolist() == [1, 2]
    assert ranking_stability(scores, tasks=tasks).ranks.tolist() == [2, 1]


def test_stability_is_deterministic_and_leaves_nan_rows_out():
    scores = np.random.default_rng(5).normal(size=(12, 3))
    base = ranking_stability(scores, seed=3)
    again = ranking_stability(np.insert(scores, 4, nan, axis=0), tasks=["t"] * 13, seed=3)
    assert again.n_dropped == 1
    assert again.frequency.tolist() == base.frequency.tolist()
    assert ranking_stability(scores, seed=4).frequency.tolist() != base.frequency.tolist()


def test_misses_rank_last_by_rank_and_must_be_capped_for_means():
    distances = np.array([[1.0, 2.0, inf], [2.0, 1.0, inf], [1.0, 3.0, 9.0]])
    result = ranking_stability(distances, by="rank", higher_is_better=False)
    assert result.ranks.tolist() == [1, 2, 3]
    assert result.frequency[2].tolist() == [0, 0, 1]
    with pytest.raises(ValueError, match=r"infinite values: cap them, or rank with by='rank'"):
        ranking_stability(distances, higher_is_better=False)


@pytest.mark.parametrize("test", [friedman, pairwise_wilcoxon, ranking_stability])
def test_unequal_case_sets_and_wrong_shapes_are_refused(test):
    with pytest.raises(ValueError, match=r"rows \[1\] \(from 0\) are NaN for some models only"):
        test([[1, 2, 3], [1, nan, 2], [nan, nan, nan]])
    with pytest.raises(ValueError, match=r"have shape \(3,\)"):
        test([1, 2, 3])
    with pytest.raises(ValueError, match=r"have shape \(2, 1\)"):
        test([[1], [2]])


def test_wrong_arguments():
    with pytest.raises(ValueError, match="at least 2 rows without NaN, but has 1"):
        friedman([[1, 2, 3], [nan, nan, nan]])
    with pytest.raises(ValueError, match=r"each of the 2 rows, one at least, but has shape \(3,\)"):
        ranking_stability([[1, 2], [2, 1]], tasks=[0, 0, 1])
    with pytest.raises(ValueError, match="one at least"):
        ranking_stability([[nan, nan]])
    for wrong in ({"by": "median"}, {"level": 1.0}, {"resamples": 0}):
        with pytest.raises(ValueError, match=r"\['mean', 'rank'\].*but they are"):
            ranking_stability([[1, 2], [2, 1]], **wrong)
