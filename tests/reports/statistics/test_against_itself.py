"""A model against itself: every two of its seeds, tested as two models would be."""

import math

import numpy as np
import pytest

from reports.statistics import method_difference, paired_wilcoxon, self_comparison
from tests.reports.statistics.designs import crossed, effects


def scores(rng, folds, seeds, cases, training):
    """Scores of one model whose trainings differ by a variance."""
    fold, seed, case = crossed([cases] * folds, seeds)
    return effects(fold, seed, case, (0, training, 1, 0.3), rng.standard_normal), fold, seed, case


def test_a_model_whose_trainings_differ_is_significant_against_itself_over_cases():
    values, fold, seed, case = scores(np.random.default_rng(2), 5, 6, 40, training=0.2)
    found = self_comparison(values, fold=fold, seed=seed, case=case)
    assert found.pairs == 15 == len(found.p_cases)
    assert found.cases_share > 0.3 > 0.15 > found.methods_share
    assert found.typical == pytest.approx(np.median(np.abs(found.differences)))
    assert found.largest == max(map(abs, found.differences))


def test_every_pair_is_tested_as_two_models_would_be():
    values, fold, seed, case = scores(np.random.default_rng(3), 4, 3, 9, training=0.3)
    found = self_comparison(values, fold=fold, seed=seed, case=case)
    pairs = [(0, 1), (0, 2), (1, 2)]
    for place, (one, other) in enumerate(pairs):
        first, second = values[seed == one], values[seed == other]
        assert found.p_cases[place] == paired_wilcoxon(first, second).p
        rows = seed == one
        expected = method_difference(
            first - second, fold=fold[rows], training=seed[rows], case=case[rows]
        )
        assert found.p_methods[place] == pytest.approx(expected.p)
        assert found.differences[place] == pytest.approx((first - second).mean())


def test_misses_rank_over_cases_and_are_capped_in_the_mean():
    fold, seed, case = crossed([8, 8, 8], 2)
    values = np.where(seed == 0, 5.0, 4.0) + case / 10
    values[0] = math.inf  # seed 0 missed the first case
    capped = np.where(np.isinf(values), 104.0, values)
    found = self_comparison(values, fold=fold, seed=seed, case=case, capped=capped)
    assert found.p_cases == (paired_wilcoxon(values[seed == 0], values[seed == 1]).p,)
    assert found.differences[0] == pytest.approx((23 * 1 + 100) / 24)
    with pytest.raises(ValueError, match="infinite"):
        self_comparison(values, fold=fold, seed=seed, case=case)


def test_a_hold_out_tests_no_method_and_few_cases_test_nothing():
    values, fold, seed, case = scores(np.random.default_rng(4), 1, 3, 20, training=0.1)
    found = self_comparison(values, fold=fold, seed=seed, case=case)
    assert math.isnan(found.methods_share)
    assert not math.isnan(found.cases_share)
    few = case < 4
    found = self_comparison(values[few], fold=fold[few], seed=seed[few], case=case[few])
    assert math.isnan(found.cases_share)
    one = seed == 0
    alone = self_comparison(values[one], fold=fold[one], seed=seed[one], case=case[one])
    assert alone.pairs == 0
    assert math.isnan(alone.typical)


def test_a_case_that_does_not_apply_is_left_out_and_a_double_one_refused():
    values, fold, seed, case = scores(np.random.default_rng(5), 3, 2, 8, training=0.1)
    with_gap = values.copy()
    with_gap[0] = math.nan
    kept = ~((fold == 0) & (case == 0))
    left = self_comparison(with_gap, fold=fold, seed=seed, case=case)
    assert left == self_comparison(values[kept], fold=fold[kept], seed=seed[kept], case=case[kept])
    with pytest.raises(ValueError, match="case 0 of fold 0 has two scores from seed 0"):
        self_comparison([1, 2], fold=[0, 0], seed=[0, 0], case=[0, 0])


def test_folds_with_one_training_set_are_its_trainings():
    values, fold, seed, case = scores(np.random.default_rng(6), 4, 2, 8, training=0.1)
    found = self_comparison(values, fold=fold, seed=seed, case=case, training_set=fold // 2)
    of = seed == 0
    expected = method_difference(
        values[of] - values[~of],
        fold=fold[of] // 2,
        training=fold[of],
        case=10 * fold[of] + case[of],
    )
    assert found.p_methods[0] == pytest.approx(expected.p)
    assert expected.folds == 2


def test_of_many_seeds_some_pairs_are_drawn_and_always_the_same():
    values, fold, seed, case = scores(np.random.default_rng(7), 3, 8, 5, training=0.1)
    labels = {"fold": fold, "seed": seed, "case": case}
    every, some = (self_comparison(values, **labels, most=most) for most in (None, 6))
    assert (every.pairs, some.pairs, some.possible) == (28, 6, 28)
    assert self_comparison(values, **labels, most=6) == some
    whole = dict(zip(every.seeds, every.p_methods, strict=True))
    assert some.p_methods == pytest.approx([whole[pair] for pair in some.seeds])


def test_seeds_that_tested_other_cases_are_compared_over_those_of_both():
    values, fold, seed, case = scores(np.random.default_rng(8), 3, 3, 9, training=0.1)
    kept = ~((seed == 2) & (fold == 1) & (case < 3))
    found = self_comparison(values[kept], fold=fold[kept], seed=seed[kept], case=case[kept])
    both = kept[seed == 2]
    for pair, p in zip(found.seeds, found.p_methods, strict=True):
        shared = both if 2 in pair else np.full(27, True)
        one, other = (values[seed == name][shared] for name in pair)
        labels = {"fold": fold[seed == 0][shared], "case": case[seed == 0][shared]}
        expected = method_difference(one - other, training=[0] * len(one), **labels)
        assert p == pytest.approx(expected.p, rel=1e-4)


def test_cross_validations_of_the_same_cases_are_one_score_a_case():
    rng = np.random.default_rng(9)
    order = np.concatenate([np.arange(24), rng.permutation(24)])  # cases in two cross-validations
    fold, repeat = np.tile(np.arange(48) // 6, 2), np.tile(np.arange(48) // 24, 2)
    case, seed = np.tile(order, 2), np.repeat([0, 1], 48)
    values = (
        rng.normal(0, 0.3, 24)[case]
        + rng.normal(0, 1, 96)
        + rng.normal(0, 0.3, 16)[fold + 8 * seed]
    )
    found = self_comparison(values, fold=fold, seed=seed, case=case, repeat=repeat)
    d = values[:48] - values[48:]
    means = [
        np.array([of[order == c].mean() for c in range(24)]) for of in (values[:48], values[48:])
    ]
    assert found.p_cases == (paired_wilcoxon(*means).p,)
    expected = method_difference(
        d, fold=fold[:48], training=[0] * 48, case=order, repeat=repeat[:48]
    )
    assert found.p_methods[0] == pytest.approx(expected.p)
    assert found.differences[0] == pytest.approx(d.mean())
