"""Power of a repeated cross-validation: rough, but never wide of what simulated studies find."""

import math

import numpy as np
import pytest

from reports.statistics import detectable, method_difference, power

COMPONENTS = {"fold": 0.1, "training": 0.1, "case": 1.0, "rest": 0.3}


def repeated(rng, folds, seeds, cases, repeats, variances, mean):
    """Differences of several cross-validations of the same cases, with their labels."""
    fold_sd, training_sd, case_sd, rest_sd = np.sqrt(list(variances.values()))
    of_case = rng.normal(0, case_sd, cases)
    rows = []
    for repeat in range(repeats):
        shuffled = rng.permutation(cases).reshape(folds, -1)
        for fold, tested in enumerate(shuffled):
            of_fold = rng.normal(0, fold_sd)
            for seed in range(seeds):
                of_training = of_fold + rng.normal(0, training_sd)
                for case in tested:
                    value = mean + of_training + of_case[case] + rng.normal(0, rest_sd)
                    rows.append((value, fold, seed, int(case), repeat))
    return rows


@pytest.mark.parametrize("variance", ["independent", "nadeau-bengio"])
def test_more_repeats_see_smaller_differences_and_what_is_detectable_has_its_power(variance):
    design = {"folds": 5, "seeds": 1, "cases": 60, "variance": variance}
    seen = [detectable(COMPONENTS, repeats=repeats, **design) for repeats in (2, 3, 5)]
    assert seen == sorted(seen, reverse=True)
    assert power(seen[0], COMPONENTS, repeats=2, **design) == pytest.approx(0.8, abs=1e-6)


def test_where_training_sets_do_not_matter_repeats_cannot_beat_the_cases():
    still = COMPONENTS | {"fold": 0.0, "training": 0.0, "rest": 1e-6}
    design = {"folds": 5, "seeds": 1, "cases": 60}
    many = detectable(still, repeats=50, **design)
    assert many > 2.8 * math.sqrt(1 / 60)  # 1.96 + 0.84 standard errors of the mean over cases


def test_no_training_set_no_design():
    with pytest.raises(ValueError, match="one training set says nothing"):
        power(0.1, COMPONENTS | {"fold": math.nan}, folds=5, seeds=1, cases=60, repeats=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folds", "seeds", "cases", "repeats", "fold"),
    [(5, 1, 40, 3, 0.0), (5, 1, 40, 3, 0.1), (3, 2, 30, 2, 0.0), (5, 2, 60, 2, 0.3)],
)
def test_simulated_studies_find_about_that_and_err_in_five_percent_at_most(
    folds, seeds, cases, repeats, fold
):
    variances = COMPONENTS | {"fold": fold}
    design = {"folds": folds, "seeds": seeds, "cases": cases, "repeats": repeats}
    rng = np.random.default_rng(7)
    found = []
    for mean in (detectable(variances, **design), 0.0):
        p = []
        for _ in range(300):
            rows = repeated(rng, folds, seeds, cases, repeats, variances, mean)
            d, in_fold, training, case, repeat = (list(of) for of in zip(*rows, strict=True))
            labels = {"fold": in_fold, "training": training, "case": case, "repeat": repeat}
            p.append(method_difference(d, **labels).p)
        found.append((np.array(p) < 0.05).mean())
    assert found[0] == pytest.approx(0.8, abs=0.1)
    assert found[1] < 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / 300)
