"""A study without training: a plan, and commits that look like real ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from record import paths
from record.events import Epoch, Event, Failed, Finished, Quarantined, Started
from record.manifest import Git, Manifest
from record.schema import Claim, StudyFile
from record.store import Store
from record.study import StoredStudy
from record.tables import table_bytes
from tests.record.builders import commit, study_plan

EPOCHS = 4


class FakeStudy:
    """`trials` rows of a plan; `events` are what a driver tells of one trial, `commit` puts its
    results into the store.
    """

    def __init__(self, root: Path, name: str, count: int) -> None:
        self.store = Store(str(root / name))
        self.trials: list[dict[str, Any]] = [
            {
                "model": "ViT_Baseline",
                "task": "Task99_Spheres",
                "fraction": 1.0,
                "fold": fold,
                "seed": 0,
                "train_id": f"{name}-train-{fold}",
                "eval_id": f"{name}-eval-{fold}",
                "notes": [],
            }
            for fold in range(count)
        ]
        spec = {
            "name": name,
            "models": ["ViT_Baseline"],
            "tasks": ["Task99_Spheres"],
            "storage": str(root),
        }
        grid = {name: spec[name] for name in ("name", "models", "tasks")}
        plan = study_plan(**grid, trials=self.trials, metrics={"dice": {}, "nsd": {}})
        self.store.save(paths.PLAN, plan)
        self.store.save(paths.STUDY, StudyFile(spec=spec, blocks={}, data_root=""))
        self.store.save(paths.MANIFEST, Manifest(git=Git(commit="abc123")))

    @property
    def stored(self) -> StoredStudy:
        return StoredStudy.opened(self.store)

    def losses(self, fold: int) -> list[float]:
        return [1 / (epoch + fold + 1) for epoch in range(1, EPOCHS + 1)]

    def started(self, fold: int, attempt: int = 1) -> Event:
        return Started(*self._name(fold), attempt, lane=fold)

    def epoch(self, fold: int, epoch: int) -> Event:
        metrics = {
            "train_loss": self.losses(fold)[epoch - 1],
            "lr": 0.5,
            "system/memory_rss_mib": 99.0,
        }
        return Epoch(*self._name(fold), epoch, metrics, lane=fold)

    def failed(self, fold: int, kind: type[Failed | Quarantined] = Failed) -> Event:
        return kind(*self._name(fold), "the disk is on fire", lane=fold)

    def finished(self, fold: int) -> Event:
        """Commits the trial, too."""
        trial, folder = self.trials[fold], f"trials/{fold}"
        cell = {name: trial[name] for name in ("model", "task", "fraction", "fold", "seed")}
        losses = [
            {"epoch": epoch, "split": "train", "metric": "loss", "value": value}
            for epoch, value in enumerate(self.losses(fold), start=1)
        ]
        cases = [
            {**cell, "case": f"c{i}", "group": "all", "dice": 0.25 * i, "nsd@1.0": 0.5}
            for i in range(3)
        ]
        files = {"history": f"{folder}/history.parquet", "cases": f"{folder}/cases.parquet"}
        self.store.write(files["history"], table_bytes(losses))
        self.store.write(files["cases"], table_bytes(cases))
        marker = commit(
            eval_id=trial["eval_id"],
            train_id=trial["train_id"],
            files=files,
            cell=cell,
            identity={"train": {"training": {"epochs": EPOCHS}}, "eval": {"nsd": "surfel"}},
            cost={"seconds": 8.0, "epochs": EPOCHS},
            attempt={"host": "here"},
            finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
        self.store.save(paths.claim(marker.train_id), Claim(token=marker.token))
        self.store.commit(marker)
        return Finished(*self._name(fold), 8.0, 0.25, lane=fold)

    def whole(self, fold: int) -> list[Event]:
        """All events of a trial that goes well."""
        epochs = [self.epoch(fold, epoch) for epoch in range(1, EPOCHS + 1)]
        return [self.started(fold), *epochs, self.finished(fold)]

    def _name(self, fold: int) -> tuple[str, str]:
        return f"fold {fold}", self.trials[fold]["eval_id"]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with MLflow's tables, to be copied: making them takes longer than most
    tests.
    """
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def fake_study(tmp_path: Path) -> Callable[..., FakeStudy]:
    """Makes a study `name` of `count` trials under tmp_path/runs."""

    def make(name: str = "fake", count: int = 2) -> FakeStudy:
        return FakeStudy(tmp_path / "runs", name, count)

    return make


class Seen:
    """What a server holds of one study, read through MLflow's own client."""

    def __init__(self, uri: str, name: str = "fake") -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(uri)
        self.experiment = self.client.get_experiment_by_name(name)
        runs = self.client.search_runs([self.experiment.experiment_id])
        self.children = {
            r.data.tags["medvision.eval_id"]: r for r in runs if "mlflow.parentRunId" in r.data.tags
        }
        self.parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        assert len(runs) == len(self.children) + len(self.parents), "a trial has two runs"

    def curve(self, eval_id: str, key: str = "train/loss") -> list[tuple[int, float]]:
        points = self.client.get_metric_history(self.children[eval_id].info.run_id, key)
        return sorted((point.step, point.value) for point in points)

    def statuses(self) -> list[str]:
        return [self.children[name].info.status for name in sorted(self.children)]

    def artifacts(self, run: Any, folder: str | None = None) -> set[str]:
        return {item.path for item in self.client.list_artifacts(run.info.run_id, folder)}


@pytest.fixture
def seen() -> type[Seen]:
    """`seen(uri, name)`: what a server holds of a study."""
    return Seen


@pytest.fixture
def ray_cluster(isolated_cache: Path) -> Iterator[None]:
    """A Ray of this test's own."""
    from orchestrator.executors.lanes.cluster import cluster

    with cluster(None):
        yield
