"""Planning without a disk: ids, statuses, reasons, order, estimates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvision.data.splits import make_folds
from orchestrator.planning.found import BlockInputs, Inputs, TaskInputs
from orchestrator.planning.identity import differences, draw_of
from orchestrator.planning.plan import Plan, make_plan
from orchestrator.spec.study import Spec
from record.schema import Failure
from tests.record.builders import commit

VOLUMES = {f"case_{index:02d}": float(index) for index in range(20)}
LLAMA = {"label": "MedVisionLlama", "llm": {"source": "x"}}


def spec(**changes: Any) -> Spec:
    values: dict[str, Any] = {
        "name": "s",
        "models": ["ViT_Baseline", LLAMA],
        "tasks": ["T"],
        "folds": 4,
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            values.setdefault(section, {})[name] = value
        else:
            values[section] = value
    return Spec.model_validate(values)


def inputs(of: Spec, contents: str = "v1", block: str | None = "b1") -> Inputs:
    folds = make_folds(VOLUMES, scheme="kfold", seed=of.splits.seed, folds=of.folds)
    fingerprints = {case: f"{case}-{contents}" for case in VOLUMES}
    blocks = {"MedVisionLlama": BlockInputs(block, missing="" if block else "no block")}
    return Inputs({"T": TaskInputs(tuple(folds), fingerprints)}, blocks)


def planned(of: Spec, **given_inputs: Any) -> Plan:
    return make_plan(of, inputs(of, **given_inputs), {}, {})


def commits(plan: Plan, seconds: float = 10.0) -> dict[str, Any]:
    return {
        trial.eval_id: commit(
            eval_id=trial.eval_id,
            train_id=trial.train_id,
            cell=vars(trial.cell),
            identity=trial.identity,
            cost={"seconds": seconds},
        )
        for trial in plan.trials
        if trial.eval_id
    }


def ids(plan: Plan) -> list[tuple[str | None, str | None]]:
    return [(trial.train_id, trial.eval_id) for trial in plan.trials]


def test_the_grid_is_model_x_task_x_fraction_x_fold_x_seed() -> None:
    plan = planned(spec(fractions=[0.1, 1.0], seeds=[0, 1]))
    assert len(plan.trials) == 2 * 1 * 2 * 4 * 2
    assert (
        len({trial.cell for trial in plan.trials})
        == len({trial.eval_id for trial in plan.trials})
        == 32
    )


@pytest.mark.parametrize(
    "change",
    [
        {"storage": "elsewhere"},
        {"resources__workers": 2},
        {"tracking__enabled": False},
        {"evaluation__metrics": ["dice"]},
        {"training__checkpoint_epochs": 3},
        {"data__root": "/data"},
        {"name": "other"},
    ],
)
def test_what_cannot_change_numbers_changes_no_id(change: dict[str, Any]) -> None:
    assert ids(planned(spec(**change))) == ids(planned(spec()))


@pytest.mark.parametrize(
    "change",
    [
        {"training__epochs": 7},
        {"training__precision": "bf16"},
        {"training__clip_norm": None},
        {"data__image_size": [64, 64, 64]},
        {"data__intensity": "z-score"},
        {"data__label_groups": {"core": [2]}},
        {"splits__seed": 1},
        {"seeds": [1]},
    ],
)
def test_what_can_change_weights_changes_every_train_id(change: dict[str, Any]) -> None:
    before, after = planned(spec()), planned(spec(**change))
    assert not {trial.train_id for trial in before.trials} & {
        trial.train_id for trial in after.trials
    }


def test_a_tolerance_changes_the_evaluation_only() -> None:
    before, after = planned(spec()), planned(spec(evaluation__tolerances=[2.5]))
    assert [trial.train_id for trial in before.trials] == [trial.train_id for trial in after.trials]
    assert not {trial.eval_id for trial in before.trials} & {
        trial.eval_id for trial in after.trials
    }
    again = make_plan(spec(evaluation__tolerances=[2.5]), inputs(spec()), commits(before), {})
    assert again.counts() == {"rescore": 8}
    assert "scoring.tolerances" in again.trials[0].why


def test_another_block_changes_only_the_models_that_have_one() -> None:
    before, after = planned(spec()), planned(spec(), block="b2")
    assert ids(before)[:4] == ids(after)[:4]
    assert not set(ids(before)[4:]) & set(ids(after)[4:])


def test_edited_data_changes_the_ids() -> None:
    assert not set(ids(planned(spec()))) & set(ids(planned(spec(), contents="v2")))


def test_a_finished_study_has_nothing_to_run_and_a_renamed_model_stays_finished() -> None:
    plan = planned(spec())
    assert make_plan(spec(), inputs(spec()), commits(plan), {}).in_order() == []
    renamed = spec(models=[{"label": "ViT_Baseline", "name": "plain"}, LLAMA])
    assert make_plan(renamed, inputs(renamed), commits(plan), {}).counts() == {"done": 8}


def test_a_change_is_named_with_its_key_and_both_values() -> None:
    old = commits(planned(spec(training__epochs=10)))
    plan = make_plan(spec(training__epochs=5), inputs(spec()), old, {})
    assert plan.counts() == {"changed": 8}
    assert plan.trials[0].why == "training.epochs: 10 -> 5"


def test_failures_lead_to_a_retry_and_then_to_quarantine() -> None:
    plan = planned(spec())
    eval_id = str(plan.trials[0].eval_id)
    failed = [Failure(reason="RuntimeError: boom")]
    again = make_plan(spec(), inputs(spec()), {}, {eval_id: failed})
    assert (again.trials[0].status, again.trials[0].why) == (
        "failed",
        "attempt 2 after: RuntimeError: boom",
    )
    assert again.trials[0] in again.in_order()
    ended = make_plan(spec(), inputs(spec()), {}, {eval_id: failed * 3})
    assert ended.trials[0].status == "quarantined"
    assert ended.trials[0] not in ended.in_order()


def test_missing_data_leave_ids_unknown_and_are_named() -> None:
    of = spec()
    nothing = Inputs(
        {"T": TaskInputs(missing="no folder")}, {"MedVisionLlama": BlockInputs(missing="no block")}
    )
    plan = make_plan(of, nothing, {}, {})
    assert plan.counts() == {"unknown": 8}
    assert plan.missing == ("no folder", "no block")
    assert all(trial.train_id is None and trial.estimated_seconds > 0 for trial in plan.trials)


def test_trials_run_longest_first() -> None:
    seconds = [trial.estimated_seconds for trial in planned(spec(fractions=[0.1, 1.0])).in_order()]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[0] > seconds[-1]


def test_folds_with_the_same_training_cases_are_trainings_of_their_own() -> None:
    """A tenth of the fifteen cases outside a fold is one or two: folds that test others train on
    the same.
    """
    plan = planned(spec(models=["ViT_Baseline"], fractions=[0.1, 0.11]))
    by_fold = plan.trials[: spec().folds]
    same = {str(trial.identity["train"]["train_cases"]) for trial in by_fold}
    assert len(same) < len(by_fold)
    assert len({trial.train_id for trial in by_fold}) == len(by_fold)
    draws = [draw_of(trial.identity["train"]) for trial in by_fold]
    assert len(set(draws)) == len(by_fold)
    # The other fraction rounds to the same cases of each fold: the same result.
    assert [trial.eval_id for trial in plan.trials] == 2 * [trial.eval_id for trial in by_fold]
    assert not any(trial.work.rescore for trial in plan.trials)
    assert len(plan.repeats()) == len(by_fold) - len(same)
    done = commits(plan, seconds=1.0)
    assert (
        make_plan(
            spec(models=["ViT_Baseline"], fractions=[0.1]), inputs(spec()), done, {}
        ).repeats()
        == []
    )
    assert planned(spec(models=["ViT_Baseline"])).repeats() == []


def test_a_draw_is_of_seed_task_fold_and_training_cases_and_the_same_for_all_models() -> None:
    plan = planned(spec(fractions=[0.3, 1.0], seeds=[0, 1]))
    draws: dict[tuple[Any, ...], set[int]] = {}
    for trial in plan.trials:
        cell = trial.cell
        place = (cell.task, cell.fraction, cell.fold, cell.seed)
        draws.setdefault(place, set()).add(draw_of(trial.identity["train"]))
    assert [len(found) for found in draws.values()] == [1] * len(draws)
    assert len(set().union(*draws.values())) == len(draws)
    other = {**plan.trials[0].identity["train"], "task": {"name": "another"}}
    assert draw_of(other) not in set().union(*draws.values())


def test_finished_trials_calibrate_the_estimate() -> None:
    plan = planned(spec(fractions=[1.0]))
    slow = commits(plan, seconds=1234.0)
    calibrated = make_plan(spec(fractions=[1.0]), inputs(spec()), slow, {})
    estimates = [trial.estimated_seconds for trial in calibrated.trials]
    assert min(estimates) < 1234.0 < max(estimates)


@pytest.mark.parametrize("unused", [{"attention": "global"}, {"params": None}])
def test_a_setting_that_is_not_used_is_no_part_of_an_id(unused: dict[str, Any]) -> None:
    plain = planned(spec(models=["ViT_Depth"]))
    assert ids(planned(spec(models=[{"label": "ViT_Depth", **unused}]))) == ids(plain)
    assert unused.keys().isdisjoint(plain.trials[0].identity["train"]["model"])
    assert ids(planned(spec(models=[{"label": "ViT_Depth", "attention": "hybrid"}]))) != ids(plain)


def test_gradient_checkpointing_is_no_part_of_an_id_but_compiling_is() -> None:
    plain = ids(planned(spec()))
    assert ids(planned(spec(training__gradient_checkpointing=True))) == plain
    assert ids(planned(spec(training__compile=True))) != plain


def test_a_matched_control_depends_on_the_block_of_the_model_it_matches() -> None:
    of = spec(models=[LLAMA, {"label": "ViT_Depth", "params": "match MedVisionLlama"}])
    both = {name: BlockInputs("b1") for name in ("MedVisionLlama", "ViT_Depth")}
    tasks = inputs(of).tasks
    trial = make_plan(of, Inputs(tasks, both), {}, {}).trials[-1]
    assert trial.identity["train"]["model"]["params"]["match"]["llm"]["block"] == "b1"
    other = make_plan(of, Inputs(tasks, both | {"ViT_Depth": BlockInputs("b2")}), {}, {}).trials[-1]
    assert other.train_id != trial.train_id
    with pytest.raises(ValueError, match="names no model of this study"):
        spec(models=[{"label": "ViT_Depth", "params": "match MedVisionLlama"}])


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.dictionaries(st.text(min_size=1, max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(min_size=1, max_size=3), values, min_size=1, max_size=4))
@settings(deadline=None, max_examples=100)
def test_no_difference_between_equals_and_some_between_others(value: dict[str, Any]) -> None:
    assert differences(value, dict(reversed(value.items()))) == []
    assert differences(value, value | {"new key": 1}) == ["new key: absent -> 1"]


def test_a_changed_seed_of_one_trial_changes_nothing_else() -> None:
    plan = planned(spec(seeds=[0, 1]))
    first, second = plan.trials[0], plan.trials[1]
    assert replace(first.cell, seed=1) == second.cell
    assert first.identity["train"] | {"seed": 1} == second.identity["train"]


def test_a_training_with_a_checkpoint_goes_on_from_it() -> None:
    begun = str(planned(spec()).trials[0].train_id)
    plan = make_plan(spec(), inputs(spec()), {}, {}, [begun, "another's"])
    assert plan.counts() == {"new": 8}
    why = {trial.train_id: trial.why for trial in plan.trials}
    assert why.pop(begun) == "interrupted, goes on from its checkpoint"
    assert set(why.values()) == {"never run"}
