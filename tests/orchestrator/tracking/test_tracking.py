"""MLflow as a view: a child run per trial, live and from the store alike, every point once, nothing
lost when it is away.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator import track
from orchestrator.planning.identity import flattened
from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.spec.yaml_file import load_spec
from orchestrator.tracking.server import key
from orchestrator.tracking.tracker import Tracker, tracking_uri
from orchestrator.tracking.view import View
from record import paths
from record.events import DriverStarted, Quarantined
from record.lock import study_lock
from record.schema import Failure

Study = Callable[..., Any]


def test_a_study_is_a_parent_run_with_a_child_per_trial_each_logged_once(
    tiny_spec: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    seen: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main([str(tiny_spec), "--in-process"]) == 0
    spec = load_spec(tiny_spec)
    uri = tracking_uri(spec, open_store(spec))
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
    view = View(study.stored, uri)
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
    again = View(study.stored, uri)
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
    view = View(study.stored, uri)
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
    view = View(study.stored, uri)
    view.journal.append(replace(study.started(1, 3), time=time.time()))
    assert track.main([study.store.uri, "--uri", uri]) == 0
    again = seen(uri)
    assert again.children[two].info.status == "RUNNING"
    assert again.children[two].info.run_id == found.children[two].info.run_id


def test_a_running_study_is_left_to_its_driver(
    fake_study: Study, uri: str, seen: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    study = fake_study()
    view = View(study.stored, uri)
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
    tracker = Tracker(study.stored, uri)

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
    view = View(study.stored, uri)
    for event in (study.started(2), DriverStarted(), study.started(1)):
        view.journal.append(replace(event, time=time.time()))
    view.sync()
    assert seen(uri).statuses() == ["FAILED", "RUNNING", "KILLED"]


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
    spec = load_spec(tiny_spec)
    found = seen(tracking_uri(spec, open_store(spec)), "tiny")
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
    assert re.fullmatch(
        r"train\.data\.label_groups\.Grün_-[0-9a-f]{8}", key("train.data.label_groups.Grün?")
    )
    assert key("train.data.label_groups.Grün?") != key("train.data.label_groups.Grün!")
    assert flattened({"a": {"b": 1, "c": {}}, "d": [1]}) == [("a.b", 1), ("a.c", {}), ("d", [1])]
