"""Estimates: the hierarchical ratio, the order, and the time of finish."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvision.data.splits import Roles
from orchestrator.planning.cost import (
    CostModel,
    Forecast,
    Work,
    arithmetic_seconds,
    longest_first,
    makespan,
)
from orchestrator.spec.study import Spec
from tests.record.builders import commits, study_plan

MODELS, TASKS = ("a", "b", "c"), ("S", "T")
positive = st.floats(1e-3, 1e6)
observations = st.lists(
    st.tuples(st.sampled_from(MODELS), st.sampled_from(TASKS), positive, positive), max_size=30
)
quick = settings(deadline=None, max_examples=60)


def taught(seen: list[tuple[str, str, float, float]]) -> CostModel:
    model = CostModel(
        {str(number): Work(m, t, arithmetic) for number, (m, t, arithmetic, _) in enumerate(seen)}
    )
    for number, (_, _, _, seconds) in enumerate(seen):
        model.learn(str(number), seconds)
    return model


def ratios(model: CostModel) -> list[float]:
    return [
        model.ratio(*group) for group in itertools.product([*MODELS, "unseen"], [*TASKS, "unseen"])
    ]


def test_without_data_the_estimate_is_the_arithmetic() -> None:
    model = CostModel({"x": Work("a", "T", 12.5)})
    assert model.seconds("x") == 12.5
    assert ratios(model) == [1.0] * 12


def test_the_first_finished_trial_moves_all_estimates_its_own_group_most() -> None:
    model = taught([("a", "T", 10.0, 40.0)])
    assert model.ratio("a", "T") == pytest.approx(4.0)
    assert model.ratio("b", "S") == pytest.approx(4.0)  # nothing else is known
    model = taught([("a", "T", 10.0, 40.0), ("b", "T", 10.0, 10.0)])
    assert model.ratio("unseen", "T") == pytest.approx(2.0)  # the geometric mean of 4 and 1
    assert 2.0 < model.ratio("a", "S") < model.ratio("a", "T") < 4.0
    assert 1.0 < model.ratio("b", "T") < model.ratio("b", "S") < 2.0


@given(observations)
@quick
def test_ratios_are_positive_and_lie_within_what_was_seen(
    seen: list[tuple[str, str, float, float]],
) -> None:
    found = ratios(taught(seen))
    measured = [seconds / arithmetic for _, _, arithmetic, seconds in seen] or [1.0]
    assert all(min(measured) * (1 - 1e-9) <= ratio <= max(measured) * (1 + 1e-9) for ratio in found)


@given(observations.filter(len), st.data())
@quick
def test_a_trial_that_takes_longer_lowers_no_estimate(
    seen: list[tuple[str, str, float, float]], data: st.DataObject
) -> None:
    which = data.draw(st.integers(0, len(seen) - 1))
    slower = [
        (*entry[:3], entry[3] * 3) if number == which else entry
        for number, entry in enumerate(seen)
    ]
    assert all(
        b >= a * (1 - 1e-12)
        for a, b in zip(ratios(taught(seen)), ratios(taught(slower)), strict=True)
    )


@given(observations, positive)
@quick
def test_another_unit_of_time_changes_the_unit_of_the_estimates_only(
    seen: list[tuple[str, str, float, float]], factor: float
) -> None:
    scaled = [(m, t, arithmetic, seconds * factor) for m, t, arithmetic, seconds in seen]
    expected = np.array(ratios(taught(seen))) * (factor if seen else 1)
    assert ratios(taught(scaled)) == pytest.approx(expected)


def test_planted_ratios_are_found_and_noise_is_averaged() -> None:
    rng = np.random.default_rng(0)
    planted = {group: rng.lognormal(0, 1) for group in itertools.product(MODELS, TASKS)}
    seen = [
        (*group, 10.0, 10.0 * ratio * rng.lognormal(0, 0.2))
        for group, ratio in planted.items() if group != ("c", "T") for _ in range(200)
    ]  # fmt: skip
    model = taught(seen)
    for group, ratio in planted.items():
        if group != ("c", "T"):
            assert model.ratio(*group) == pytest.approx(ratio, rel=0.06)
    assert model.ratio("c", "T") == pytest.approx(
        model.ratio("c", "S"), rel=0.02
    )  # the model is known, its task is not


def test_the_model_with_most_trials_does_not_speak_for_all() -> None:
    model = taught([("a", "T", 1.0, 1.0)] * 1000 + [("b", "T", 1.0, 9.0)] * 5)
    assert 2.0 < model.ratio("unseen", "T") < 3.0


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_time_and_what_trained_nothing_teach_nothing(seconds: float) -> None:
    model = CostModel(
        {
            "x": Work("a", "T", 10.0),
            "r": Work("a", "T", 0.1, rescore=True),
            "z": Work("a", "T", 0.0),
        }
    )
    for name in ("x", "r", "z", "of another study"):
        model.learn(name, seconds if name == "x" else 5.0)
    assert model.ratio("a", "T") == 1.0
    model.learn("x", 20.0)
    model.learn("x", 2000.0)  # told twice
    assert model.seconds("x") == pytest.approx(20.0)
    assert model.seconds("r") == pytest.approx(0.2)


def test_a_stored_study_gives_the_same_model() -> None:
    works = {"e1": Work("a", "T", 10.0, 2.0), "e2": Work("a", "S", 20.0, 2.0)}
    plan = study_plan(
        trials=[
            {
                "eval_id": name,
                "model": w.model,
                "task": w.task,
                "arithmetic_seconds": w.arithmetic,
                "gpus": w.gpus,
            }
            for name, w in works.items()
        ]
    )
    finished = commits({"e1": {"cost": {"seconds": 30.0}}, "other": {"cost": {"seconds": 1e9}}})
    taken = {name: marker.cost.seconds for name, marker in finished.items()}
    model = CostModel.of_study(plan.trials, taken)
    assert model.works == works
    assert model.seconds("e2") == pytest.approx(60.0)
    assert model.forecast(["e2"], 1) == Forecast(
        pytest.approx(120 / 3600), pytest.approx(60 / 3600), pytest.approx(60.0)
    )


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=40), st.integers(1, 50))
@quick
def test_the_time_of_finish_keeps_to_its_bounds(durations: list[float], lanes: int) -> None:
    found = makespan(longest_first(durations, lambda x: x), lanes)
    bound = max(sum(durations) / lanes, max(durations))
    assert bound <= found * (1 + 1e-12) + 1e-9
    assert (
        found <= sum(durations) / lanes + max(durations) + 1e-6
    )  # any list schedule (Graham 1966)
    if lanes >= len(durations):
        assert found == max(durations)


def test_longest_first_is_no_longer_than_four_thirds_of_the_best() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        durations = rng.integers(1, 20, 7).astype(float).tolist()
        best = min(makespan(order, 3) for order in itertools.permutations(durations))
        assert makespan(longest_first(durations, lambda x: x), 3) <= 4 / 3 * best
    assert makespan([], 4) == 0.0


def test_running_trials_count_with_what_is_left_of_them() -> None:
    model = CostModel(
        {
            name: Work("a", "T", seconds, 0.5)
            for name, seconds in (("x", 100.0), ("y", 60.0), ("z", 50.0))
        }
    )
    found = model.forecast(["x", "y", "z"], 2, {"z": 40.0, "x": 500.0})
    assert found.lane_hours == pytest.approx(
        (0 + 10 + 60) / 3600
    )  # x is late, and may end any moment
    assert found.gpu_hours == pytest.approx(found.lane_hours / 2)
    assert found.seconds == pytest.approx(60.0)
    assert model.forecast([], 3) == Forecast(0.0, 0.0, 0.0)


def test_order_and_estimate_come_nearer_to_the_truth_as_trials_finish() -> None:
    """Arithmetic that is wrong by model: with a tenth of the trials finished, the plan is nearly
    that of a seer.
    """
    rng = np.random.default_rng(2)
    truth, works = {}, {}
    for number, (m, t) in enumerate(itertools.product("abcdefgh", "STUVW")):
        for repeat in range(8):
            name = f"{number}-{repeat}"
            works[name] = Work(m, t, float(rng.lognormal(3, 1)))
            truth[name] = works[name].arithmetic * (1 + "abcdefgh".index(m)) * rng.lognormal(0, 0.1)
    model = CostModel(works)

    def error(names: list[str]) -> float:
        return float(
            np.median([abs(math.log(model.seconds(name) / truth[name])) for name in names])
        )

    names = list(works)
    rng.shuffle(names)
    before, least = error(names), model.forecast(names, 16).seconds
    for name in names[:32]:
        model.learn(name, truth[name])
    rest = names[32:]
    assert error(rest) < 0.25 * before
    best, planned = (
        makespan([truth[name] for name in longest_first(rest, known)], 16)
        for known in (truth.__getitem__, model.seconds)
    )
    assert planned <= 1.05 * best
    assert least < 0.5 * best
    assert model.forecast(rest, 16).seconds == pytest.approx(best, rel=0.2)


def test_a_model_says_whether_it_was_taught() -> None:
    model = CostModel({"x": Work("a", "T", 10.0)})
    assert not model.is_taught
    model.learn("x", math.nan)
    assert not model.is_taught
    model.learn("x", 1.0)
    assert model.is_taught


def h100_seconds(label: str, precision: str, **resources: float) -> float:
    """The estimate of a step over a batch of four at 128^3, from a training of 1,000 steps."""
    spec = Spec.model_validate(
        {
            "name": "s",
            "models": [label],
            "tasks": ["Task04_Hippocampus"],
            "data": {"image_size": [128] * 3, "patch_size": [8] * 3},
            "training": {"steps": 1000, "precision": precision},
            "resources": {"gpus_per_worker": 1, **resources},
            "comparisons": [],
        }
    )
    roles = Roles(("",) * 400, (), ())
    return arithmetic_seconds(spec, spec.models[0], spec.tasks[0], 1.0, roles, None) / 1000


@pytest.mark.parametrize(
    ("label", "fp32", "bf16"),  # milliseconds measured on an H100 (docs/benchmarks.md)
    [
        ("ViT_Baseline", 109.0, 58.0),
        ("ViT_Depth", 1477.1, 179.8),
        ("UNETR", 197.6, 127.7),
        ("nnU-Net", 198.6, 120.7),
        ("Swin-UNet", 597.2, 437.5),
        ("TransUNet", 127.4, 89.1),
    ],
)
def test_a_gpus_steps_are_estimated_within_a_factor_of_two(
    label: str, fp32: float, bf16: float
) -> None:
    for precision, measured in (("fp32", fp32), ("bf16", bf16)):
        assert 0.5 < 1000 * h100_seconds(label, precision) / measured < 2


def test_a_share_of_a_gpu_computes_less_and_launches_as_fast() -> None:
    depth, small = (
        [h100_seconds(label, "fp32", gpus_per_worker=share) for share in (1, 0.25)]
        for label in ("ViT_Depth", "ViT_Baseline")
    )
    assert depth[1] == pytest.approx(4 * depth[0])
    assert small[1] < 4 * small[0]
