"""The simulations of benchmarks/methods.py compute what the report computes, study by study."""

import numpy as np
import pytest

from benchmarks.balanced import Design, Variances, differences, normal_squares, p_values, squares
from reports.statistics import method_difference
from tests.reports.statistics.designs import crossed


@pytest.mark.parametrize(
    ("design", "variances"),
    [
        (Design(5, 3, 6), Variances(0.1, 0.1)),
        (Design(3, 2, 4), Variances(0.0, 0.0)),
        (Design(4, 2, 5), Variances(0.0, 0.3, 0.0, 0.5)),
        (Design(5, 1, 4), Variances(0.0, 0.1)),
        (Design(10, 2, 2), Variances(0.03, 0.0)),
    ],
)
def test_thousands_at_once_are_the_same_as_one_by_one(design, variances):
    drawn = differences(np.random.default_rng(1), 25, design, variances)
    found = p_values(squares(drawn), design)
    fold, training, case = crossed([design.each] * design.folds, design.seeds)
    for study, values in enumerate(drawn):
        labels = {"fold": fold, "training": training, "case": case}
        ours = method_difference(values.ravel(), **labels)
        assert found["methods"][study] == pytest.approx(ours.p, rel=1e-4, abs=1e-9)
        wide = method_difference(values.ravel(), **labels, variance="nadeau-bengio")
        assert found["nadeau-bengio"][study] == pytest.approx(wide.p, rel=1e-4, abs=1e-9)


def test_mean_squares_drawn_are_those_of_drawn_differences():
    design, variances = Design(4, 3, 5), Variances(0.2, 0.1)
    rng = np.random.default_rng(2)
    drawn = squares(differences(rng, 4000, design, variances))
    direct = normal_squares(rng, 4000, design, variances)
    for one, other in zip(drawn, direct, strict=True):
        assert one.var() == pytest.approx(other.var(), rel=0.15)
        assert one.mean() == pytest.approx(other.mean(), rel=0.05, abs=0.02)


@pytest.mark.parametrize("folds", [3, 5, 10])
@pytest.mark.parametrize("shape", ["normal", "skewed"])
def test_the_type_one_error_is_at_most_6_percent(folds, shape):
    """A corner of the table in docs/statistics.md: 3,000 studies a cell."""
    rng = np.random.default_rng(folds)
    for seeds, fold, training in ((1, 0.3, 0.0), (1, 0, 0.3), (3, 0.1, 0.0), (3, 0.03, 0.3)):
        design = Design(folds, seeds, max(30 // folds, 2))
        drawn = differences(rng, 3000, design, Variances(fold, training), shape=shape)
        error = (p_values(squares(drawn), design)["methods"] < 0.05).mean()
        assert error < 0.06 + 2 * np.sqrt(0.05 * 0.95 / 3000)
