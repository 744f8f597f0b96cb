"""MLflow as a view: a child run per trial, live and from the store alike, every point once, nothing
lost when it is away.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import orchestrator.tracking.tracker as tracking
from orchestrator import track
from orchestrator.planning.identity import flattened
from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.spec.yaml_file import load_spec
from orchestrator.tracking.journal import Journal
from orchestrator.tracking.server import key
from orchestrator.tracking.tracker import Tracker, tracking_uri
from orchestrator.tracking.view import View
from record import paths
from record.events import DriverStarted, Interrupted, Quarantined, WaitsForMachines
from record.lock import study_lock
from record.redact import shown
from record.schema import Failure
from tests.waiting import PATIENCE_SECONDS

Study = Callable[..., Any]


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path) -> str:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def test_a_study_is_a_parent_run_with_a_child_per_trial_each_logged_once(
    tiny_spec: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    seen: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main([str(tiny_spec), "--in-process"]) == 0
    uri = tracking_uri(load_spec(tiny_spec))
    assert uri == f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}"
    told = capsys.readouterr()
    assert uri in told.out
    assert "mlflow" not in told.err.lower()
    assert "alembic" not in told.err
    found = seen(uri, "tiny")
    (parent,) = found.parents
    assert len(found.children) == 6
    assert {run.data.tags["mlflow.parentRunId"] for run in found.children.values()} == {
        parent.info.run_id
    }
    assert {*found.statuses(), parent.info.status} == {"FINISHED"}
    assert {"manifest.json", "spec.json", "report"} <= found.artifacts(parent)
    assert "report/significance.csv" in found.artifacts(parent, "report")
    assert any(name.endswith(".png") for name in found.artifacts(parent, "report"))

    eval_id, child = next(iter(found.children.items()))
    assert [step for step, _ in found.curve(eval_id)] == [1, 2, 3]
    assert 0 <= child.data.metrics["test/dice"] <= 1
    assert child.data.params["train.training.epochs"] == "3"
    assert child.data.params["task"] == child.data.tags["medvision.task"] == "Task99_Spheres"
    assert child.data.tags["medvision.git"] == str(
        open_store(load_spec(tiny_spec)).read_json("manifest.json")["git"]["commit"]
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    table = found.client.load_table(
        found.experiment.experiment_id, "cases.json", [child.info.run_id]
    )
    assert len(table) == 5
    assert table["dice"].between(0, 1).all()

    logs = list((tmp_path / "runs" / "tiny" / "logs").glob("*.log"))
    trial_log = next(path for path in logs if path.name != "driver.log").read_text()
    assert "started" in trial_log
    assert "epoch 3  " in trial_log
    assert "train_loss" in trial_log
    assert (
        "Creating initial MLflow database tables"
        in (tmp_path / "runs" / "tiny" / "logs" / "driver.log").read_text()
    )


def test_live_events_and_the_store_tell_the_same_and_every_point_arrives_once(
    fake_study: Study, uri: str, seen: Any
) -> None:
    study = fake_study()
    view = View(study.store, uri)
    one, two = (trial["eval_id"] for trial in study.trials)
    first = [
        DriverStarted(),
        *study.whole(0)[:-1],
        study.started(1),
        study.epoch(1, 1),
        study.epoch(1, 2),
    ]
    for event in first:
        view.journal.append(replace(event, time=time.time()))
    assert view.sync() == 1
    found = seen(uri)
    assert found.statuses() == ["FINISHED", "RUNNING"]
    assert found.parents[0].info.status == "RUNNING"
    assert found.curve(one) == list(enumerate(study.losses(0), start=1))
    assert found.curve(two) == list(enumerate(study.losses(1)[:2], start=1))
    assert found.children[one].data.metrics["test/nsd_at_1.0"] == 0.5
    assert found.curve(two, "train/lr") == [(1, 0.5), (2, 0.5)]
    assert found.curve(two, "system/memory_rss_mib") == [(1, 99.0), (2, 99.0)]

    # A worker is lost; the second attempt repeats epoch 2.
    for event in [study.failed(1), study.started(1, 2), *study.whole(1)[2:]]:
        view.journal.append(replace(event, time=time.time()))
    assert view.sync() == 1
    found = seen(uri)
    assert found.curve(two) == list(enumerate(study.losses(1), start=1))
    assert found.statuses() == ["FINISHED", "FINISHED"]
    assert found.children[two].data.tags["medvision.reason"] == "the disk is on fire"
    assert found.children[two].data.tags["medvision.attempt"] == "2"

    before = {name: (run.info.run_id, found.curve(name)) for name, run in found.children.items()}
    again = View(study.store, uri)
    assert (again.pending(), again.sync()) == (False, 0)
    again.forget()
    assert again.sync() == 2
    found = seen(uri)
    assert {
        name: (run.info.run_id, found.curve(name)) for name, run in found.children.items()
    } == before
    assert found.statuses() == ["FINISHED", "FINISHED"]


def test_the_store_alone_gives_the_whole_experiment(fake_study: Study, uri: str, seen: Any) -> None:
    study = fake_study()
    for fold in range(2):
        study.finished(fold)
    view = View(study.store, uri)
    assert view.pending()
    assert view.sync() == 2
    view.log_report(complete=True)
    found = seen(uri)
    for fold, trial in enumerate(study.trials):
        assert found.curve(trial["eval_id"]) == list(enumerate(study.losses(fold), start=1))
    assert found.parents[0].info.status == "FINISHED"
    assert found.parents[0].data.tags["medvision.git"] == "abc123"

    # A later driver that changes nothing: the same report ends the parent again.
    view.journal.append(DriverStarted(time=time.time()))
    assert view.sync() == 0
    assert seen(uri).parents[0].info.status == "RUNNING"
    view.log_report(complete=True)
    assert seen(uri).parents[0].info.status == "FINISHED"


def test_failures_come_from_the_store_alone_too(fake_study: Study, uri: str, seen: Any) -> None:
    study = fake_study(count=3)
    study.finished(0)
    for fold, reasons in ((0, ["an old one"]), (1, ["no memory", "the disk is on fire"])):
        for number, reason in enumerate(reasons):
            record = Failure(kind="exception", reason=reason, time=1.7e9 + number)
            path = paths.failure(study.trials[fold]["eval_id"], str(number))
            study.store.save(path, record)
    assert track.main([study.store.uri, "--uri", uri]) == 0
    found = seen(uri)
    one, two = (trial["eval_id"] for trial in study.trials[:2])
    assert {name: run.info.status for name, run in found.children.items()} == {
        one: "FINISHED",
        two: "FAILED",
    }
    tags = found.children[two].data.tags
    assert (tags["medvision.reason"], tags["medvision.attempt"]) == ("the disk is on fire", "2")
    assert "medvision.reason" not in found.children[one].data.tags

    # Where the journal knows more, it has the last word.
    view = View(study.store, uri)
    view.journal.append(replace(study.started(1, 3), time=time.time()))
    assert track.main([study.store.uri, "--uri", uri]) == 0
    again = seen(uri)
    assert again.children[two].info.status == "RUNNING"
    assert again.children[two].info.run_id == found.children[two].info.run_id


def test_a_running_study_is_left_to_its_driver(
    fake_study: Study, uri: str, seen: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    study = fake_study()
    view = View(study.store, uri)
    for event in (DriverStarted(), study.started(0), study.epoch(0, 1)):
        view.journal.append(replace(event, time=time.time()))
    view.sync()
    with study_lock(study.store):
        assert track.main([study.store.uri, "--uri", uri]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{study.store.uri} is being run by process {os.getpid()} on " in line
    assert "wait for its end, or stop it first" in line
    assert seen(uri).statuses() == ["RUNNING"]
    assert track.main([study.store.uri, "--uri", uri]) == 0


def test_failed_and_abandoned_trials_do_not_look_finished(
    fake_study: Study, uri: str, seen: Any
) -> None:
    study = fake_study(count=3)
    tracker = Tracker(study.store, uri)

    def drive() -> None:
        with tracker:
            tracker(DriverStarted())
            for event in (
                study.started(0),
                study.failed(0, Quarantined),
                study.started(1),
                study.epoch(1, 1),
            ):
                tracker(event)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive()
    assert tracker.problem is None
    found = seen(uri)
    assert found.statuses() == ["FAILED", "KILLED"]
    assert found.parents[0].info.status == "KILLED"

    # A driver that is killed outright says nothing; the next one knows that nothing of it runs any
    # more.
    view = View(study.store, uri)
    for event in (study.started(2), DriverStarted(), study.started(1)):
        view.journal.append(replace(event, time=time.time()))
    view.sync()
    assert seen(uri).statuses() == ["FAILED", "RUNNING", "KILLED"]


@pytest.mark.parametrize("arrives", [True, False], ids=["arrived", "did not arrive"])
@pytest.mark.parametrize("call", ["create_run", "log_batch", "update_run", "set_terminated"])
def test_an_answer_that_got_lost_doubles_nothing(
    fake_study: Study, uri: str, seen: Any, call: str, arrives: bool
) -> None:
    study = fake_study()
    view = View(study.store, uri)
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
        with Tracker(study.store, uri) as tracker:
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
    assert View(study.store, uri).sync() == 1
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    study.finished(1)
    assert View(study.store, uri).sync() == 2
    assert seen(uri).statuses() == ["FINISHED", "FINISHED"]


def test_a_file_that_cannot_be_made_fails_nothing_and_is_told(
    fake_study: Study, tmp_path: Path, uri: str
) -> None:
    study = fake_study()
    (tmp_path / "blocked").write_text("a file where MLflow wants a folder")
    with Tracker(study.store, f"sqlite:///{tmp_path / 'blocked'}/mlflow.db") as tracker:
        for event in study.whole(0):
            tracker(event)
        assert "blocked" in str(tracker.finish(complete=False))
    assert View(study.store, uri).sync() == 1


def test_a_model_is_logged_on_request_without_pickle(
    tiny_spec: Path, tmp_path: Path, seen: Any
) -> None:
    import numpy as np
    import torch
    from mlflow import pyfunc

    from medvision.training.checkpoint import load_checkpoint

    options = [
        "models=[{label: ViT_Baseline, embed_dim: 16, depth: 1, heads: 2}]",
        "tracking.log_model=true",
        "folds=2",
    ]
    assert (
        main(
            [
                str(tiny_spec),
                "--in-process",
                *(word for option in options for word in ("--set", option)),
            ]
        )
        == 0
    )
    found = seen(tracking_uri(load_spec(tiny_spec)), "tiny")
    eval_id, child = next(iter(found.children.items()))
    folder = Path(found.client.download_artifacts(child.info.run_id, "model", str(tmp_path)))
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pt", ".pth")]
    loaded = pyfunc.load_model(str(folder))
    assert loaded.metadata.signature.inputs.inputs[0].shape == (-1, 1, 16, 16, 16)
    images = np.random.default_rng(0).normal(size=(2, 1, 16, 16, 16)).astype(np.float32)
    store = open_store(load_spec(tiny_spec))
    model, _ = load_checkpoint(Path(store.path(store.commits()[eval_id].files["weights"])))
    with torch.no_grad():
        expected = model(torch.tensor(images)).sigmoid().numpy()
    assert np.array_equal(loaded.predict(images), expected)


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


def test_a_process_measures_itself() -> None:
    import torch

    from orchestrator.trial.system_metrics import SystemMetrics

    measure = SystemMetrics(torch.device("cpu"))
    sum(range(10**6))
    measured = measure()
    assert measured.keys() == {"system/cpu_percent", "system/memory_rss_mib"}
    assert measured["system/cpu_percent"] > 0
    assert measured["system/memory_rss_mib"] > 50


def test_names_and_values_fit_mlflow() -> None:
    assert key("test/nsd@1.0") == "test/nsd_at_1.0"
    assert len(key("x" * 300)) == 250
    assert key("train.data.label_groups.Grün?") == "train.data.label_groups.Grün_"
    assert flattened({"a": {"b": 1, "c": {}}, "d": [1]}) == [("a.b", 1), ("a.c", {}), ("d", [1])]


def test_a_password_in_the_address_is_not_shown() -> None:
    assert shown("http://user:secret@host:5000/x") == "http://***@host:5000/x"
    assert shown("sqlite:////a/b.db") == "sqlite:////a/b.db"


def test_no_password_is_stored_or_shown(
    tiny_spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = "http://user:hunter2@127.0.0.1:9/"
    assert main([str(tiny_spec), "--in-process", "--set", f"tracking.uri={uri}"]) == 0
    shown = capsys.readouterr()
    assert "MLflow   not delivered, the next run tries again" in shown.out
    assert "hunter2" not in shown.out + shown.err
    root = Path(open_store(load_spec(tiny_spec)).root)
    files = [path for path in root.rglob("*") if path.is_file()]
    assert [path.name for path in files if path.name == "events.jsonl"]
    assert not [path for path in files if b"hunter2" in path.read_bytes()]


def test_a_damaged_trial_is_told_as_failed_and_keeps_no_other_from_mlflow(
    fake_study: Study, uri: str, seen: Any
) -> None:
    study = fake_study(count=3)
    for fold in range(3):
        study.finished(fold)
    study.store.write("trials/1/cases.parquet", b"changed")
    study.store.write(paths.commit(study.trials[2]["eval_id"]), b"{half")
    assert View(study.store, uri).sync() == 1
    found = seen(uri)
    assert found.statuses() == ["FINISHED", "FAILED", "FAILED"]
    reasons = [
        found.children[trial["eval_id"]].data.tags.get("medvision.reason") for trial in study.trials
    ]
    assert reasons[0] is None
    assert "trials/1/cases.parquet: has changed since it was committed" in reasons[1]
    assert "is not valid JSON" in reasons[2]
    assert "test/dice" not in found.children[study.trials[1]["eval_id"]].data.metrics
