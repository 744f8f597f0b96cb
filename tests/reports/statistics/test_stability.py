"""The bootstrap of folds, trainings and cases together."""

import itertools

import numpy as np
import pytest

from reports.statistics import mean_bounds, ranking_stability
from tests.reports.statistics.designs import crossed, effects


def spread(variances, *, folds, seeds, cases, resamples=4000):
    """Standard deviation of the bootstrap's mean, from its bounds, and labels of the scores."""
    fold, seed, case = crossed([cases] * folds, seeds)
    rng = np.random.default_rng(1)
    values = effects(fold, seed, case, variances, rng.standard_normal)
    low, high = mean_bounds(
        values[:, None],
        fold=fold,
        training=seed,
        case=1000 * fold + case,
        level=0.6827,
        resamples=resamples,
    )
    return (high - low)[0] / 2, values.reshape(folds, seeds, cases)


def test_each_source_of_chance_alone_has_the_error_of_its_mean():
    of_fold, values = spread((1, 0, 0, 0), folds=12, seeds=2, cases=3)
    assert of_fold == pytest.approx(values[:, 0, 0].std() / np.sqrt(12), rel=0.1)
    of_case, values = spread((0, 0, 1, 0), folds=1, seeds=2, cases=60)
    assert of_case == pytest.approx(values[0, 0].std() / np.sqrt(60), rel=0.1)
    of_training, values = spread((0, 1, 0, 0), folds=1, seeds=40, cases=2)
    assert of_training == pytest.approx(values[0, :, 0].std() / np.sqrt(40), rel=0.1)


def test_drawn_by_hand_the_weights_multiply():
    """All draws of two folds with two seeds and two cases each, equally likely: their means."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(2, 2, 2))  # fold, seed, case
    pairs = list(itertools.product((0, 1), repeat=2))
    means = []
    for folds in pairs:
        for seeds, cases in itertools.product(itertools.product(pairs, repeat=2), repeat=2):
            means.append(np.mean([table[f][np.ix_(seeds[f], cases[f])].mean() for f in folds]))
    fold, seed, case = crossed([2, 2], 2)
    labels = {"fold": fold, "training": seed, "case": 10 * fold + case}
    for level in (0.9, 0.8):  # between the values that the mean can take
        low, high = mean_bounds(table.ravel()[:, None], **labels, level=level, resamples=20_000)
        expected = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
        assert [low[0], high[0]] == pytest.approx(expected)


def test_luck_of_training_widens_a_rank_that_cases_alone_call_certain():
    fold, seed, case = crossed([40] * 3, 2)
    rng = np.random.default_rng(5)
    models = [effects(fold, seed, case, (0.0, 0.3, 0, 0.05), rng.standard_normal) for _ in range(2)]
    scores = np.stack(models, axis=1)
    of_case = scores.reshape(3, 2, 40, 2).mean(1).reshape(120, 2)
    assert ranking_stability(of_case).frequency.max() == 1
    together = ranking_stability(scores, fold=fold, training=seed, case=100 * fold + case)
    assert together.frequency.max() < 0.99
    assert together.ranks.tolist() == ranking_stability(of_case).ranks.tolist()


def test_mean_ranks_over_tasks_have_bounds():
    scores = np.random.default_rng(2).normal([0, 0.3, 3.0], 1, (60, 3))
    found = ranking_stability(scores, tasks=np.repeat([0, 1, 2], 20))
    assert found.mean_low is not None
    assert found.mean_high is not None
    assert found.mean_low[2] == found.mean_high[2] == 1
    assert found.mean_low[0] < found.mean_high[0] <= 3


def test_a_missing_cell_is_left_out_of_its_draws():
    fold, seed, case = crossed([3, 3], 2)
    kept = np.arange(12) != 4
    labels = {"fold": fold[kept], "training": seed[kept], "case": (10 * fold + case)[kept]}
    low, high = mean_bounds(np.full((11, 1), 0.7), **labels)
    assert (low[0], high[0]) == pytest.approx((0.7, 0.7))


def test_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"training must label each of the 2 rows.*shape \(3,\)"):
        ranking_stability([[1, 2], [2, 1]], training=[0, 0, 1])
