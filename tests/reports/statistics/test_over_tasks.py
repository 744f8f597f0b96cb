"""The mean of several tasks' differences: errors add up in squares."""

import math

import numpy as np
import pytest
from scipy import stats

from reports.statistics.over_tasks import Estimate, over_tasks


def of_folds(means):
    """The t interval over fold means, as a balanced method difference has it."""
    error, df = np.std(means, ddof=1) / math.sqrt(len(means)), len(means) - 1
    half = stats.t.ppf(0.975, df) * error
    mean = float(np.mean(means))
    return Estimate(mean, mean - half, mean + half, stats.ttest_1samp(means, 0).pvalue, df)


def test_two_tasks_are_welchs_t_of_their_mean():
    """Half the sum of two means is half the difference of one and the other's negative."""
    first, second = np.array([0.3, 0.5, 0.1, 0.4, 0.2]), np.array([1.0, 0.2, 0.7])
    found = over_tasks([of_folds(first), of_folds(second)])
    welch = stats.ttest_ind(first, -second, equal_var=False)
    assert found.estimate == pytest.approx((first.mean() + second.mean()) / 2)
    assert found.p == pytest.approx(welch.pvalue)
    assert found.df == pytest.approx(welch.df)
    bounds = welch.confidence_interval()
    assert (2 * found.low, 2 * found.high) == pytest.approx((bounds.low, bounds.high))


def test_one_task_keeps_its_own_and_an_untested_one_leaves_no_interval():
    one = of_folds(np.array([0.3, 0.5, 0.1]))
    assert over_tasks([one]) == one
    untested = Estimate(0.4, math.nan, math.nan, math.nan, math.nan)
    found = over_tasks([one, untested])
    assert found.estimate == pytest.approx(0.35)
    assert math.isnan(found.low)
    assert math.isnan(found.p)
    assert math.isnan(over_tasks([]).estimate)


def test_a_task_without_any_difference_adds_no_error():
    nothing = Estimate(0.0, 0.0, 0.0, 1.0, 4.0)
    one = of_folds(np.array([0.3, 0.5, 0.1]))
    found = over_tasks([one, nothing])
    assert found.df == pytest.approx(2)
    assert (found.low, found.high) == pytest.approx((one.low / 2, one.high / 2))
    assert over_tasks([nothing, nothing]).p == 1
