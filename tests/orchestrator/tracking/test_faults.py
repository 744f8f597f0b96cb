"""MLflow that is away, lost, shared or broken: nothing fails, and nothing is logged twice."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import orchestrator.tracking.tracker as tracking
from orchestrator.tracking.journal import Journal
from orchestrator.tracking.tracker import Tracker
from orchestrator.tracking.view import View
from record import paths
from record.events import DriverStarted, Interrupted, WaitsForMachines
from tests.waiting import PATIENCE_SECONDS

Study = Callable[..., Any]


@pytest.mark.parametrize("arrives", [True, False], ids=["arrived", "did not arrive"])
@pytest.mark.parametrize("call", ["create_run", "log_batch", "update_run", "set_terminated"])
def test_an_answer_that_got_lost_doubles_nothing(
    fake_study: Study, uri: str, seen: Any, call: str, arrives: bool
) -> None:
    study = fake_study()
    view = View(study.stored, uri)
    for event in [DriverStarted(), *study.whole(0), *study.whole(1)]:
        view.journal.append(replace(event, time=time.time()))
    view.server.connect()
    real, calls = getattr(view.server.client, call), []

    def unreliable(*args: Any, **kwargs: Any) -> Any:
        calls.append(call)
        answer = real(*args, **kwargs) if arrives or len(calls) % 3 else None
        if len(calls) % 3 == 0:
            raise ConnectionError("the answer is lost")
        return answer

    setattr(view.server.client, call, unreliable)
    for _ in range(20):
        try:
            view.sync()
            break
        except ConnectionError:
            continue
    assert not view.pending()
    assert len(calls) > 1
    found = seen(uri)
    for fold, trial in enumerate(study.trials):
        assert found.curve(trial["eval_id"]) == list(enumerate(study.losses(fold), start=1))
    assert found.statuses() == ["FINISHED", "FINISHED"]
    assert len(found.parents) == 1


def test_sixteen_drivers_at_once_share_one_file(
    fake_study: Study, uri: str, seen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "PATIENCE_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(tracking, "SHORT_PATIENCE_SECONDS", PATIENCE_SECONDS)
    # Threads share one pool of connections, which drivers, each a process, do not.
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "16")
    studies = [fake_study(f"study{number}") for number in range(16)]
    problems = []

    def drive(study: Any) -> None:
        with Tracker(study.stored, uri) as tracker:
            for fold in range(2):
                for event in study.whole(fold):
                    tracker(event)
            problems.append(tracker.finish(complete=True))

    threads = [threading.Thread(target=drive, args=(study,)) for study in studies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == [None] * 16
    for number, study in enumerate(studies):
        found = seen(uri, f"study{number}")
        assert found.statuses() == ["FINISHED", "FINISHED"]
        for fold, trial in enumerate(study.trials):
            assert found.curve(trial["eval_id"]) == list(enumerate(study.losses(fold), start=1))


def test_a_deleted_database_is_filled_again(
    fake_study: Study, tmp_path: Path, uri: str, empty_database: Path, seen: Any
) -> None:
    study = fake_study()
    study.finished(0)
    assert View(study.stored, uri).sync() == 1
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    study.finished(1)
    assert View(study.stored, uri).sync() == 2
    assert seen(uri).statuses() == ["FINISHED", "FINISHED"]


def test_a_file_that_cannot_be_made_fails_nothing_and_is_told(
    fake_study: Study, tmp_path: Path, uri: str
) -> None:
    study = fake_study()
    (tmp_path / "blocked").write_text("a file where MLflow wants a folder")
    with Tracker(study.stored, f"sqlite:///{tmp_path / 'blocked'}/mlflow.db") as tracker:
        for event in study.whole(0):
            tracker(event)
        assert "blocked" in str(tracker.finish(complete=False))
    assert View(study.stored, uri).sync() == 1


def test_the_journal_survives_a_kill_in_the_middle_of_a_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "folder" / "events.jsonl")
    one, two = WaitsForMachines("one"), WaitsForMachines("two")
    assert journal.read(0, 10) == ([], 0)
    journal.append(one)
    with journal.path.open("ab") as file:
        file.write(b'{"n": 2, "half')
    events, offset = journal.read(0, 10)
    assert events == [one]
    journal.append(two)
    assert journal.read(offset, 10)[0] == [two]
    assert journal.read(0, 1) == ([one], offset)


def test_a_journal_of_another_version_is_read_as_far_as_it_is_known(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "events.jsonl")
    lines = ['{"event": "of tomorrow"}', '{"event": "started"}', "[1]", "null", '{"event": 3}']
    lines.append('{"event": "interrupted", "eval_id": "e", "added later": 1, "time": 2.0}')
    journal.path.write_text("\n".join(lines) + "\n")
    assert journal.read(0, 10)[0] == [Interrupted(None, "e", time=2.0)]


def test_a_damaged_trial_is_told_as_failed_and_keeps_no_other_from_mlflow(
    fake_study: Study, uri: str, seen: Any
) -> None:
    study = fake_study(count=3)
    for fold in range(3):
        study.finished(fold)
    study.store.write("trials/1/cases.parquet", b"changed")
    study.store.write(paths.commit(study.trials[2]["eval_id"]), b"{half")
    assert View(study.stored, uri).sync() == 1
    found = seen(uri)
    assert found.statuses() == ["FINISHED", "FAILED", "FAILED"]
    reasons = [
        found.children[trial["eval_id"]].data.tags.get("medvision.reason") for trial in study.trials
    ]
    assert reasons[0] is None
    assert "trials/1/cases.parquet: has changed since it was committed" in reasons[1]
    assert "is not valid JSON" in reasons[2]
    assert "test/dice" not in found.children[study.trials[1]["eval_id"]].data.metrics
