import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reports.statistics import paired_differences, paired_wilcoxon
from reports.statistics.wilcoxon import SignedRankNull, near_level

ZEROS = ("pratt", "wilcox")
# Few distinct sizes, so that ties and zeros are the rule; 9 stands for an infinite difference.
steps = st.lists(st.integers(-4, 4) | st.sampled_from([-9, 9]), max_size=9)
quick = settings(max_examples=150, deadline=None)


def against_zero(d, **options):
    d = np.asarray(d, dtype=float)
    return paired_wilcoxon(d, np.zeros_like(d), **options)


def midranks(sizes):
    """Plain definition: the mean of the positions that equal sizes take in ascending order."""
    ordered = sorted(sizes)
    places = {v: [i for i, w in enumerate(ordered, 1) if w == v] for v in ordered}
    return [Fraction(sum(places[v]), len(places[v])) for v in sizes]


def enumerated(d, zeros):
    """W+, W-, p and the smallest p by going through all signs of the non-zero differences."""
    d = [v for v in d if v] if zeros == "wilcox" else list(d)
    ranks = midranks([abs(v) for v in d])
    signed = [(rank, v > 0) for rank, v in zip(ranks, d, strict=True) if v]
    plus = sum((rank for rank, up in signed if up), Fraction(0))
    total = sum((rank for rank, _ in signed), Fraction(0))
    sums = [
        sum((rank for (rank, _), up in zip(signed, signs, strict=True) if up), Fraction(0))
        for signs in itertools.product((False, True), repeat=len(signed))
    ]
    distances = [abs(2 * w - total) for w in sums]
    share = sum(distance >= abs(2 * plus - total) for distance in distances)
    return plus, total - plus, share / len(sums), distances.count(max(distances)) / len(sums)


@quick
@given(steps, st.sampled_from(ZEROS))
def test_exact_p_is_the_share_of_sign_assignments_at_least_as_extreme(whole, zeros):
    d = np.array([math.copysign(math.inf, v) if abs(v) == 9 else v / 10 for v in whole])
    plus, minus, p, floor = enumerated(whole, zeros)
    result = against_zero(d, zeros=zeros)
    assert (result.w_plus, result.w_minus) == (plus, minus)
    assert result.p == pytest.approx(p, rel=1e-14)
    assert result.p_floor == floor
    assert result.method == "exact"
    sizes = [abs(v) for v in whole if v]
    assert result.n == len(whole)
    assert result.n_zero == whole.count(0)
    assert result.n_tied == sum(sizes.count(size) > 1 for size in sizes)


@quick
@given(
    st.lists(st.integers(-60, 60), min_size=1, max_size=150), st.sampled_from(ZEROS), st.randoms()
)
def test_symmetric_and_blind_to_order_scale_and_common_offset(whole, zeros, random):
    d = np.array(whole) / 100
    base = against_zero(d, zeros=zeros)
    swapped = paired_wilcoxon(np.zeros_like(d), d, zeros=zeros)
    assert (swapped.p, swapped.w_plus, swapped.w_minus) == (base.p, base.w_minus, base.w_plus)
    shuffled = random.sample(whole, len(whole))
    assert against_zero(np.array(shuffled) / 100, zeros=zeros) == base
    assert against_zero(d * 1e3, zeros=zeros) == base
    assert paired_wilcoxon(d + 0.7, np.full_like(d, 0.7), zeros=zeros) == base
    assert base.p_floor <= base.p <= 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=80, unique=True), st.randoms())
def test_agrees_with_scipy_where_there_are_no_ties_or_zeros(sizes, random):
    d = np.array([size * random.choice((-1, 1)) for size in sizes]) / 1e6
    assert against_zero(d).p == pytest.approx(stats.wilcoxon(d, method="exact").pvalue, rel=1e-11)


def whole_number_cdf(ranks, w):
    """P(W <= w) of doubled ranks, counted in whole numbers of any length."""
    counts = {0: 1}
    for rank in ranks:
        grown = dict(counts)
        for total, ways in counts.items():
            grown[total + rank] = grown.get(total + rank, 0) + ways
        counts = grown
    return Fraction(sum(ways for total, ways in counts.items() if total <= w), 2 ** len(ranks))


@pytest.mark.parametrize(
    "ranks", [range(2, 122, 2), [3, 3, 8, 8, 8, 8, 13, 17, 17] * 7, [1], [2, 2], [5, 9, 11]]
)
def test_every_tail_has_full_relative_accuracy(ranks):
    null = SignedRankNull.of(np.array(ranks))
    total = sum(ranks)
    for w in {
        -1,
        0,
        1,
        2,
        5,
        17,
        40,
        total // 7,
        total // 3,
        total // 2,
        total - 1,
        total,
        total + 5,
    }:
        assert null.cdf(w) == pytest.approx(float(whole_number_cdf(ranks, w)), rel=1e-13, abs=0)


def test_a_thousand_pairs_are_exact_down_to_the_smallest_float():
    for d in (np.arange(1, 1001), np.ones(1000)):
        result = against_zero(d)
        assert result.method == "exact"
        assert result.p == result.p_floor == 2.0**-999
    assert (
        against_zero(np.r_[-1, np.arange(2, 1001)]).p == 2.0**-998
    )  # W- = 0 or 1, one assignment each


def test_beyond_a_thousand_pairs_the_normal_approximation_says_so_and_is_close():
    d = np.random.default_rng(4).normal(0.04, 1, 1200).round(2)
    result = against_zero(d)
    ranks = 2 * stats.rankdata(np.abs(d))[d != 0]
    exact = 2 * SignedRankNull.of(ranks.astype(int)).cdf(
        int(2 * min(result.w_plus, result.w_minus))
    )
    assert result.method == "asymptotic"
    assert result.n_zero > 0
    assert result.n_tied > 0
    assert result.p == pytest.approx(exact, rel=2e-3)
    assert result.p_floor == against_zero(np.abs(d)).p


def test_a_long_list_of_mostly_zeros_stays_exact():
    result = against_zero(np.r_[np.zeros(4996), 0.1, 0.2, 0.3, 0.4])
    assert (result.method, result.p, result.p_floor, result.n_zero) == ("exact", 0.125, 0.125, 4996)


@pytest.mark.parametrize(
    ("n", "n_zero", "floor"),
    [(5, 0, 0.0625), (6, 0, 0.03125), (20, 16, 0.125), (2, 0, 0.5), (1, 0, 1.0)],
)
@pytest.mark.parametrize("zeros", ZEROS)
def test_floor_is_what_pairs_of_one_sign_reach(n, n_zero, floor, zeros):
    result = against_zero(np.r_[np.zeros(n_zero), np.linspace(0.1, 0.2, n - n_zero)], zeros=zeros)
    assert result.p == result.p_floor == floor


@pytest.mark.parametrize("zeros", ZEROS)
@pytest.mark.parametrize("n", [0, 1, 7])
def test_without_a_difference_p_is_one(n, zeros):
    same = np.linspace(0.5, 0.9, n)
    result = paired_wilcoxon(same, same, zeros=zeros)
    assert (result.n, result.n_zero, result.p, result.p_floor) == (n, n, 1.0, 1.0)
    assert (result.w_plus, result.w_minus) == (0, 0)


def test_pratt_and_wilcox_treat_zeros_differently():
    d = [0, 0, 0.1, -0.2, 0.3]
    assert (against_zero(d).w_plus, against_zero(d).w_minus) == (8, 4)
    assert (against_zero(d, zeros="wilcox").w_plus, against_zero(d, zeros="wilcox").w_minus) == (
        4,
        2,
    )


def test_floating_point_does_not_break_ties():
    x = np.array([0.1 + 0.2, 0.7, 0.9, 1.1 + 2.2, 0.3, 0.8, 0.5])
    y = np.array([0.2, 0.6, 0.8, 3.2, 0.4, 0.7, 0.1 + 0.4])
    assert len(set(np.abs(x - y).tolist())) > 3  # bare floating point sees sizes that are not there
    result = paired_wilcoxon(x, y)
    assert (result.n_zero, result.n_tied) == (1, 6)
    assert result == against_zero([0.1, 0.1, 0.1, 0.1, -0.1, 0.1, 0])


def test_infinite_values():
    inf = math.inf
    d, dropped = paired_differences(
        [inf, inf, 3, -inf, inf, 1e300], [inf, 2, inf, -inf, -inf, -1e300]
    )
    assert d.tolist() == [0, inf, -inf, 0, inf, 2e300]
    assert dropped == 0
    result = paired_wilcoxon([inf, inf, 3.0, 2.0], [inf, 2.0, inf, 1.0])
    assert (result.n, result.n_zero, result.n_tied) == (4, 1, 2)
    assert (result.w_plus, result.w_minus) == (2 + 3.5, 3.5)
    assert against_zero([inf, -1, -2, -3]).w_plus == 4


def test_nan_on_both_sides_is_dropped_and_counted():
    nan = math.nan
    result = paired_wilcoxon([0.9, nan, 0.8, nan], [0.7, nan, 0.9, nan])
    assert (result.n, result.n_dropped) == (2, 2)
    assert result.p == against_zero([0.2, -0.1]).p


def test_nan_on_one_side_names_every_position():
    nan = math.nan
    with pytest.raises(
        ValueError, match=r"x is NaN at \[1\]; y is NaN at \[0, 3\].*missed structure"
    ):
        paired_wilcoxon([1, nan, nan, 2], [nan, 1, nan, nan])
    with pytest.raises(ValueError, match=r"\[0, 1, .*, 19\] and 30 more"):
        paired_wilcoxon(np.full(50, nan), np.zeros(50))


@pytest.mark.parametrize(
    ("x", "y"), [([1, 2], [1]), ([[1, 2]], [[1, 2]]), (1.0, 2.0), ([1, 2], 1.0)]
)
def test_shapes_that_are_not_pairs_are_refused(x, y):
    with pytest.raises(ValueError, match=r"shapes \(.*pair them by case id"):
        paired_wilcoxon(x, y)


def test_unknown_zeros_are_refused():
    with pytest.raises(ValueError, match=r"\['pratt', 'wilcox'\], but is 'zsplit'"):
        paired_wilcoxon([1, 2], [2, 1], zeros="zsplit")


def test_inputs_are_left_alone_and_may_be_whole_numbers():
    x, y = np.array([3, 1, 2]), np.array([1, 1, 5])
    result = paired_wilcoxon(x, y)
    assert (x.tolist(), y.tolist()) == ([3, 1, 2], [1, 1, 5])
    assert (result.w_plus, result.w_minus) == (2, 3)


@pytest.mark.parametrize("step", [0.0, 0.05, 0.5])
def test_what_is_only_counted_lies_on_the_same_side_of_the_level(step):
    """Ties and zeros included; near the level, and of few pairs, it is the exact p."""
    rng = np.random.default_rng(3)
    for n in (4, 20, 60, 150):
        for mean in np.linspace(0.1, 0.5, 12):
            d = rng.normal(mean, 1.2 * math.sqrt(n / 20), n)
            d = np.round(np.round(d / step) * step if step else d, 9)
            exact, counted = paired_wilcoxon(d, np.zeros(n)), near_level(d)
            if exact.p_floor >= 0.05:
                assert math.isnan(counted)
                continue
            assert (exact.p < 0.05) == (counted < 0.05)
            assert counted == pytest.approx(exact.p, abs=0.003)
            if n - exact.n_zero <= 50 or abs(exact.p - 0.05) < 0.002:
                assert counted == exact.p
