"""Differences against a margin: regions of intervals, and probabilities as baycomp gives them."""

import math

import numpy as np
import pytest
from scipy import stats

from reports.statistics import correlated_t, equivalence, method_difference, place, practical
from reports.statistics.effects import Interval
from tests.reports.statistics.designs import random


@pytest.mark.parametrize(
    ("low", "high", "region"),
    [
        (-0.01, 0.01, "within"),
        (0.002, 0.009, "within"),
        (0.0101, 0.02, "beyond"),
        (-0.02, -0.0101, "below"),
        (0.01, 0.02, "undecided"),
        (-0.02, 0.0, "undecided"),
        (-math.inf, math.inf, "undecided"),
        (math.nan, math.nan, "not testable"),
    ],
)
def test_where_an_interval_lies(low, high, region):
    assert place(low, high, 0.01) == region
    if region != "not testable":  # the same regions as those of the interval over cases
        names = {"within": "equivalent", "beyond": "above"}
        interval = Interval(0.0, low, high, 0.95, 10, "t-skew")
        assert equivalence(interval, 0.01) == names.get(region, region)


K = np.arange(1, 31)
FIVE = np.array([0.02, 0.005, 0.03, 0.004, 0.021])
THIRTY = np.round(np.round(0.7 + 0.1 * ((K * np.sqrt(2)) % 1), 4), 4)
OTHER = np.round(THIRTY - 0.004 + 0.02 * ((K * np.sqrt(3)) % 1), 4)


@pytest.mark.parametrize(
    ("differences", "margin", "repeats", "expected"),
    [  # baycomp 1.0.3: CorrelatedTTest.probs(x, y, rope, runs), whose differences are y - x
        (FIVE, 0.01, 1, (0.012911778336322597, 0.2217648410218669, 0.7653233806418105)),
        (
            OTHER - THIRTY,
            0.01,
            3,
            (2.3728917725091262e-08, 0.9478958048263245, 0.05210417144475776),
        ),
        (THIRTY - OTHER, 0.002, 1, (0.99547678077858, 0.004519278380819558, 3.940840600402673e-06)),
    ],
)
def test_the_correlated_t_test_is_baycomps(differences, margin, repeats, expected):
    found = correlated_t(differences, margin=margin, repeats=repeats)
    assert (found.below, found.within, found.beyond) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_nadeau_and_bengios_interval_has_the_correlated_t_as_its_posterior():
    design = random(np.random.default_rng(4), [8] * 5, 2, (1, 0.1, 1, 0.3), mean=0.8)
    result = method_difference(design.differences, **design.labels(), variance="nadeau-bengio")
    means = design.differences.reshape(5, -1).mean(1)
    ours, known = practical(result, 0.5), correlated_t(means, margin=0.5)
    assert (ours.below, ours.beyond) == pytest.approx((known.below, known.beyond), rel=1e-5)


def test_probabilities_and_the_interval_agree():
    """The interval ends at the margin just where its tail holds 2.5 %."""
    for chance in range(8):
        design = random(np.random.default_rng(chance), [6] * 4, 2, (0.1, 0.1, 1, 0.3), mean=0.9)
        result = method_difference(design.differences, **design.labels())
        found = practical(result, abs(result.low))
        assert found.below + found.within + found.beyond == pytest.approx(1)
        outside = found.below if result.low < 0 else 1 - found.beyond
        assert outside == pytest.approx(0.025, rel=1e-6)
        if result.low > 0:
            assert place(result.low, result.high, 0.9 * result.low) == "beyond"


def test_without_a_test_there_is_no_probability():
    design = random(np.random.default_rng(0), [9], 1, (0, 0, 1, 0.3))
    result = method_difference(design.differences, **design.labels())
    assert math.isnan(practical(result, 0.01).within)
    assert place(result.low, result.high, 0.01) == "not testable"


def test_no_spread_is_certainty():
    assert correlated_t([0.02, 0.02], margin=0.01).beyond == 1
    assert correlated_t([0.0, 0.0], margin=0.01).within == 1
    assert correlated_t([-0.1, -0.3], margin=1e-9).below == pytest.approx(
        stats.t.cdf(0.2 / math.sqrt((1 / 2 + 1) * 0.02), 1), rel=1e-6
    )


def test_what_they_refuse():
    with pytest.raises(ValueError, match="margin must be positive and finite, but is 0"):
        place(-1, 1, 0)
    with pytest.raises(ValueError, match="margin must be positive and finite, but is inf"):
        correlated_t([1, 2], margin=math.inf)
    with pytest.raises(ValueError, match="two folds or more for each repeat"):
        correlated_t([1, 2, 3], margin=1, repeats=2)
