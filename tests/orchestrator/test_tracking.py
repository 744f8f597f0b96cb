"""MLflow as a view: every finished trial once, with curves and final scores; nothing lost when it is away."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.run import main
from orchestrator.spec_file import load_spec
from orchestrator.study import open_store
from orchestrator.tracking import Tracker, shown, tracking_uri


def test_a_study_is_a_parent_run_with_a_child_per_trial_each_logged_once(
    tiny_spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    assert main([str(tiny_spec), "--in-process"]) == 0
    uri = tracking_uri(load_spec(tiny_spec))
    assert uri == f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}"
    assert uri in capsys.readouterr().out
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(children) == 6
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.info.status for run in runs} == {"FINISHED"}
    child = children[0]
    curve = client.get_metric_history(child.info.run_id, "train_loss")
    assert sorted(point.step for point in curve) == [1, 2, 3]
    assert 0 <= child.data.metrics["test_dice"] <= 1
    assert child.data.params["train.training.epochs"] == "3"
    assert {item.path for item in client.list_artifacts(child.info.run_id)} == {"commit.json", "manifest.json"}
    assert "report" in {item.path for item in client.list_artifacts(parent.info.run_id)}

    store = open_store(load_spec(tiny_spec))
    assert Tracker(store, "tiny", uri).sync() == 0
    store.remove("tracking.json")  # even a lost record makes no second run
    assert Tracker(store, "tiny", uri).sync() == 6
    assert len(client.search_runs([experiment.experiment_id])) == 7


def test_a_server_that_is_away_fails_nothing_and_gets_it_later(
    tiny_spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where MLflow wants a folder")
    assert main([str(tiny_spec), "--in-process", "--set", f"tracking.uri=sqlite:///{blocked}/mlflow.db"]) == 0
    assert "MLflow   not delivered" in capsys.readouterr().out
    store = open_store(load_spec(tiny_spec))
    assert Tracker(store, "tiny", f"sqlite:///{tmp_path / 'later.db'}").sync() == 6


def test_a_password_in_the_address_is_not_shown() -> None:
    assert shown("http://user:secret@host:5000/x") == "http://***@host:5000/x"
    assert shown("sqlite:////a/b.db") == "sqlite:////a/b.db"


def test_no_password_is_stored_in_the_study(tiny_spec: Path) -> None:
    uri = "http://user:hunter2@127.0.0.1:9/"
    options = ["--in-process", "--set", f"tracking.uri={uri}", "--set", "tracking.enabled=false"]
    assert main([str(tiny_spec), *options]) == 0
    root = Path(open_store(load_spec(tiny_spec)).root)
    assert not [path for path in root.rglob("*.json") if "hunter2" in path.read_text()]
