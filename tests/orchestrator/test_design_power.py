"""The power that designs promise is what simulated studies find through the report's own test; the
cheapest design that suffices is chosen, and none is offered that could not be tested.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from orchestrator.planning.design import Question, Wanted, alternatives, cheapest
from orchestrator.spec.study import Spec
from reports.statistics import detectable, method_difference, power
from tests.orchestrator.test_design import ASSUMED, SPEC
from tests.reports.statistics.designs import random


def designs(**changed: Any) -> list[Any]:
    ask = Question("row", "T", "dice", 0.01, ASSUMED)
    given: dict[str, Any] = {"folds": [3, 5, 10], "seeds": [1, 3, 5], "cases": [{"T": 200}]}
    given |= {"patients": {}, "wanted": Wanted(0.8, 0.95), "ratio": lambda *_: 1.0, "blocks": {}}
    spec = Spec.model_validate(SPEC | changed.pop("spec", {}))
    return alternatives(spec, changed.pop("questions", [ask]), **given | changed)


def simulated(folds: int, seeds: int, cases: int, difference: float, studies: int) -> float:
    """Share of simulated studies with p methods below 0.05, by the report's own function."""
    rng = np.random.default_rng(folds * 1000 + seeds)
    found = 0
    for _ in range(studies):
        of = random(rng, [cases // folds] * folds, seeds, tuple(ASSUMED.values()), mean=difference)
        found += method_difference(of.differences, **of.labels()).p < 0.05
    return found / studies


def promised_and_found(folds: int, seeds: int, studies: int) -> tuple[float, float]:
    cases = 60
    design = {"folds": folds, "seeds": seeds, "cases": cases}
    difference = detectable(ASSUMED, power=0.8, **design)
    ask = Question("row", "T", "dice", difference, ASSUMED)
    (one,) = designs(questions=[ask], folds=[folds], seeds=[seeds], cases=[{"T": cases}])
    return one.power, simulated(folds, seeds, cases, difference, studies)


@pytest.mark.slow
def test_the_promised_power_is_what_simulated_studies_find() -> None:
    promised, found = promised_and_found(4, 2, 300)
    assert promised == pytest.approx(0.8, abs=1e-6)
    assert found == pytest.approx(promised, abs=0.03 + 2 * math.sqrt(0.16 / 300))


@pytest.mark.slow
@pytest.mark.parametrize(("folds", "seeds"), [(3, 2), (5, 1), (5, 3), (10, 2)])
def test_it_is_within_three_points(folds: int, seeds: int) -> None:
    promised, found = promised_and_found(folds, seeds, 3000)
    assert found == pytest.approx(promised, abs=0.03)


def test_more_trainings_cost_more_and_see_more_and_the_cheapest_that_suffices_is_chosen() -> None:
    found = designs()
    by_design = {(one.folds, one.seeds): one for one in found}
    assert len(found) == 9
    assert by_design[5, 5].power > by_design[5, 1].power
    assert by_design[5, 5].core_hours == pytest.approx(5 * by_design[5, 1].core_hours)
    wanted = Wanted(0.6, 0.95)
    best = cheapest(found, wanted)
    assert best is not None
    assert best.power >= 0.6
    assert all(one.core_hours >= best.core_hours for one in found if one.power >= 0.6)
    assert cheapest(found, Wanted(0.999, 0.95)) is None


def test_repeated_cross_validations_are_trained_and_seen() -> None:
    design = {"folds": [5], "seeds": [1], "cases": [{"T": 60}]}
    (once,) = designs(**design)
    (thrice,) = designs(**design, spec={"splits": {"repeats": 3}})
    of = {"folds": 5, "seeds": 1, "cases": 60, "repeats": 3}
    assert thrice.power == power(0.01, ASSUMED, **of)
    assert thrice.sees == {"dice": detectable(ASSUMED, **of)}
    assert thrice.power > once.power
    assert thrice.trials == 3 * once.trials
    assert thrice.core_hours == pytest.approx(3 * once.core_hours)


def test_the_least_power_of_all_rows_counts() -> None:
    easy, hard = (Question("row", "T", "dice", by, ASSUMED) for by in (0.05, 0.005))
    both = designs(questions=[easy, hard])
    assert [one.power for one in both] == [one.power for one in designs(questions=[hard])]


def test_no_design_is_offered_that_the_report_could_not_test() -> None:
    assert designs(cases=[{"T": 5}]) == []
    assert {one.folds for one in designs(cases=[{"T": 8}])} == {3, 5}
    assert {one.folds for one in designs(patients={"T": 0.02})} == set()


def test_gpu_hours_and_days_follow_resources() -> None:
    (one,) = designs(folds=[5], seeds=[3], ratio=lambda *_: 10_000.0)
    two = {"gpus_per_worker": 0.5, "max_lanes": 2}
    (shared,) = designs(folds=[5], seeds=[3], ratio=lambda *_: 10_000.0, spec={"resources": two})
    assert one.trials == shared.trials == 30
    assert one.gpu_hours == 0
    assert one.seconds == pytest.approx(3600 * one.lane_hours)
    assert shared.gpu_hours == pytest.approx(shared.lane_hours / 2)
    assert shared.seconds == pytest.approx(1800 * shared.lane_hours, rel=0.1)
