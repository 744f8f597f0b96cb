"""The search before the grid, trained for real: its winners train the grid, in one process and in
lanes.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.console.progress import Screen
from orchestrator.executors.in_process import InProcessExecutor
from orchestrator.executors.registry import EXECUTORS, make_executor
from orchestrator.executors.search_rounds import run_searches
from orchestrator.planning.identity import Job
from orchestrator.planning.inputs import gathered
from orchestrator.planning.study import Study
from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.spec.yaml_file import load_spec
from orchestrator.status import describe
from record.events import Event
from record.store import FencedError, Store
from record.study import StoredStudy
from tests.orchestrator.planning.test_search import SEARCH, TASK

LOCAL = ["--in-process", "--set", "tracking.enabled=false"]


def run(path: Path, *more: str) -> int:
    return main([str(path), *LOCAL, "--set", SEARCH, *more])


def study(path: Path) -> Store:
    return open_store(load_spec(path))


def test_the_winners_train_the_grid_and_stay_frozen(
    tiny_spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tiny_spec), "--dry-run", "--set", SEARCH]) == 0
    assert (
        "2 of 2 searches with 3 trials each, 0 of 6 trials done" in capsys.readouterr().out
    )  # nothing was read yet
    gathered(load_spec(tiny_spec, [SEARCH]))
    assert main([str(tiny_spec), "--dry-run", "--set", SEARCH]) == 0
    shown = capsys.readouterr().out
    assert "6 unknown" in shown
    assert "its search was not run yet" in shown
    assert "2 of 2 searches with 3 trials each, 0 of 6 trials done" in shown

    assert run(tiny_spec) == 0
    store = study(tiny_spec)
    frozen = store.read_json("search.json")
    assert [one["counts"]["complete"] for one in frozen.values()] == [3, 3]
    for name, one in frozen.items():
        values = [store.read_json(f"search/{name}/{number}.json") for number in range(3)]
        assert one["value"] == max(record["value"] for record in values)
        assert all(len(record["curve"]) == 2 for record in values)  # search.epochs
    by_model = {one["model"]: one["settings"] for one in frozen.values()}
    commits = store.commits()
    assert len(commits) == 6
    for marker in commits.values():
        training = marker.identity.train["training"]
        assert training["lr"] == by_model[marker.cell.model]["training.lr"]
        assert marker.cost.epochs == 3  # the grid's own
    split = store.read_json(f"splits/{TASK}.json")
    reserved = {case for unit in split["reserved_for_search"] for case in unit}
    assert len(reserved) == 5
    assert all(reserved.isdisjoint(fold["test"]) for fold in split["folds"])
    assert store.names("checkpoints") == []
    report = store.read("report/provenance.md").decode()  # type: ignore[union-attr]
    assert "ViT_Baseline, Task99_Spheres" in report
    assert "3 complete" in report
    assert "by 2 searches of 3 trials, " in store.read("report/significance.md").decode()  # type: ignore[union-attr]

    capsys.readouterr()
    assert main([str(tiny_spec), "--dry-run", "--set", SEARCH]) == 0
    again = capsys.readouterr().out
    assert "6 done" in again
    assert "Search before the grid" not in again
    assert main([str(tiny_spec), "--dry-run", "--set", SEARCH, "--set", "search.trials=4"]) == 0
    assert "its search has to run again: search.trials: 3 -> 4" in capsys.readouterr().out


def test_a_search_that_was_interrupted_gives_the_ids_of_an_undisturbed_one(
    tiny_spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.trial import attempt as attempts

    model = "models=[{label: ViT_Baseline, embed_dim: 16, depth: 1, heads: 2}]"
    real, calls = attempts.run_attempt, list[Job]()

    def searched(storage: str) -> tuple[Store, list[str | None]]:
        spec = load_spec(tiny_spec, [SEARCH, model, f"storage={tmp_path / storage}"])
        planned = Study.gathered(spec, open_store(spec))
        planned.write()
        executor = InProcessExecutor(spec, planned.store)
        found = run_searches(planned, executor, Screen(), "t")
        return found.store, [trial.eval_id for trial in found.plan.trials]

    def stopped(job: Job, *args: Any, **named: Any) -> Any:
        calls.append(job)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(job, *args, **named)

    _, expected = searched("whole")
    monkeypatch.setattr(attempts, "run_attempt", stopped)
    with pytest.raises(KeyboardInterrupt):
        searched("parted")
    store, ids = searched("parted")
    assert ids == expected
    assert None not in ids
    assert len(calls) == 4  # three trials, and again the one that was stopped
    assert store.names("failures") == []


def test_a_hopeless_trial_of_a_search_ends_early_also_after_an_interruption(
    tiny_spec: Path,
) -> None:
    from medvision.training.ranks import Ranks
    from medvision.training.state import unpacked
    from medvision.training.watch import Interrupted, Watch
    from orchestrator.trial.attempt import run_attempt

    spec = load_spec(tiny_spec, [SEARCH, "search.epochs=4", "training.checkpoint_epochs=1"])
    planned = Study.gathered(spec, study(tiny_spec))
    planned.write()
    store, search = planned.store, planned.searches[0]
    chosen = {"training.lr": 0.001, "training.weight_decay": 0}
    seen: list[int] = []

    def on_event(event: Event) -> None:
        seen.append(event.epoch)

    pruned = search.job(0, chosen, [(2, 1.1)], "t")
    with pytest.raises(FencedError):  # a newer driver may have taken it over
        run_attempt(pruned, store, Ranks(), lambda event: None, Watch())
    assert store.read_json(pruned.record) is None
    store.remove(f"checkpoints/{pruned.train_id}")
    store.write_json(f"claims/{pruned.train_id}.json", {"token": "t"})
    told = run_attempt(pruned, store, Ranks(), on_event, Watch())
    assert told is not None
    assert told.pruned
    assert seen == [1, 2]
    assert store.read_json(pruned.record)["state"] == "pruned"
    expected = store.read_json(pruned.record)["curve"]

    store.remove(pruned.record)
    with pytest.raises(Interrupted):  # one epoch, then the machine is needed elsewhere
        run_attempt(
            search.job(0, chosen, [(2, 1.1)], "t"),
            store,
            Ranks(),
            on_event,
            Watch(stop=lambda: len(seen) == 3),
        )
    (checkpoint,) = Path(store.path(f"checkpoints/{pruned.train_id}")).iterdir()
    saved = unpacked(checkpoint.read_bytes())
    assert saved is not None
    torch.save(
        saved | {"spent": {"seconds": 1000.0}}, checkpoint
    )  # as if the first attempt had been a long one
    run_attempt(pruned, store, Ranks(), on_event, Watch())
    assert store.read_json(pruned.record)["curve"] == expected
    assert 1000 < store.read_json(pruned.record)["seconds"] < 1100

    whole = search.job(1, chosen, [], "t")
    store.write_json(f"claims/{whole.train_id}.json", {"token": "t"})
    run_attempt(whole, store, Ranks(), on_event, Watch())
    assert [step for step, _ in store.read_json(whole.record)["curve"]] == [1, 2, 3, 4]


def test_a_search_that_finds_nothing_is_said_and_leaves_its_trials_out(
    tiny_spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hopeless = ["--set", "search.space={training.lr: {choices: [1.0e+30, 1.0e+31]}}"]
    assert run(tiny_spec, *hopeless) == 1
    shown = capsys.readouterr().out
    assert (
        "model ViT_Baseline, task Task99_Spheres: all 3 trials failed, the last: TrainingError"
        in shown
    )
    assert "0 of 6 trials are in this report" in shown
    store = study(tiny_spec)
    assert "6 more wait for the search of their settings; 0 of its trials are done" in describe(
        StoredStudy.opened(store), time.time()
    )
    assert "all 3 trials failed" in store.read("report/provenance.md").decode()  # type: ignore[union-attr]
    before = store.failures()
    assert run(tiny_spec, *hopeless) == 1
    assert store.failures() == before  # not tried again unasked


@pytest.mark.slow
def test_every_executor_gives_the_same_search(
    tiny_spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.planning.suggestions.STARTUP", 2)
    outcomes = []
    for name in EXECUTORS:
        model = "models=[{label: ViT_Baseline, embed_dim: 16, depth: 1, heads: 2}]"
        longer = [
            "search.trials=6",
            "search.epochs=4",
            f"storage={tmp_path / name}",
        ]
        spec = load_spec(tiny_spec, [SEARCH, model, *longer])
        planned = Study.gathered(spec, open_store(spec))
        planned.write()
        store = planned.store
        run_searches(planned, make_executor(name, spec, store), Screen(), "t")
        (found,) = store.read_json("search.json").values()
        outcomes.append([{**one, "seconds": 0} for one in found["trials"]])
    assert outcomes[0] == outcomes[1]
    assert {one["state"] for one in outcomes[0]} == {"complete", "pruned"}
