"""The parent run: counts, mean Dice and p as metrics, the study's settings as parameters; and the
names that make MLflow's page compare by Dice.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from mlflow.tracking._tracking_service import utils

from orchestrator import track
from orchestrator.run import main
from orchestrator.tracking.parent import describe_parent, report_metrics, study_params
from orchestrator.tracking.sqlite_file import file_beside
from orchestrator.tracking.view import View
from record import paths
from record.schema import Failure
from record.store import Store
from record.study import StoredStudy
from tests.orchestrator.tracking.servers import Server
from tests.record.builders import study_plan

Study = Callable[..., Any]
MODELS = (
    b"model,tasks,dice_mean,dice_sd,nsd_mean\nViT_Baseline,1,0.5,,0.25\nMedVisionLlama,1,0.75,,\n"
)
ROWS = b"""baseline,candidate,task,fraction,metric,p_methods,p_holm,method_difference,verdict
ViT_Baseline,MedVisionLlama,T,0.1,dice,0.5,,0.125,not significant
ViT_Baseline,MedVisionLlama,T,1.0,dice,0.001,0.002,0.25,significant
ViT_Baseline,MedVisionLlama,T,1.0,nsd,0.01,0.02,0.25,significant
ViT_Baseline,UNETR,T,1.0,dice,,,,incomplete: 3 of 5 trials
"""
TABLES = {"report/models.csv": MODELS, "report/significance.csv": ROWS}


@pytest.fixture(params=["file", pytest.param("server", marks=pytest.mark.slow)])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """MLflow's data in a file of its own, and behind a server: both must take the same."""
    if request.param == "file":
        yield request.getfixturevalue("uri")
        return
    server = Server(tmp_path)
    server.start()
    yield server.uri
    server.kill()


def test_the_numbers_of_a_report_are_its_tables() -> None:
    assert report_metrics(TABLES) == {
        "Dice": 0.625,
        "Dice/ViT_Baseline": 0.5,
        "Dice/MedVisionLlama": 0.75,
        "NSD/ViT_Baseline": 0.25,
        "p/MedVisionLlama vs ViT_Baseline/T/0.1": 0.5,
        "p/MedVisionLlama vs ViT_Baseline/T/1": 0.001,
        "p_holm/MedVisionLlama vs ViT_Baseline/T/1": 0.002,
        "difference/MedVisionLlama vs ViT_Baseline/T/0.1": 0.125,
        "difference/MedVisionLlama vs ViT_Baseline/T/1": 0.25,
        "rows/all": 4,
        "rows/significant": 2,
        "rows/not significant": 1,
        "rows/incomplete": 1,
    }
    assert report_metrics({"report/models.csv": b"\n"}) == {}


def test_the_parent_shows_counts_and_numbers_and_forgets_those_of_an_earlier_report(
    fake_study: Study, anywhere: str, seen: Any
) -> None:
    study = fake_study(count=3)
    study.finished(0)
    failure = Failure(kind="exception", reason="the disk is on fire", time=1.7e9)
    study.store.save(paths.failure(study.trials[1]["eval_id"], "token"), failure)
    view = View(study.stored, anywhere)
    assert view.sync() == 1
    (parent,) = seen(anywhere).parents
    assert math.isnan(parent.data.metrics.pop("Dice"))
    assert parent.data.metrics == {"count/planned": 3, "count/finished": 1}
    assert parent.data.params["tasks"] == "Task99_Spheres"
    assert parent.data.params["folds"] == "0, 1, 2"

    for name, content in TABLES.items():
        study.store.write(name, content)
    view.log_report(complete=False)
    shown = seen(anywhere).parents[0].data.metrics
    counts = {"count/planned": 3, "count/finished": 1, "count/failed": 1}
    assert shown == report_metrics(TABLES) | counts

    # The next report has neither this row nor a significant one; NaN is what MLflow has for "none".
    study.store.write("report/significance.csv", b"".join(ROWS.splitlines(keepends=True)[:2]))
    study.store.write("report/models.csv", MODELS.replace(b"0.75", b"0.5"))
    study.finished(2)
    again = View(study.stored, anywhere)
    assert again.sync() == 1
    again.log_report(complete=False)
    shown = seen(anywhere).parents[0].data.metrics
    assert (shown["rows/all"], shown["rows/significant"], shown["count/finished"]) == (1, 0, 2)
    assert math.isnan(shown["p/MedVisionLlama vs ViT_Baseline/T/1"])
    assert shown["Dice"] == shown["Dice/MedVisionLlama"] == 0.5


def test_what_an_edited_spec_changed_is_named(fake_study: Study, uri: str, seen: Any) -> None:
    study = fake_study()
    view = View(study.stored, uri)
    view.sync()
    client, parent = view.server.client, view.server.parent
    edited = study_plan(
        name="fake", tasks=["A", "B"], training={"epochs": 3, "augmentation": {"noise": 0.5}}
    )
    describe_parent(client, parent, edited, {}, report=False)
    described = seen(uri).parents[0].data
    assert described.params["training.augmentation.noise"] == "0.5"
    assert described.params["folds"] == "0, 1"
    assert "tasks: A, B" in described.tags["medvision.changed"]
    assert "folds: not set" in described.tags["medvision.changed"]
    assert "epochs" not in described.tags["medvision.changed"]
    describe_parent(client, parent, study.stored.plan, {}, report=False)
    assert "tasks" not in seen(uri).parents[0].data.tags["medvision.changed"]


def test_compare_opens_on_dice_by_fold_and_model(fake_study: Study, uri: str, seen: Any) -> None:
    """MLflow's page takes the first metric that all runs have, in the order in which the server
    gives them, and the first three of the sorted parameters in which they differ (its class
    ParallelCoordinatesPlotPanel).
    """
    study = fake_study()
    view = View(study.stored, uri)
    for event in [*study.whole(0), study.started(1), study.epoch(1, 1)]:
        view.journal.append(replace(event, time=time.time()))
    view.sync()
    assert math.isnan(seen(uri).children[study.trials[1]["eval_id"]].data.metrics["Dice"])
    study.finished(1)
    view.look = True
    view.sync()
    found = seen(uri)
    one, two = (run.data for run in found.children.values())
    for run in (one, two, found.parents[0].data):
        assert next(iter(run.metrics)) == "Dice"
    assert one.metrics["Dice"] == one.metrics["test/dice"] == 0.25
    differ = sorted(name for name in one.params if one.params[name] != two.params.get(name))
    assert differ == ["fold"]
    assert sorted(one.params)[:3] == ["fold", "fraction", "model"]


def test_a_moved_folder_keeps_its_runs_and_their_artifacts(
    tiny_spec: Path, tmp_path: Path, seen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main([str(tiny_spec), "--in-process", "--set", "folds=2"]) == 0
    before = seen(file_beside(Store(str(tmp_path / "runs" / "tiny"))), "tiny")
    child = next(iter(before.children.values()))
    (tmp_path / "runs").rename(tmp_path / "moved")
    utils._artifact_repos_cache.clear()  # of MLflow's client, as in a new process
    assert track.main([str(tmp_path / "moved" / "tiny")]) == 0
    assert not (tmp_path / "runs").exists()
    found = seen(file_beside(Store(str(tmp_path / "moved" / "tiny"))), "tiny")
    assert [run.info.run_id for run in found.parents] == [before.parents[0].info.run_id]
    assert {run.info.run_id for run in found.children.values()} == {
        run.info.run_id for run in before.children.values()
    }
    assert "report/significance.csv" in found.artifacts(found.parents[0], "report")
    kept = found.client.download_artifacts(child.info.run_id, "commit.json", str(tmp_path))
    assert Path(kept).stat().st_size > 100
    assert found.parents[0].data.metrics["count/finished"] == 4
    assert 0 <= found.parents[0].data.metrics["Dice"] <= 1


def parents(client: Any) -> dict[str, str]:
    """Ids of the parent runs of the studies `fake`, by study."""
    experiment = client.get_experiment_by_name("fake").experiment_id
    runs = client.search_runs([experiment], "tags.`medvision.study` LIKE '%'")
    return {run.data.tags["medvision.study"]: run.info.run_id for run in runs}


def test_a_copied_study_has_a_run_of_its_own(fake_study: Study, seen: Any) -> None:
    """And a renamed one keeps its run."""
    study = fake_study()
    study.finished(0)
    uri = file_beside(study.store)
    assert View(study.stored, uri).sync() == 1
    before = seen(uri, "fake")
    folder = Path(study.store.uri)
    copy = StoredStudy.opened(Store(str(shutil.copytree(folder, folder.with_name("copy")))))
    assert View(copy, uri).sync() == 1
    assert parents(before.client) == {study.store.uri: before.parents[0].info.run_id} | {
        copy.store.uri: mock.ANY
    }
    now = before.client.get_experiment_by_name("fake")
    assert now.artifact_location == before.experiment.artifact_location
    renamed = Store(str(folder.rename(folder.with_name("renamed"))))
    View(StoredStudy.opened(renamed), uri).sync()
    found = parents(before.client)
    assert found[renamed.uri] == before.parents[0].info.run_id
    assert set(found) == {renamed.uri, copy.store.uri}


def test_another_studys_artifacts_stay_where_they_are(
    fake_study: Study, tmp_path: Path, uri: str, seen: Any
) -> None:
    """Two studies of one name share a database that belongs to neither."""
    study = fake_study()
    study.finished(0)
    assert View(study.stored, uri).sync() == 1
    place = seen(uri).experiment.artifact_location
    other = type(study)(tmp_path / "elsewhere", "fake", 2)
    other.finished(0)
    assert View(other.stored, uri).sync() == 1
    client = View(study.stored, uri).server.connect()
    assert client.get_experiment_by_name("fake").artifact_location == place
    assert set(parents(client)) == {study.store.uri, other.store.uri}


def test_params_are_whole_words_for_people() -> None:
    plan = study_plan(
        models=["a", "b"], fractions=[0.1, 1.0], data={"image_size": [8, 8, 8]}, trials=[{}]
    )
    assert study_params(plan) == {
        "models": "a, b",
        "fractions": "0.1, 1",
        "folds": "0",
        "seeds": "0",
        "trials": "1",
        "data.image_size": "[8, 8, 8]",
    }
