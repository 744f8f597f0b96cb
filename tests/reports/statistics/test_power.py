"""Power is what a simulation through `method_difference` itself finds."""

import math

import numpy as np
import pytest
from scipy import stats

from reports.statistics import detectable, method_difference, power
from tests.reports.statistics.designs import random


def components(fold=0.0, training=0.1, case=1.0, rest=0.3):
    return {"fold": fold, "training": training, "case": case, "rest": rest}


def noncentral(shift, df):
    critical = stats.t.ppf(0.975, df)
    return stats.nct.sf(critical, df, shift) + stats.nct.cdf(-critical, df, shift)


@pytest.mark.parametrize("folds", [3, 5, 10])
def test_where_training_sets_matter_it_is_the_noncentral_t_over_folds(folds):
    variances = components(fold=3.0)
    design = {"folds": folds, "seeds": 3, "cases": 20 * folds}
    error = math.sqrt((3 + 0.1 / 3 + 1 / 20 + 0.3 / 60) / folds)
    for shift in (0.0, 1.0, 3.0):
        expected = noncentral(shift, folds - 1) if shift else 0.05
        assert power(shift * error, variances, **design) == pytest.approx(expected, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folds", "seeds", "cases", "variances"),
    [
        (3, 2, 30, components()),
        (3, 3, 30, components(fold=0.1)),
        (5, 1, 40, components()),
        (10, 2, 40, components(training=0.0)),
    ],
)
def test_it_is_what_simulated_studies_find(folds, seeds, cases, variances):
    rng = np.random.default_rng(folds * 100 + cases)
    design = {"folds": folds, "seeds": seeds, "cases": cases}
    difference = detectable(variances, **design, power=0.7)
    assert power(difference, variances, **design) == pytest.approx(0.7, abs=1e-6)
    studies = 800
    found = 0
    for _ in range(studies):
        data = random(
            rng, [cases // folds] * folds, seeds, tuple(variances.values()), mean=difference
        )
        found += method_difference(data.differences, **data.labels()).p < 0.05
    assert found / studies == pytest.approx(0.7, abs=0.03 + 2 * math.sqrt(0.21 / studies))


def test_more_of_anything_sees_smaller_differences():
    base = detectable(components(fold=0.05), folds=5, seeds=2, cases=60)
    for change in ({"folds": 10}, {"seeds": 5}, {"cases": 200}, {"power": 0.5}, {"level": 0.9}):
        design = {"folds": 5, "seeds": 2, "cases": 60} | change
        assert detectable(components(fold=0.05), **design) < base
    corrected = detectable(
        components(fold=0.05), folds=5, seeds=2, cases=60, variance="nadeau-bengio"
    )
    assert corrected > 1.3 * base


def test_it_scales_with_the_unit():
    metres = detectable(components(), folds=5, seeds=2, cases=60)
    scaled = {name: 1e6 * value for name, value in components().items()}
    assert detectable(scaled, folds=5, seeds=2, cases=60) == pytest.approx(1000 * metres)


def test_one_training_set_sees_nothing():
    assert power(10, components(), folds=1, seeds=5, cases=100) == 0
    assert detectable(components(), folds=1, seeds=5, cases=100) == math.inf


def test_a_pilot_of_one_seed_promises_nothing_from_more_seeds():
    pilot = components(fold=0.2, training=math.nan, case=math.nan, rest=1.3)
    one, five = (detectable(pilot, folds=5, seeds=seeds, cases=100) for seeds in (1, 5))
    assert five == pytest.approx(one, rel=0.02)
    known = components(fold=0.1, training=0.1, case=1.0, rest=0.3)
    assert detectable(known, folds=5, seeds=1, cases=100) == pytest.approx(one, rel=1e-6)


def test_few_cases_leave_the_t_over_folds():
    found = power(2.0, components(fold=1.0), folds=5, seeds=1, cases=5)
    assert found == pytest.approx(noncentral(2.0 / math.sqrt(2.4 / 5), 4), abs=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"components": components(fold=math.nan)}, "one training set says nothing of others"),
        ({"components": components(case=-0.1)}, "must not be negative"),
        ({"components": components(0, 0, 0, 0)}, "needs variances above 0"),
        ({"cases": 3}, "a case in every fold"),
        ({"power": 0.04}, "power must lie between 0.05 and 1"),
    ],
)
def test_what_it_refuses(change, message):
    given = {"components": components(), "folds": 5, "seeds": 2, "cases": 50} | change
    with pytest.raises(ValueError, match=message):
        detectable(given.pop("components"), **given)
