"""The difference between methods: its model, test and interval; designs that cannot test."""

import dataclasses
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reports.statistics import method_difference
from reports.statistics.methods import COMPONENTS, RELAXED, RELAXED_MORE_FOLDS
from tests.reports.statistics.designs import Design, crossed, effects, random

quick = settings(max_examples=25, deadline=None)
seeds_of_chance = st.integers(0, 10_000)
variances = st.tuples(*[st.sampled_from([0.0, 0.1, 1.0])] * 3, st.sampled_from([0.1, 1.0]))


def of(design, **options):
    return method_difference(design.differences, **design.labels(), **options)


def numbers(result):
    """All that a result says in numbers."""
    return np.array(
        [result.estimate, result.se, result.low, result.high, result.p, result.df]
        + [result.components[name] for name in COMPONENTS]
    )


def sometimes(rng, variances):
    """A design with folds of different sizes and a tenth of the cells missing."""
    design = random(rng, rng.integers(3, 8, size=4).tolist(), 3, variances, mean=0.3)
    return design[np.flatnonzero(rng.random(len(design.fold)) > 0.1)]


def mean_squares(design, folds, seeds, cases):
    """Mean squares of a balanced design by fold, training, case and rest."""
    d = design.differences.reshape(folds, seeds, cases)
    fold, cell, case = d.mean((1, 2)), d.mean(2), d.mean(1)
    rest = d - cell[:, :, None] - case[:, None, :] + fold[:, None, None]
    return (
        seeds * cases * ((fold - d.mean()) ** 2).sum() / (folds - 1),
        cases * ((cell - fold[:, None]) ** 2).sum() / (folds * (seeds - 1)),
        seeds * ((case - fold[:, None]) ** 2).sum() / (folds * (cases - 1)),
        (rest**2).sum() / (folds * (seeds - 1) * (cases - 1)),
    )


@quick
@given(chance=seeds_of_chance)
def test_a_balanced_design_is_the_analysis_of_variance_and_the_t_over_fold_means(chance):
    folds, seeds, cases = 4, 3, 6
    design = random(np.random.default_rng(chance), [cases] * folds, seeds, (3, 1, 1, 0.3))
    fold, training, case, rest = mean_squares(design, folds, seeds, cases)
    closed = {
        "fold": (fold - training - case + rest) / (seeds * cases),
        "training": (training - rest) / cases,
        "case": (case - rest) / seeds,
        "rest": rest,
    }
    result = of(design)
    assert result.estimate == pytest.approx(design.differences.mean(), abs=1e-8)
    if min(closed.values()) > 0:  # otherwise a component is 0 and the others take its part
        assert result.components == pytest.approx(closed, rel=1e-6, abs=1e-8)
    if result.method == "folds":
        means = design.differences.reshape(folds, -1).mean(1)
        assert result.p == pytest.approx(stats.ttest_1samp(means, 0).pvalue, rel=1e-6)
        interval = stats.ttest_1samp(means, 0).confidence_interval(0.95)
        assert (result.low, result.high) == pytest.approx(tuple(interval), rel=1e-6)


@quick
@given(chance=seeds_of_chance, variances=variances)
def test_the_order_of_rows_and_the_names_of_levels_do_not_matter(chance, variances):
    rng = np.random.default_rng(chance)
    design = sometimes(rng, variances)
    shuffled = design[rng.permutation(len(design.fold))]
    renamed = Design(
        shuffled.differences,
        [("d", "b", "a", "c")[fold] for fold in shuffled.fold],
        [f"seed {seed * 7 % 5}" for seed in shuffled.training],
        [f"{fold}/{-case}" for fold, case in zip(shuffled.fold, shuffled.case, strict=True)],
    )
    assert numbers(of(renamed)) == pytest.approx(numbers(of(design)), rel=1e-5, abs=1e-7)
    assert of(renamed).method == of(design).method


@quick
@given(chance=seeds_of_chance, variances=variances, shift=st.sampled_from([-3.0, 50.0]))
def test_shift_and_scale_go_through(chance, variances, shift):
    design = sometimes(np.random.default_rng(chance), variances)
    base = of(design)
    moved = of(design._replace(differences=design.differences + shift))
    assert moved.components == pytest.approx(base.components, rel=1e-4, abs=1e-7)
    ends = np.array([base.estimate, base.low, base.high])
    assert [moved.estimate, moved.low, moved.high] == pytest.approx(ends + shift, rel=1e-6)
    scaled = of(design._replace(differences=-4 * design.differences))
    assert (scaled.p, scaled.df) == pytest.approx((base.p, base.df), rel=1e-4)
    assert [scaled.estimate, scaled.high, scaled.low] == pytest.approx(-4 * ends, rel=1e-6)
    assert scaled.components["rest"] == pytest.approx(16 * base.components["rest"], rel=1e-4)


@quick
@given(chance=seeds_of_chance, variances=variances, level=st.sampled_from([0.8, 0.95, 0.999]))
def test_the_interval_leaves_0_out_just_where_p_is_below_its_level(chance, variances, level):
    design = sometimes(np.random.default_rng(chance), variances)
    for variance in ("independent", "nadeau-bengio"):
        result = of(design, level=level, variance=variance)
        assert (result.low > 0 or result.high < 0) == (result.p < 1 - level)
        assert result.low <= result.estimate <= result.high
        half = result.scale * stats.t.ppf((1 + level) / 2, result.df)
        assert result.estimate + half == pytest.approx(result.high)


@quick
@given(chance=seeds_of_chance, folds=st.sampled_from([2, 3, 5]))
def test_no_p_is_below_what_components_say_nor_far_below_what_folds_say(chance, folds):
    design = random(np.random.default_rng(chance), [6] * folds, 2, (0, 0.2, 1, 0.3), mean=0.5)
    result = of(design)
    means = design.differences.reshape(folds, -1).mean(1)
    by_folds = stats.ttest_1samp(means, 0).pvalue
    relaxed = RELAXED.get(folds, RELAXED_MORE_FOLDS) if result.method == "pooled" else 1
    assert result.p >= by_folds / relaxed * (1 - 1e-6)
    assert of(design, variance="nadeau-bengio").p >= by_folds * (1 - 1e-6)


def test_a_pooled_test_is_the_larger_of_two():
    """Fold means 1, 1, 1 and 1.3: alone they are sure of a difference that no case shows."""
    fold, training, case = crossed([4] * 4, 1)
    values = np.tile([-5.0, -1.0, 3.0, 7.0], 4) + np.repeat([0.0, 0.0, 0.0, 0.3], 4)
    result = method_difference(values, fold=fold, training=training, case=case)
    assert result.method == "pooled"
    assert stats.ttest_1samp([1, 1, 1, 1.3], 0).pvalue < 0.001
    assert result.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=1e-6)
    assert result.p > 0.3


def test_nadeau_and_bengio_by_hand():
    design = random(np.random.default_rng(3), [9] * 5, 2, (1, 0.1, 1, 0.3), mean=1.0)
    means = design.differences.reshape(5, -1).mean(1)
    error = math.sqrt((1 / 5 + 1 / 4) * means.var(ddof=1))
    result = of(design, variance="nadeau-bengio")
    assert result.method == "nadeau-bengio"
    assert result.p == pytest.approx(2 * stats.t.sf(abs(means.mean()) / error, 4), rel=1e-6)


def test_one_fold_is_one_training_set_and_tests_no_method():
    for seeds in (1, 3):
        design = random(np.random.default_rng(0), [30], seeds, (0, 0.3, 1, 0.3), mean=0.4)
        result = of(design)
        assert result.method == "not testable: one training set"
        assert not result.testable
        assert result.estimate == pytest.approx(design.differences.mean())
        assert np.isnan([result.p, result.low, result.high, result.se, result.df]).all()
        assert math.isnan(result.components["fold"])
        assert result.components["rest"] > 0
        assert math.isnan(result.components["training"]) == (seeds == 1)


@pytest.mark.parametrize(
    ("cases", "seeds", "known"),
    [
        (
            6,
            1,
            {"fold", "rest"},
        ),  # a training a fold: its effect is the fold's; a case's is the rest
        (
            1,
            4,
            {"fold", "rest"},
        ),  # a case a fold: its effect is the fold's; a training's is the rest
        (1, 1, {"rest"}),
        (6, 3, {"fold", "training", "case", "rest"}),
    ],
)
def test_what_a_design_cannot_tell_apart_is_not_given(cases, seeds, known):
    design = random(np.random.default_rng(1), [cases] * 5, seeds, (1, 0.3, 1, 0.3), mean=0.5)
    result = of(design)
    assert {name for name, value in result.components.items() if not math.isnan(value)} == known
    means = design.differences.reshape(5, -1).mean(1)
    if result.method == "folds":
        assert result.p == pytest.approx(stats.ttest_1samp(means, 0).pvalue, rel=1e-6)
    assert result.testable


def test_seeds_that_change_nothing_are_one_training():
    fold, training, case = crossed([8] * 5, 3)
    rng = np.random.default_rng(2)
    values = effects(fold, training, case, (0.5, 0, 1, 0), rng.standard_normal)
    several = method_difference(values, fold=fold, training=training, case=case)
    first = training == 0
    one = method_difference(
        values[first], fold=fold[first], training=training[first], case=case[first]
    )
    assert (several.p, several.low, several.se) == pytest.approx((one.p, one.low, one.se))
    assert several.components["training"] == several.components["rest"] == 0
    assert several.components["case"] == one.components["rest"]
    assert (several.n, several.trainings) == (120, 15)


def test_equal_differences():
    fold, training, case = crossed([5] * 3, 2)
    nothing = method_difference(np.zeros(30), fold=fold, training=training, case=case)
    assert (nothing.p, nothing.low, nothing.high, nothing.se) == (1, 0, 0, 0)
    constant = method_difference(np.full(30, 0.1), fold=fold, training=training, case=case)
    assert constant.estimate == 0.1
    assert constant.method == "not testable: all differences are equal"


def test_a_repeated_cross_validation_does_not_count_its_cases_twice():
    """Ten repeats of the same values: 50 cases remain 50 cases."""
    rng = np.random.default_rng(5)
    value = rng.standard_normal(50)
    rows = [
        (value[case] + 0.01 * rng.standard_normal(), place % 5, 0, case, repeat)
        for repeat in range(10)
        for place, case in enumerate(rng.permutation(50))
    ]
    values, fold, training, case, repeat = map(list, zip(*rows, strict=True))
    result = method_difference(values, fold=fold, training=training, case=case, repeat=repeat)
    assert result.se == pytest.approx(value.std(ddof=1) / math.sqrt(50), rel=0.02)
    nested = method_difference(
        values, fold=[*zip(fold, repeat, strict=True)], training=training, case=case
    )
    assert nested.se < result.se / 2.5
    assert (result.folds, result.cases, nested.cases) == (50, 50, 500)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fold": [0]}, "6 differences and 1 labels of fold"),
        ({"differences": [1, 2, math.inf, 4, math.nan, 6]}, r"not at \[2, 4\]"),
        ({"case": [0, 0, 1, 0, 1, 2]}, r"2 differences from one training \(positions \[0, 1\]"),
        ({"level": 1.0}, "level must lie between 0 and 1"),
        ({"variance": "bengio"}, "variance must be one of"),
    ],
)
def test_what_it_refuses(change, message):
    given = {
        "differences": [1, 2, 3, 4, 5, 6],
        "fold": [0, 0, 0, 1, 1, 1],
        "training": [0] * 6,
        "case": [0, 1, 2, 0, 1, 2],
    } | change
    with pytest.raises(ValueError, match=message):
        method_difference(given.pop("differences"), **given)


def test_a_result_travels_between_processes_and_into_json():
    result = of(random(np.random.default_rng(0), [5] * 3, 2, (1, 0.1, 1, 0.3)))
    assert pickle.loads(pickle.dumps(result)) == result  # noqa: S301  # our own bytes
    assert dataclasses.asdict(result)["components"].keys() == set(COMPONENTS)


@pytest.mark.parametrize("folds", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_the_type_one_error_holds_where_pooling_alone_fails(folds):
    """A fold component that is often estimated as 0: 600 studies, 3 standard errors of room."""
    rng = np.random.default_rng(17)
    results = [of(random(rng, [10] * folds, 1, (0.3, 0, 1, 0.3))) for _ in range(600)]
    rejected = np.mean([result.p < 0.05 for result in results])
    assert rejected < 0.055 + 3 * math.sqrt(0.05 * 0.95 / 600)
    assert any(result.method == "pooled" for result in results)
