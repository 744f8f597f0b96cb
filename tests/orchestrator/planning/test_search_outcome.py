"""What a search finds, whom its winner serves, and when it is asked for again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.executors.search_rounds import outlook, run_rounds
from orchestrator.planning.found import Tuned
from orchestrator.planning.identity import Job
from orchestrator.planning.plan import make_plan
from orchestrator.planning.search import searches
from orchestrator.planning.study import Study
from orchestrator.planning.suggestions import is_hopeless
from record.store import Store
from tests.orchestrator.planning.test_search import inputs_of, record, spec_of


def fake_runner(
    store: Store, ran: list[Job], stop_after: int | None = None
) -> Callable[[list[Job]], None]:
    """Records a value that follows from the settings; a rate above 0.05 diverges; stops like Ctrl-C
    after some jobs.
    """

    def run(jobs: list[Job]) -> None:
        for job in reversed(jobs):  # lanes end in any order
            if stop_after is not None and len(ran) >= stop_after:
                raise KeyboardInterrupt
            ran.append(job)
            assert job.tuning
            lr = job.settings["training.lr"]
            if lr > 0.05:
                failure = {"kind": "training", "reason": "the loss is nan", "time": 0.0}
                store.write_json(f"failures/{job.eval_id}/a.json", failure)
                continue
            value = 1 - abs(lr - 0.01) - job.settings["training.weight_decay"]
            curve = [[step, value * step / 10] for step in range(1, 11)]
            ended = next(
                (step for step in range(1, 10) if is_hopeless(curve[:step], job.tuning.medians)),
                None,
            )
            one = {
                "number": job.tuning.number,
                "settings": {
                    key: job.settings[key] for key in ("training.lr", "training.weight_decay")
                },
                "state": "pruned" if ended else "complete",
                "value": curve[ended - 1][1] if ended else value,
                "curve": curve[:ended],
            }
            store.write_json(job.record, one)

    return run


def test_every_model_gets_the_same_trials_of_the_same_length(tmp_path: Path) -> None:
    spec = spec_of(trials=14, parallel=4, steps=30)
    store, ran = Store(str(tmp_path)), list[Job]()
    found = searches(spec, inputs_of(spec))
    assert spec.search
    told = run_rounds(found, spec.search, store, "t", fake_runner(store, ran))
    assert [len(told[search.id]) for search in found] == [14, 14]
    assert {(job.settings["training.steps"], job.settings["training.epochs"]) for job in ran} == {
        (30, None)
    }
    first = {
        model: [job.settings for job in ran if job.cell.model == model][:4]
        for model in ("ViT_Baseline", "ViT_MLP")
    }
    assert first["ViT_Baseline"] == first["ViT_MLP"]  # the same random start
    assert len({job.train_id for job in ran}) == len(ran) == 28
    states = [one.state for one in told[found[0].id]]
    assert {"complete", "pruned", "failed"} == set(states)  # a trial that diverged counts, too
    assert any(job.tuning and job.tuning.medians for job in ran)
    sent = Job.from_json(json.loads(json.dumps(ran[-1].to_json())))
    assert (sent.record, sent.settings, sent.title) == (
        ran[-1].record,
        ran[-1].settings,
        ran[-1].title,
    )


@given(st.integers(0, 25))
@settings(deadline=None, max_examples=8)
def test_an_interrupted_search_ends_with_the_same_trials_and_winner(
    tmp_path_factory: pytest.TempPathFactory, stop: int
) -> None:
    spec = spec_of(trials=13, parallel=3)
    assert spec.search
    found = searches(spec, inputs_of(spec))
    whole, parted = (Store(str(tmp_path_factory.mktemp(name))) for name in ("whole", "parted"))
    expected = run_rounds(found, spec.search, whole, "t", fake_runner(whole, []))
    ran: list[Job] = []
    with pytest.raises(KeyboardInterrupt):
        run_rounds(found, spec.search, parted, "t", fake_runner(parted, ran, stop))
    resumed = run_rounds(found, spec.search, parted, "u", fake_runner(parted, ran))
    assert resumed == expected
    assert len({job.train_id for job in ran}) == len(ran) == 26  # nothing ran twice


def test_settings_that_a_model_cannot_take_together_are_a_failed_trial(tmp_path: Path) -> None:
    space = {"embed_dim": {"choices": [12, 64]}, "heads": {"choices": [4, 64]}}
    spec = spec_of(trials=12, parallel=4, space=space)
    assert spec.search
    found, store, ran = searches(spec, inputs_of(spec)), Store(str(tmp_path)), list[Job]()

    def run(jobs: list[Job]) -> None:
        for job in jobs:
            ran.append(job)
            chosen = {key: job.settings[key] for key in space}
            assert job.tuning
            one = {
                "number": job.tuning.number,
                "settings": chosen,
                "state": "complete",
                "value": 0.5,
                "curve": [(1, 0.5)],
            }
            store.write_json(job.record, one)

    told = run_rounds(found[:1], spec.search, store, "t", run)[found[0].id]
    failed = [one for one in told if one.state == "failed"]
    assert failed
    assert len(failed) + len(ran) == 12
    assert all("embed_dim 12 must be a multiple of heads 64" in one.reason for one in failed)


def test_a_winner_gives_the_ids_of_a_spec_that_says_so_itself() -> None:
    spec = spec_of(cases="nested")
    inputs = inputs_of(spec)
    assert make_plan(spec, inputs, {}, {}).counts() == {"unknown": 8}
    chosen = {"training.lr": 0.03, "training.weight_decay": 0.01}
    tuned = {
        (model, "T", fold): Tuned(chosen)
        for model in ("ViT_Baseline", "ViT_MLP")
        for fold in range(4)
    }
    plan = make_plan(spec, replace(inputs, tuned=tuned), {}, {})
    plain = spec.model_copy(
        update={
            "search": None,
            "training": spec.training.model_copy(update={"lr": 0.03, "weight_decay": 0.01}),
        }
    )
    assert [trial.eval_id for trial in plan.trials] == [
        trial.eval_id for trial in make_plan(plain, inputs, {}, {}).trials
    ]
    assert plan.counts() == {"new": 8}


def test_only_an_edit_that_matters_asks_for_a_new_search_and_says_why(tmp_path: Path) -> None:
    spec, store = spec_of(epochs=5), Store(str(tmp_path))
    inputs = inputs_of(spec)
    found = searches(spec, inputs)
    store.save_outcomes({search.id: search.outcome([record(0, 0.5)]) for search in found})
    assert not any(one.missing for one in Study(spec, store, inputs).inputs.tuned.values())

    lr = spec.training.model_copy(
        update={"lr": 0.5, "epochs": 9}
    )  # both are the search's to decide
    same = spec.model_copy(update={"training": lr, "seeds": [7], "fractions": [0.5]})
    assert [search.id for search in searches(same, inputs)] == [search.id for search in found]

    clip = spec.model_copy(
        update={"training": spec.training.model_copy(update={"clip_norm": None})}
    )
    why = next(iter(Study(clip, store, inputs).inputs.tuned.values())).missing
    assert "has to run again: train.training.clip_norm: 1.0 -> null" in why
    more = Study(spec_of(epochs=5, trials=30), store, inputs)
    assert "search.trials: 20 -> 30" in more.plan.trials[0].why
    models = [spec.models[0], spec.models[1].model_copy(update={"depth": 3})]
    other = Study(spec.model_copy(update={"models": models}), store, inputs)
    assert [
        bool(other.inputs.tuned[name, "T", 0].missing) for name in ("ViT_Baseline", "ViT_MLP")
    ] == [
        False,
        True,
    ]


def test_models_that_differ_in_their_names_only_share_a_search(tmp_path: Path) -> None:
    spec = spec_of()
    named = [spec.models[0].model_copy(update={"name": name}) for name in "AB"]
    twice = spec.model_copy(update={"models": named})
    assert len({search.id for search in searches(twice, inputs_of(twice))}) == 1
    shown = outlook(Study(twice, Store(str(tmp_path)), inputs_of(twice)))
    assert "1 of 2 searches with 20 trials each, 0 of 20 trials done" in shown
