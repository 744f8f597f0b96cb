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


def test_the_interval_of_a_mean_is_students_and_wider_where_the_differences_are_skewed():
    symmetric = of(mean_difference, [-3, -1, 0, 1, 3])
    student = stats.ttest_1samp([-3, -1, 0, 1, 3], 0).confidence_interval(0.95)
    assert symmetric.method == "t-skew"
    assert (symmetric.low, symmetric.high) == pytest.approx((student.low, student.high))

    d = skewed()  # a long tail above: the mean may well lie higher
    interval, student = of(mean_difference, d), stats.ttest_1samp(d, 0).confidence_interval(0.95)
    assert interval.low == pytest.approx(student.low, abs=1e-7)
    assert interval.high > student.high + 0.1 * stats.sem(d)
    assert interval.estimate == pytest.approx(d.mean(), abs=1e-9)


def test_the_skewed_end_is_where_halls_transformation_of_the_t_statistic_equals_t():
    d = skewed()
    n, quantile = len(d), stats.t.ppf(0.975, len(d) - 1)
    k = ((d - d.mean()) ** 3).mean() / d.std() ** 3 / math.sqrt(n)
    t = (d.mean() - of(mean_difference, d).high) / stats.sem(d)  # of a true mean at the upper end
    assert t + k * t**2 / 3 + k**2 * t**3 / 27 + k / 6 == pytest.approx(-quantile, rel=1e-6)


@quick
@given(d=whole.filter(lambda d: len(d) > 2))
def test_the_interval_turns_with_the_sign_and_moves_with_the_values(d):
    base, turned = of(mean_difference, d), of(mean_difference, -np.array(d))
    assert [turned.low, turned.high] == pytest.approx([-base.high, -base.low], abs=1e-9)
    moved = of(mean_difference, np.array(d) * 0.5 + 7)
    assert [moved.low, moved.high] == pytest.approx([base.low / 2 + 7, base.high / 2 + 7], rel=1e-6)
    wide = of(mean_difference, d, level=0.99)
    assert wide.low <= base.low <= base.estimate <= base.high <= wide.high


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0])
def test_equal_differences_have_an_interval_of_no_width(value):
    interval = of(mean_difference, [value] * 6)
    assert interval.low == interval.estimate == interval.high == value


def test_two_pairs_have_no_interval_of_the_mean():
    interval = of(mean_difference, [0.1, 0.3])
    assert (interval.estimate, interval.method) == (pytest.approx(0.2), "unattainable")
    assert (interval.low, interval.high) == (-math.inf, math.inf)


def test_one_outlier_leaves_the_interval_near_the_data():
    d = np.r_[np.linspace(-1e-6, 1e-6, 40), 1.0]  # a bootstrap-t goes to 36 here
    interval = of(mean_difference, d)
    assert -0.05 < interval.low < 0 < interval.high < 0.2


@pytest.mark.parametrize(("n", "least"), [(3, 0.94), (4, 0.94), (10, 0.94), (20, 0.94)])
def test_the_interval_covers_with_few_pairs(n, least):
    """BCa intervals covered 0.73, 0.81, 0.89 and 0.92 of normal differences."""
    rng = np.random.default_rng(n)
    normal = rng.standard_normal((1500, n))
    covered = [i.low <= 0 <= i.high for i in (of(mean_difference, d) for d in normal)]
    assert np.mean(covered) > least
    skew = rng.standard_exponential((1500, n))
    covered = [i.low <= 1 <= i.high for i in (of(mean_difference, d) for d in skew)]
    students = [stats.ttest_1samp(d, 1).pvalue > 0.05 for d in skew[:1500]]
    assert np.mean(covered) > np.mean(students) + 0.02


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
