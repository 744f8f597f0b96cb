"""MLflow as a view of the result store: an experiment per study, a parent run, a child run per finished trial.

Everything is written from committed results by one process, in batches, so that trials never wait for a server, SQLite is
never locked, and what was missed (a server that was down) is delivered the next time. Deleting MLflow loses nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.spec import Spec
from reports.store import CELL, Store, read_plan, read_table

URI_VARIABLE = "MLFLOW_TRACKING_URI"
RECORD = "tracking.json"
TAG = "medvision.eval_id"
STUDY_TAG = "medvision.study"


def tracking_uri(spec: Spec) -> str:
    """`tracking.uri`, MLFLOW_TRACKING_URI, or one SQLite file beside the studies (here, where storage is remote)."""
    explicit = spec.tracking.uri or os.environ.get(URI_VARIABLE)
    if explicit:
        return explicit
    folder = Path.cwd() if "://" in spec.storage else Path(spec.storage).resolve()
    return f"sqlite:///{folder / 'mlflow.db'}"


def shown(uri: str) -> str:
    """An address without the user and password that it may carry."""
    return re.sub(r"//[^/@]*@", "//***@", uri)


class Tracker:
    """Delivers a study's commits to MLflow; each commit once, however often `sync` is called."""

    def __init__(self, store: Store, name: str, uri: str) -> None:
        self.store, self.name, self.uri = store, name, uri
        self._lock = threading.Lock()
        self._client: Any = None

    def sync(self) -> int:
        """Log every commit of the current plan that this server does not have yet; returns how many were logged.

        Raises:
            Exception: whatever the server or the file says; nothing is lost, the next call tries again.
        """
        with self._lock:
            record = self.store.read_json(RECORD) or {}
            known: dict[str, str] = record.setdefault(shown(self.uri), {})
            commits = self.store.commits()
            planned = [trial for trial in read_plan(self.store)["trials"] if trial["eval_id"] in commits]
            waiting = [trial for trial in planned if trial["eval_id"] not in known]
            if not waiting:
                return 0
            client = self._connect()
            experiment = self._experiment(client)
            parent = self._parent(client, experiment)
            for trial in waiting:
                run = self._child(client, experiment, parent, trial, commits[trial["eval_id"]])
                known[trial["eval_id"]] = run
                self.store.write_json(RECORD, record)
            return len(waiting)

    def deliver(self, files: Iterable[str], *, again: bool) -> str | None:
        """Sync, then put the report's files and the manifest on the parent run; returns what went wrong, if anything.

        Args:
            files: names in `report/`. again: also where nothing was left to sync.
        """
        try:
            if self.sync() or again:
                with self._lock:
                    self._finish(files)
        except Exception as error:  # MLflow raises many kinds; none of them may fail a study
            return shown(f"{type(error).__name__}: {error}")
        return None

    def _finish(self, files: Iterable[str]) -> None:
        client = self._connect()
        parent = self._parent(client, self._experiment(client))
        with tempfile.TemporaryDirectory() as scratch:
            for name in files:
                content = self.store.read(f"report/{name}")
                if content is not None:
                    (Path(scratch) / name).write_bytes(content)
            client.log_artifacts(parent, scratch, "report")
        client.log_dict(parent, self.store.read_json("manifest.json"), "manifest.json")
        client.set_terminated(parent)

    def _connect(self) -> Any:
        if self._client is None:
            import logging

            from mlflow import MlflowClient

            for noisy in ("mlflow", "alembic"):
                logging.getLogger(noisy).setLevel(logging.ERROR)
            if self.uri.startswith("sqlite:///"):
                Path(self.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
            self._client = MlflowClient(tracking_uri=self.uri)
        return self._client

    def _experiment(self, client: Any) -> str:
        found = client.get_experiment_by_name(self.name)
        if found is not None:
            return str(found.experiment_id)
        artifacts = None
        if self.uri.startswith("sqlite:///") and self.store.local:
            artifacts = Path(self.store.root, "mlartifacts").as_uri()
        return str(client.create_experiment(self.name, artifact_location=artifacts))

    def _find(self, client: Any, experiment: str, tag: str, value: str) -> Any:
        found = client.search_runs([experiment], f"tags.`{tag}` = '{value}'", max_results=1)
        return found[0] if found else None

    def _parent(self, client: Any, experiment: str) -> str:
        run = self._find(client, experiment, STUDY_TAG, self.store.uri)
        if run is None:
            tags = {STUDY_TAG: self.store.uri, "mlflow.runName": f"study {self.name}"}
            run = client.create_run(experiment, tags=tags)
        return str(run.info.run_id)

    def _child(
        self, client: Any, experiment: str, parent: str, trial: Mapping[str, Any], marker: Mapping[str, Any]
    ) -> str:
        from mlflow.entities import Metric, Param, RunTag

        run = self._find(client, experiment, TAG, trial["eval_id"])
        end = int(datetime.strptime(marker["finished"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp() * 1000)
        start = end - int(1000 * marker["cost"]["seconds"])
        if run is None:
            name = f"{trial['model']} {trial['task']} {trial['fraction']:g} fold {trial['fold']} seed {trial['seed']}"
            tags = {"mlflow.parentRunId": parent, "mlflow.runName": name, TAG: trial["eval_id"]}
            tags |= {f"medvision.{key}": str(trial[key]) for key in (*CELL, "train_id")}
            tags |= {"medvision.git": str((self.store.read_json("manifest.json") or {}).get("git", {}).get("commit"))}
            run = client.create_run(experiment, start_time=start, tags=tags)
        run_id = str(run.info.run_id)
        params = [Param(key, str(value)) for key, value in _flat({**trial, **marker["identity"]})]
        history = read_table(self.store, marker["files"]["history"]).to_pandas()
        metrics = [
            Metric(f"{row.split}_{row.metric}", row.value, start, row.epoch) for row in history.itertuples(index=False)
        ]
        cases = read_table(self.store, marker["files"]["cases"]).to_pandas()
        for column, value in cases.select_dtypes("number").mean().items():
            # Means over this trial's test cases, for charts; infinite where a structure was missed.
            if column not in CELL and value == value and abs(value) != float("inf"):
                metrics.append(Metric(f"test_{column}".replace("@", "_at_"), float(value), end, 0))
        metrics += [Metric(f"cost_{key}", float(value), end, 0) for key, value in marker["cost"].items()]
        for first in range(0, max(len(metrics), 1), 1000):
            client.log_batch(run_id, metrics=metrics[first : first + 1000])
        for first in range(0, len(params), 100):
            client.log_batch(run_id, params=params[first : first + 100])
        client.log_batch(run_id, tags=[RunTag("medvision.attempt", str(marker["attempt"]))])
        client.log_dict(run_id, dict(marker), "commit.json")
        client.log_dict(run_id, self.store.read_json("manifest.json"), "manifest.json")
        client.set_terminated(run_id, end_time=end)
        return run_id


def _flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [
            pair for key, inner in value.items() for pair in _flat(inner, f"{prefix}.{key}" if prefix else str(key))
        ]
    return [(prefix, value)]


class BackgroundTracker:
    """Calls `sync` in a thread after `poke`, so that finished trials appear while others train.

    What fails here is tried again by the next call and by `Tracker.deliver`, which tells of it.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self._poked, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def poke(self) -> None:
        """A trial has been committed."""
        self._poked.set()

    def stop(self, patience_seconds: float = 30.0) -> None:
        """End the thread, after what it is doing."""
        self._ended.set()
        self._poked.set()
        self._thread.join(patience_seconds)

    def _run(self) -> None:
        while True:
            self._poked.wait()
            self._poked.clear()
            if self._ended.is_set():
                return
            with contextlib.suppress(Exception):
                self.tracker.sync()
