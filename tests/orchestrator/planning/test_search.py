"""The search before the grid: no test case leaks into it, every model gets the same, an
interruption changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvision.data.grouping import patients_of
from medvision.data.splits import make_folds, reserve
from orchestrator.planning.found import Inputs, TaskInputs
from orchestrator.planning.inputs import InputError, gathered
from orchestrator.planning.search import searches, tuning_roles
from orchestrator.planning.suggestions import is_hopeless, medians, suggest, winner
from orchestrator.spec.search import SearchSpec
from orchestrator.spec.study import Spec
from orchestrator.spec.yaml_file import SpecError, load_spec
from record.search import SearchTrial

TASK = "Task99_Spheres"
SPACE = "{training.lr: {log: [1.0e-3, 1.0e-2]}, training.weight_decay: {choices: [0, 1.0e-2]}}"
SEARCH = f"search={{trials: 3, parallel: 2, epochs: 2, reserved_fraction: 0.34, space: {SPACE}}}"
VOLUMES = {f"case_{index:02d}": float(index) for index in range(20)}
quick = settings(deadline=None, max_examples=60)


def spec_of(**search: Any) -> Spec:
    given = {
        "space": {
            "training.lr": {"log": [1e-4, 1e-1]},
            "training.weight_decay": {"choices": [0, 0.01]},
        },
        **search,
    }
    models = ["ViT_Baseline", {"label": "ViT_MLP", "depth": 2}]
    return Spec.model_validate(
        {"name": "s", "models": models, "tasks": ["T"], "folds": 4, "search": given}
    )


def inputs_of(spec: Spec) -> Inputs:
    assert spec.search
    reserved = reserve(VOLUMES, share=0.3, seed=0) if spec.search.cases == "reserved" else ()
    rest = {case: volume for case, volume in VOLUMES.items() if (case,) not in reserved}
    folds = make_folds(rest, scheme="kfold", seed=0, folds=spec.folds)
    return Inputs(
        {"T": TaskInputs(tuple(folds), {case: f"f-{case}" for case in VOLUMES}, reserved=reserved)},
        {},
    )


def record(
    number: int, value: float | None, *, state: str = "complete", steps: Sequence[int] = (1, 2, 3)
) -> SearchTrial:
    curve = [(step, (value or 0) * step / steps[-1]) for step in steps] if state != "failed" else []
    lr = 0.001 * (number + 1)
    chosen = {"training.lr": lr, "training.weight_decay": 0}
    return SearchTrial(
        number=number, settings=chosen, state=state, value=value, curve=curve, reason="why"
    )


# Which cases


@given(st.integers(8, 60), st.floats(0.1, 0.5), st.integers(0, 4), st.integers(1, 3))
@quick
def test_reserved_patients_are_in_no_role_of_any_fold(
    patients: int, share: float, seed: int, visits: int
) -> None:
    volumes = {f"p{p:02d}_v{v}": float(p) for p in range(patients) for v in range(visits)}
    named = patients_of(volumes, group_pattern=r"^(p\d+)_")
    reserved = reserve(volumes, share=share, seed=seed, patients=named)
    assert len(reserved) == round(share * patients)
    assert all(len(unit) == visits for unit in reserved)
    taken = {case for unit in reserved for case in unit}
    rest = {case: volume for case, volume in volumes.items() if case not in taken}
    for fold in make_folds(rest, scheme="kfold", seed=seed, folds=3, patients=named):
        roles, tuning = fold.roles(1.0), tuning_roles(reserved, fold)
        assert taken.isdisjoint((*roles.train, *roles.validation, *roles.test))
        assert {*tuning.train, *tuning.validation} == taken
        assert not tuning.test


@given(st.integers(8, 60), st.integers(0, 4))
@quick
def test_a_nested_search_never_sees_its_folds_test_cases(count: int, seed: int) -> None:
    for fold in make_folds(
        {f"c{c}": float(c) for c in range(count)}, scheme="kfold", seed=seed, folds=4
    ):
        tuning, roles = tuning_roles((), fold), fold.roles(1.0)
        assert not {*tuning.train, *tuning.validation, *tuning.test} & set(fold.test)
        assert (tuning.train, tuning.validation) == (roles.train, roles.validation)


def test_reserved_cases_are_spread_over_the_volumes() -> None:
    chosen = sorted(VOLUMES[case] for (case,) in reserve(VOLUMES, share=0.25, seed=3))
    assert [int(volume) // 4 for volume in chosen] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("cases", ["reserved", "nested"])
def test_no_case_of_a_task_is_tested_and_searched_on(tiny_spec: Path, cases: str) -> None:
    spec = load_spec(tiny_spec, [SEARCH, f"search.cases={cases}", "fractions=[0.5, 1.0]"])
    inputs = gathered(spec)
    found = searches(spec, inputs)
    assert len(found) == (2 if cases == "reserved" else 6)
    for search in found:
        for number, fold in enumerate(inputs.tasks[TASK].folds):
            if search.fold in (None, number):
                assert not {*search.roles.train, *search.roles.validation} & set(fold.test)


def test_too_few_cases_to_reserve_say_what_to_do(tiny_spec: Path) -> None:
    with pytest.raises(
        InputError, match=r"search.reserved_fraction: 0.2 leaves the search 3 cases .* it needs 5"
    ):
        gathered(load_spec(tiny_spec, [SEARCH, "search.reserved_fraction=0.2"]))


# What is tried


def test_suggestions_follow_from_the_trials_so_far_and_lie_in_the_space() -> None:
    search = spec_of().search
    assert search
    before = [record(0, 0.1), record(1, None, state="failed"), record(2, 0.3, state="pruned")]
    first, again = suggest(search, before, 4), suggest(search, before, 4)
    assert first == again
    assert first != suggest(search, before[:2], 4)
    assert all(
        1e-4 <= one["training.lr"] <= 1e-1 and one["training.weight_decay"] in (0, 0.01)
        for one in first
    )
    turned = search.model_copy(update={"space": dict(reversed(search.space.items()))})
    assert suggest(turned, before, 4) == first


def test_a_trial_is_pruned_below_the_median_of_the_complete_ones_only() -> None:
    four = [record(number, value) for number, value in enumerate((0.2, 0.4, 0.6, 0.8))]
    assert medians(four) == []
    limits = medians([*four, record(4, 0.9, state="pruned"), record(5, 1.0)])
    assert limits == [(1, pytest.approx(0.2)), (2, pytest.approx(0.4)), (3, pytest.approx(0.6))]
    assert is_hopeless([(1, 0.1)], limits)
    assert not is_hopeless([(1, 0.5), (2, 0.1)], limits)  # its best counts
    assert not is_hopeless([(1, 0.1)], [])
    assert not is_hopeless([], limits)
    late = medians([record(number, 0.5, steps=range(1, 9)) for number in range(5)])
    assert [step for step, _ in late] == [2, 3, 4, 5, 6, 7, 8]  # the first quarter is never pruned


def test_the_best_complete_trial_wins_the_earlier_of_equals() -> None:
    records = [record(0, 0.5), record(1, 0.7), record(2, 0.7), record(3, 0.9, state="pruned")]
    best = winner([*records, record(4, None, state="failed")])
    assert best is not None
    assert best.number == 1
    assert winner([record(0, None, state="failed")]) is None


# Rounds, with trials that train nothing


# Winners and ids


# What a spec may say


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("{trials: 3}", "search.space: this key is required"),
        ("{space: {training.lrr: {log: [1, 2]}}}", "unknown setting 'lrr'; known: augmentation"),
        (
            "{space: {training.lr: {uniform: [-1, 1]}}}",
            "training.lr: Input should be greater than 0, got -1",
        ),
        (
            "{space: {training.optimizer: {choices: [adam, rmsprop]}}}",
            "training.optimizer: Input should be 'adam', 'adamw' or 'sgd', got 'rmsprop'",
        ),
        ("{space: {training.epochs: {integers: [1, 2]}}}", "training.epochs cannot be searched"),
        ("{space: {training.lr: {log: [2, 1]}}}", "the lowest value must be below the highest"),
        (
            "{space: {training.lr: {log: [1, 2], choices: [1, 2]}}}",
            "give one of log, uniform, integers, choices",
        ),
        (
            "{space: {lora.rank: {integers: [2, 8]}}}",
            "lora.rank of the model ViT_Baseline: unknown setting 'lora'",
        ),
        (
            "{space: {llm.layer: {integers: [0, 1]}}}",
            "llm.layer cannot be searched: blocks are compared",
        ),
        (
            "{space: {heads: {choices: [2, 3]}}}",
            "heads of the model ViT_Baseline: embed_dim 64 must be a multiple of heads 3",
        ),
        (
            "{space: {training.batch_size: {integers: [2, 8]}}}",
            "with a budget in steps only (search.steps)",
        ),
        (
            "{epochs: 1, steps: 2, space: {training.lr: {log: [1, 2]}}}",
            "give epochs or steps, not both",
        ),
        (
            "{cases: test, space: {training.lr: {log: [1, 2]}}}",
            "search.cases: must be 'reserved' or 'nested'",
        ),
    ],
)
def test_each_mistake_of_a_search_has_a_clear_message(
    tmp_path: Path, search: str, expected: str
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(f"name: bad\nmodels: [ViT_Baseline]\ntasks: [T]\nsearch: {search}\nseeds: []\n")
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert expected in str(caught.value)
    assert "seeds: needs 1 or more values, has 0" in str(caught.value)  # all mistakes at once


def test_a_searchable_batch_size_and_a_setting_that_every_model_has_are_fine() -> None:
    space = {
        "training.batch_size": {"integers": [2, 8]},
        "dropout": {"uniform": [0, 0.5]},
        "training.clip_norm": {"choices": [None, 1]},
    }
    spec = spec_of(space=space, steps=10)
    assert isinstance(Spec.model_validate(spec.model_dump(mode="json")).search, SearchSpec)
