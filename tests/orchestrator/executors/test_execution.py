"""What follows an attempt: nothing that was committed is lost, nor done twice, whenever a process
dies.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from ray.tune.experiment import Trial

from orchestrator.executors.base import AttemptFailed, AttemptInterrupted, recorded, run_to_the_end
from orchestrator.executors.lanes import watcher
from orchestrator.executors.lanes.lane import LiveTrials
from orchestrator.planning import study_files
from orchestrator.planning.identity import Cell, Job, Tuning
from orchestrator.planning.retry import State
from orchestrator.planning.study_files import parsed_spec
from orchestrator.spec.study import Spec
from orchestrator.trial.log_tail import LAST_LINES, LastWords
from record.events import Epoch, Event, Outcome, StorageFailed
from record.search import SearchTrial
from record.store import Store
from record.tables import table_bytes
from tests.record.builders import commit as marker_of
from tests.waiting import PATIENCE_SECONDS

JOB = Job(Cell("ViT_Baseline", "Task99_Spheres", 1.0, 0, 0), "train", "eval", "driver")
Attempt = Callable[[Job], Mapping[str, Any]]

EPOCH = Epoch("cell", "eval", 1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def commit(store: Store, job: Job) -> None:
    folder = f"trials/{job.train_id}/{job.token}"
    rows = [
        {"case": "a", "dice": 0.25},
        {"case": "b", "dice": 0.75},
        {"case": "c", "dice": math.nan},
    ]
    store.write(f"{folder}/cases.parquet", table_bytes(rows))
    files = {"cases": f"{folder}/cases.parquet"}
    names = {"eval_id": job.eval_id, "train_id": job.train_id, "token": job.token}
    store.commit(marker_of(**names, files=files, cost={"seconds": 8.0}))


def run(store: Store, attempt: Attempt, job: Job = JOB) -> tuple[State, list[Any]]:
    events: list[Event] = []
    return run_to_the_end(job, store, attempt, events.append, max_attempts=3), events


@pytest.mark.parametrize(
    "end",
    [
        AttemptFailed("lost", kind="lost"),
        AttemptFailed("died", kind="exception"),
        AttemptInterrupted(final=True),
    ],
)
def test_workers_that_are_lost_after_the_commit_have_finished_the_trial(
    store: Store, end: Exception
) -> None:
    attempts: list[Job] = []

    def attempt(job: Job) -> Outcome:
        attempts.append(job)
        store.write(f"checkpoints/{job.train_id}/1x1.pt", b"not removed yet")
        commit(store, job)
        raise end

    store.write_json("failures/eval/earlier.json", {"kind": "lost", "time": 1.0, "reason": "x"})
    state, events = run(store, attempt)
    assert state is State.FINISHED
    assert len(attempts) == 1
    assert [event.word for event in events] == ["started", "finished"]
    assert (events[-1].seconds, events[-1].dice) == (8.0, 0.5)
    marker = store.commits()["eval"]
    assert store.read(marker.files["cases"]) is not None
    assert not store.names("failures")
    assert not store.names("checkpoints")


def test_a_lane_that_is_lost_after_the_commit_leaves_nothing_behind_for_the_next(
    store: Store,
) -> None:
    store.write_json("claims/train.json", {"token": "first"})
    commit(store, Job(**{**vars(JOB), "token": "first"}))
    store.write("checkpoints/train/1x1.pt", b"not removed yet")
    store.write_json("failures/eval/earlier.json", {"kind": "lost", "time": 1.0, "reason": "x"})
    state, events = run(store, lambda job: pytest.fail("trained again"))
    assert state is State.FINISHED
    assert [(event.word, event.dice) for event in events] == [("finished", 0.5)]
    assert not store.names("failures")
    assert not store.names("checkpoints")


def test_a_trial_that_its_lane_gave_up_before_it_died_is_not_tried_again(store: Store) -> None:
    def attempt(job: Job) -> Outcome:
        raise AttemptFailed("a bug")

    assert run(store, attempt)[0] is State.QUARANTINED
    state, events = run(store, lambda job: pytest.fail("tried again"))
    assert state is State.QUARANTINED
    assert [(event.word, event.reason) for event in events] == [("quarantined", "a bug")]
    another = Job(**{**vars(JOB), "eval_id": "another"})  # the same training on other test cases
    assert run(store, attempt, another)[1][0].attempt == 1


def test_a_worker_that_only_seems_to_be_lost_may_still_commit(store: Store) -> None:
    """It has written its files and checked its claim when the lane gives it up; its marker comes
    after that.
    """
    attempts: list[Job] = []
    marker: dict[str, Any] = {}

    def attempt(job: Job) -> Outcome:
        attempts.append(job)
        if len(attempts) == 1:
            commit(store, job)
            marker.update(store.read_json("commits/eval.json"))
            store.remove("commits/eval.json")
            raise AttemptFailed("lost", kind="lost")
        store.write_json("commits/eval.json", marker)
        commit(store, job)  # the first one stays
        return Outcome(1.0, 0.5)

    assert run(store, attempt)[0] is State.FINISHED
    kept = store.commits()["eval"]
    assert kept.token == attempts[0].token
    assert store.read(kept.files["cases"]) is not None


def test_the_record_of_a_trial_of_a_search_tells_its_value(store: Store) -> None:
    job = Job(**{**vars(JOB), "tuning": Tuning("s", 3)})
    assert recorded(job, store) is None
    told = SearchTrial(number=3, settings={}, state="pruned", value=0.5, seconds=2.0)
    store.save(job.record, told)
    assert recorded(job, store) == Outcome(2.0, 0.5, True)


def test_a_study_is_parsed_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(study_files, "Spec", type("Counting", (), {"model_validate": calls.append}))
    parsed_spec.cache_clear()
    for text in ('{"name": "a"}', '{"name": "a"}', '{"name": "b"}'):
        parsed_spec(text)
    assert calls == [{"name": "a"}, {"name": "b"}]
    parsed_spec.cache_clear()


@pytest.mark.timeout(120)  # comparing each with each would be a quarter of an hour
def test_many_seeds_are_not_compared_each_with_each() -> None:
    seeds = list(range(200_000))
    values = {
        "name": "many",
        "models": ["ViT_Baseline"],
        "tasks": ["Task04_Hippocampus"],
        "folds": 2,
        "seeds": seeds,
    }
    spec = Spec.model_validate(values | {"data": {"image_size": [16] * 3, "patch_size": [4] * 3}})
    assert len(spec.seeds) == len(seeds)


def test_the_last_words_are_what_was_logged_and_warned_of() -> None:
    words, shown = LastWords(), warnings.showwarning
    assert words.text() == ""
    with words.listening():
        for number in range(LAST_LINES + 5):
            logging.getLogger("a.library").warning("said %d", number)
        warnings.warn("mind the gap", stacklevel=1)
    logging.getLogger("a.library").warning("too late")
    lines = words.text().splitlines()
    assert lines[:2] == ["", "Last log lines:"]
    assert len(words.lines) == LAST_LINES
    assert "said 5\n" not in words.text()
    assert f"WARNING  a.library  said {LAST_LINES + 4}" in words.text()
    assert "mind the gap" in words.text()
    assert "too late" not in words.text()
    assert words not in [*logging.getLogger().handlers, *logging.getLogger("py.warnings").handlers]
    assert warnings.showwarning is shown


def test_the_scheduler_looks_at_living_trials_only_and_keeps_nothing_of_the_others() -> None:
    class Controller:
        live: set[Trial] = set()

        def get_trials(self) -> None:
            pytest.fail("looked at every trial")

        def get_live_trials(self) -> set[Trial]:
            return self.live

    def trial(name: str, status: str) -> Trial:
        made = Trial("lane", stub=True, trial_id=name, config={"job": name})
        made.status = status
        return made

    controller, scheduler = Controller(), LiveTrials()
    ended, running = trial("00001", Trial.RUNNING), trial("00004", Trial.RUNNING)
    controller.live = {trial("00003", Trial.PENDING), trial("00002", Trial.PENDING), ended, running}
    assert scheduler.choose_trial_to_run(controller).trial_id == "00002"
    ended.update_last_result({"state": "finished", "training_iteration": 1})
    ended.status = Trial.TERMINATED
    controller.live = {running}
    assert scheduler.choose_trial_to_run(controller) is None
    assert not ended.config
    assert not ended.run_metadata.last_result
    assert not ended.run_metadata.metric_analysis
    assert running.config == {"job": "00004"}


def test_the_drivers_watch_outlives_a_listener_that_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A closed pipe or a full disk must not keep a machine's end, or the storage's, from the
    lanes.
    """
    waiting = [EPOCH, EPOCH, StorageFailed("full")]
    heard: list[str] = []

    def on_event(event: Event) -> None:
        heard.append(event.word)
        raise BrokenPipeError("tee is gone")

    monkeypatch.setattr(watcher, "_raylet_here", lambda: None)
    monkeypatch.setattr(
        watcher, "next_event", lambda box, timeout: waiting.pop(0) if waiting else None
    )
    with watcher.Watcher(None, on_event, None, threading.Event()):  # type: ignore[arg-type]
        pass
    assert heard == ["epoch", "epoch", "storage-failed"]
    assert sum("tee is gone" in record.getMessage() for record in caplog.records) == 1


def test_who_stops_at_once_does_not_wait_for_lanes_that_go_on_talking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[int] = []

    def endless(box: Any, timeout: float) -> Event:
        time.sleep(0.01)
        return EPOCH

    monkeypatch.setattr(watcher, "_raylet_here", lambda: None)
    monkeypatch.setattr(watcher, "next_event", endless)
    monkeypatch.setattr(
        watcher.Watcher,
        "_sweep",
        lambda self, last=False: pytest.fail("asked Ray for what is left"),
    )
    watch = watcher.Watcher(None, lambda event: shown.append(1), None, threading.Event())  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt), watch:
        raise KeyboardInterrupt
    assert watch.thread.is_alive()  # a daemon: the lanes' end, or this process's, is its own
    monkeypatch.setattr(watcher, "next_event", lambda box, timeout: None)
    watch.thread.join(PATIENCE_SECONDS)
    assert not watch.thread.is_alive()
