"""Many lists of differences at once: the same as `method_difference` gives them one by one."""

import math

import numpy as np
import pytest

from reports.statistics import method_difference
from reports.statistics.single_trainings import single_trainings


def one_by_one(rows, fold):
    ones, cases = [0] * len(fold), list(range(len(fold)))
    found = [method_difference(row, fold=fold, training=ones, case=cases) for row in rows]
    return [
        [getattr(one, name) for one in found] for name in ("estimate", "low", "high", "p", "df")
    ]


@pytest.mark.parametrize(
    "sizes", [(40,) * 5, (7, 3, 12, 5), (2, 30), (1, 4, 9), (10,) * 10, (1,) * 5]
)
@pytest.mark.parametrize("between", [0.0, 0.02, 0.3, 4.0])
def test_many_have_what_each_has_alone(sizes, between):
    rng = np.random.default_rng(len(sizes))
    fold = np.repeat(np.arange(len(sizes)), sizes)
    of_fold = rng.normal(0.1, math.sqrt(between), (25, len(sizes)))
    rows = 1e-2 * (rng.standard_normal((25, len(fold))) + of_fold[:, fold])
    found = single_trainings(rows, fold)
    for ours, theirs in zip(found, one_by_one(rows, fold.tolist()), strict=True):
        assert ours == pytest.approx(np.array(theirs), rel=1e-4, abs=1e-9)
    order = rng.permutation(len(fold))
    assert single_trainings(rows[:, order], fold[order]).p == pytest.approx(found.p, rel=1e-7)


def test_of_one_number_a_training_it_is_the_same():
    rng = np.random.default_rng(3)
    fold, seed = np.repeat(np.arange(4), 3), np.tile(np.arange(3), 4)
    rows = rng.normal(0.5, 1, (10, 12)) + rng.normal(0, 0.7, (10, 4))[:, fold]
    found = single_trainings(rows, fold)
    for place, row in enumerate(rows):
        alone = method_difference(row, fold=fold, training=seed, case=fold)
        assert (found.p[place], found.low[place]) == pytest.approx((alone.p, alone.low), rel=1e-4)


def test_what_does_not_vary_is_no_difference_or_no_test():
    fold = np.repeat([0, 1, 2], 4)
    rows = np.stack([np.zeros(12), np.full(12, 0.1), np.repeat([1.0, 2.0, 4.0], 4)])
    found = single_trainings(rows, fold)
    alone = method_difference(rows[0], fold=fold, training=[0] * 12, case=list(range(12)))
    assert [column[0] for column in found] == [0, 0, 0, 1, alone.df]
    assert np.isnan(found.p[1:]).all()  # the last: folds do not vary within, another model
    assert found.estimate.tolist() == pytest.approx([0, 0.1, 7 / 3])
    assert np.isnan(single_trainings(np.arange(4.0)[None], np.zeros(4)).p).all()
