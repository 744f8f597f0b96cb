import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reports.statistics import (
    Interval,
    equivalence,
    hodges_lehmann,
    mean_difference,
    paired_wilcoxon,
    rank_biserial,
)
from reports.statistics.effects import _exact_order, _normal_order

whole = st.lists(st.integers(-50, 50), min_size=1, max_size=40)
quick = settings(max_examples=60, deadline=None)


def of(effect, d, **options):
    d = np.asarray(d, dtype=float)
    return effect(d, np.zeros_like(d), **options)


def skewed(n=15, seed=3):
    return np.random.default_rng(seed).lognormal(size=n)


@quick
@given(st.lists(st.integers(-3, 3), max_size=20), st.sampled_from(("pratt", "wilcox")))
def test_rank_biserial_is_the_balance_of_the_tests_rank_sums(values, zeros):
    test = of(paired_wilcoxon, values, zeros=zeros)
    total = test.w_plus + test.w_minus
    expected = (test.w_plus - test.w_minus) / total if total else 0
    assert of(rank_biserial, values, zeros=zeros) == pytest.approx(expected, abs=1e-15)
    assert of(rank_biserial, np.negative(values), zeros=zeros) == pytest.approx(
        -expected, abs=1e-15
    )


def test_rank_biserial_by_hand():
    assert of(rank_biserial, [1, 2, 3]) == 1
    assert of(rank_biserial, [-1, -2, -3]) == -1
    assert of(rank_biserial, [1, -2, 3]) == pytest.approx(2 / 6)
    assert of(rank_biserial, [0, 0, 1, -2, 3]) == pytest.approx((8 - 4) / 12)
    assert of(rank_biserial, [0, 0, 1, -2, 3], zeros="wilcox") == pytest.approx((4 - 2) / 6)
    assert of(rank_biserial, [0, 0]) == 0
    assert of(rank_biserial, []) == 0
    assert of(rank_biserial, [math.inf, -1]) == pytest.approx(1 / 3)


@quick
@given(whole)
def test_hodges_lehmann_estimate_is_the_median_of_the_walsh_averages(values):
    pairs = itertools.combinations_with_replacement(values, 2)
    assert of(hodges_lehmann, values).estimate == pytest.approx(
        np.median([(a + b) / 2 for a, b in pairs])
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(6, 40), st.integers(0, 10**6), st.sampled_from((0.8, 0.95, 0.96875)))
def test_hodges_lehmann_interval_holds_the_shifts_that_the_exact_test_accepts(n, seed, level):
    d = np.random.default_rng(seed).normal(size=n).round(6)
    interval = of(hodges_lehmann, d, level=level)
    assert interval.method == "exact"
    accepted = {
        shift: paired_wilcoxon(d, np.full(n, shift)).p > 1 - level + 1e-15
        for shift in (
            interval.low - 1e-7,
            interval.low + 1e-7,
            interval.estimate + 1e-7,
            interval.high - 1e-7,
            interval.high + 1e-7,
        )
    }
    assert list(accepted.values()) == [False, True, True, True, False]


@pytest.mark.parametrize("n", [6, 7])
def test_hodges_lehmann_interval_covers_enough_with_ties_and_zeros(n):
    samples = list(itertools.product((-1, 0, 1), repeat=n))  # all equally likely, symmetric about 0
    covered = 0
    for sample in samples:
        interval = of(hodges_lehmann, sample)
        covered += interval.low <= 0 <= interval.high
    assert 0.95 <= covered / len(samples) < 1


def test_too_few_pairs_have_no_finite_interval():
    five = of(hodges_lehmann, [0.1, 0.2, 0.3, 0.4, 0.5])
    assert (five.estimate, five.low, five.high) == (pytest.approx(0.3), -math.inf, math.inf)
    assert five.method == "unattainable"
    attainable = of(hodges_lehmann, [0.1, 0.2, 0.3, 0.4, 0.5], level=0.9375)
    assert (attainable.low, attainable.high, attainable.method) == (0.1, 0.5, "exact")
    for effect in (hodges_lehmann, mean_difference):
        one, none = of(effect, [0.25]), of(effect, [])
        assert (one.estimate, one.low, one.high, one.method) == (
            0.25,
            -math.inf,
            math.inf,
            "unattainable",
        )
        assert math.isnan(none.estimate)
        assert (none.n, none.method) == (0, "unattainable")


def test_a_long_list_has_an_asymptotic_interval_close_to_the_exact_one():
    d = np.random.default_rng(0).normal(0.1, 1, 1001)
    exact, longer = of(hodges_lehmann, d[:1000]), of(hodges_lehmann, d)
    assert (exact.method, longer.method) == ("exact", "asymptotic")
    assert [longer.low, longer.high] == pytest.approx([exact.low, exact.high], abs=0.005)
    for tail in (0.025, 0.05):  # among 500,500 Walsh averages
        assert abs(_normal_order(1000, tail) - _exact_order(1000, tail)) <= 2


def test_bca_agrees_with_scipy_and_not_with_the_percentile_interval():
    d = skewed()
    ours = of(mean_difference, d, resamples=50_000)
    theirs = stats.bootstrap(
        (d,), np.mean, n_resamples=50_000, method="BCa", rng=1
    ).confidence_interval
    percentile = stats.bootstrap((d,), np.mean, n_resamples=50_000, method="percentile", rng=1)
    error = stats.sem(d)
    assert [ours.low, ours.high] == pytest.approx([theirs.low, theirs.high], abs=0.1 * error)
    assert ours.high > percentile.confidence_interval.high + 0.3 * error
    assert ours.estimate == pytest.approx(d.mean(), abs=1e-9)


def test_bca_is_deterministic_and_turns_with_the_sign():
    d = skewed(300)
    base = of(mean_difference, d)
    assert of(mean_difference, d) == base
    assert of(mean_difference, d, seed=1) != base
    turned = of(mean_difference, -d)
    assert [turned.low, turned.high] == pytest.approx([-base.high, -base.low], rel=1e-9)
    shifted = of(mean_difference, d + 5)
    assert [shifted.low, shifted.high] == pytest.approx([base.low + 5, base.high + 5], rel=1e-6)


def test_bca_counts_resampled_means_equal_to_the_estimate_half():
    interval = of(mean_difference, [-0.1, 0.1] * 5)  # symmetric: no bias, no skew, many equal means
    assert interval.low == pytest.approx(-interval.high, abs=0.021)
    assert interval.method == "bca"


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0])
def test_bca_of_equal_differences_has_no_width(value):
    interval = of(mean_difference, [value] * 6)
    assert interval.low == interval.estimate == interval.high == pytest.approx(value)


def test_bca_of_one_outlier_stays_within_the_data():
    d = np.r_[np.zeros(40), 1.0]
    for level in (0.95, 1 - 1e-12):  # so far out, the acceleration's denominator turns negative
        interval = of(mean_difference, d, level=level, resamples=500)
        assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


@pytest.mark.parametrize("effect", [hodges_lehmann, mean_difference])
def test_effects_refuse_what_they_cannot_use(effect):
    with pytest.raises(
        ValueError, match=r"2 pairs hold infinite values, the first at position 1.*capped"
    ):
        effect([1, math.inf, 3, math.inf], [1, math.inf, 2, 1])
    with pytest.raises(ValueError, match=r"NaN on one side.*x is NaN at \[0\]"):
        effect([math.nan, 1], [1, 1])
    with pytest.raises(ValueError, match=r"between 0 and 1, such as 0\.95, but is 95"):
        effect([1, 2], [2, 1], level=95)
    assert effect([1, math.nan], [0.5, math.nan]).n == 1


def test_bootstrap_needs_a_resample():
    with pytest.raises(ValueError, match="at least 1, but is 0"):
        mean_difference([1, 2], [2, 1], resamples=0)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.01, 0.01, "equivalent"),
        (0.002, 0.009, "equivalent"),
        (0.011, 0.02, "above"),
        (-0.02, -0.011, "below"),
        (0.01, 0.02, "undecided"),
        (-0.02, 0.0, "undecided"),
        (-0.02, 0.02, "undecided"),
        (-math.inf, math.inf, "undecided"),
    ],
)
def test_equivalence(low, high, verdict):
    assert equivalence(Interval((low + high) / 2, low, high, 0.95, 30, "exact"), 0.01) == verdict


@pytest.mark.parametrize("margin", [0, -0.01, math.inf, math.nan])
def test_equivalence_needs_a_margin(margin):
    with pytest.raises(ValueError, match="margin must be positive and finite, but is"):
        equivalence(Interval(0, -1, 1, 0.95, 30, "exact"), margin)
