"""The MLflow side of a study: finds or makes its experiment and runs, and sends points, parameters
and tags in batches.

Whatever is sent may be sent again and arrives once: runs are found by their tags, and what a run
already holds is asked of the server before anything is added to it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.planning.identity import flattened
from record.schema import CELL, PlannedTrial

TAG = "medvision.eval_id"
STUDY_TAG = "medvision.study"
PARENT_TAG = "mlflow.parentRunId"
TEXT_LIMIT = 5000  # characters of a tag that older servers keep, too
METRICS_AT_ONCE, PARAMS_AT_ONCE = 1000, 100  # MLflow's limits of one batch
_CLIENT = {
    # One try, soon given up. What fails is tried again after asking the server what it holds,
    # because a blind repetition of "create a run" could make two.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def run_name(trial: PlannedTrial) -> str:
    """Name of a trial's run."""
    return f"{trial.model} {trial.task} {trial.fraction:g} fold {trial.fold} seed {trial.seed}"


def key(name: str) -> str:
    """A name of letters that MLflow takes, at most 250 of them."""
    return re.sub(r"[^\w\-. /:]", "_", name.replace("@", "_at_"))[:250]


@dataclass
class Child:
    """A trial's run and what the server holds of it: values by metric and step, names of
    parameters.
    """

    run_id: str
    points: dict[tuple[str, int], set[float]] = field(default_factory=dict)
    params: set[str] = field(default_factory=set)
    waiting: list[Any] = field(default_factory=list)


class Server:
    """One study's experiment, parent run and children. Methods raise what the server or the SQLite
    file says.

    Args:
        name: of the experiment.
        study: what tells the study's parent run from others (its URI).
        git: the commit.
        artifacts: where an experiment of a SQLite file keeps its artifacts; by default MLflow
            decides.
    """

    def __init__(self, uri: str, name: str, study: str, git: str, artifacts: str | None) -> None:
        self.uri, self.name, self.study, self.git, self.artifacts = uri, name, study, git, artifacts
        self.client: Any = None
        self.experiment = self.parent = ""
        self._children: dict[str, Child] = {}

    def connect(self) -> Any:
        """The client, with experiment and parent run there."""
        for name, value in _CLIENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        if self.client is None:
            if self.uri.startswith("sqlite:///"):
                Path(self.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
            self.client = MlflowClient(tracking_uri=self.uri)
        if not self.parent:
            self.experiment = self._find_experiment()
            self.parent = self._find_parent()
        return self.client

    def distrust(self) -> None:
        """Forget what the server holds: after an error, what was sent may have arrived or not."""
        self.parent = ""
        self._children.clear()

    def _find_experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(self.name)
        if found is None:
            # Without this kind, MLflow's page takes the experiment for one of language models and
            # hides the runs.
            tags = {"mlflow.experimentKind": "custom_model_development"}
            try:
                return str(self.client.create_experiment(self.name, self.artifacts, tags))
            except MlflowException:  # another study of this name was a moment faster
                found = self.client.get_experiment_by_name(self.name)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _find_parent(self) -> str:
        found = self._search(f"tags.`{STUDY_TAG}` = '{self.study}'", 1)
        if not found:
            tags = {
                STUDY_TAG: self.study,
                "mlflow.runName": f"study {self.name}",
                "medvision.git": self.git,
            }
            found = [self.client.create_run(self.experiment, tags=tags)]
        return str(found[0].info.run_id)

    def _search(self, condition: str, limit: int) -> list[Any]:
        return list(self.client.search_runs([self.experiment], condition, max_results=limit))

    def child(self, trial: PlannedTrial, start: int) -> Child:
        """The run of a trial (a row of the plan), found by its id or made; `start` of a new one in
        ms.
        """
        eval_id = str(trial.eval_id)
        if eval_id not in self._children:
            found = self._search(
                f"tags.`{TAG}` = '{eval_id}' and tags.`{PARENT_TAG}` = '{self.parent}'", 1
            )
            if found:
                child = Child(str(found[0].info.run_id), params=set(found[0].data.params))
                for name in found[0].data.metrics:
                    for point in self.client.get_metric_history(child.run_id, name):
                        child.points.setdefault((name, point.step), set()).add(point.value)
            else:
                tags = {PARENT_TAG: self.parent, "mlflow.runName": run_name(trial), TAG: eval_id}
                tags |= {
                    f"medvision.{name}": str(getattr(trial, name)) for name in (*CELL, "train_id")
                }
                run = self.client.create_run(
                    self.experiment, start, tags | {"medvision.git": self.git}
                )
                child = Child(str(run.info.run_id))
            self._children[eval_id] = child
        return self._children[eval_id]

    def ended(self, eval_id: str) -> None:
        """A trial is through: its points need not be remembered."""
        self._children.pop(eval_id, None)

    def add(
        self, child: Child, metrics: Mapping[str, Any], step: int, time: int, *, once: bool = False
    ) -> None:
        """Queue points that the run lacks, `time` in ms; those that are not finite cannot be drawn
        and are left out.

        Args:
            once: leave a step alone that has a value, even another one.
        """
        from mlflow.entities import Metric

        for name, value in metrics.items():
            held = child.points.setdefault((key(name), step), set())
            if math.isfinite(value) and float(value) not in held and not (once and held):
                held.add(float(value))
                child.waiting.append(Metric(key(name), float(value), time, step))

    def flush(self) -> None:
        """Send all queued points."""
        for child in self._children.values():
            while child.waiting:
                self.client.log_batch(child.run_id, metrics=child.waiting[:METRICS_AT_ONCE])
                del child.waiting[:METRICS_AT_ONCE]

    def describe(self, child: Child, params: Mapping[str, Any], tags: Mapping[str, Any]) -> None:
        """Add parameters that the run lacks (MLflow changes none), and set tags."""
        from mlflow.entities import Param, RunTag

        told = {key(name): str(value)[:TEXT_LIMIT] for name, value in flattened(params)}
        new = [Param(name, value) for name, value in told.items() if name not in child.params]
        for first in range(0, len(new), PARAMS_AT_ONCE):
            self.client.log_batch(child.run_id, params=new[first : first + PARAMS_AT_ONCE])
        child.params |= told.keys()
        self.client.log_batch(
            child.run_id, tags=[RunTag(key(name), str(tags[name])[:TEXT_LIMIT]) for name in tags]
        )

    def set_status(self, run_id: str, status: str, time: int) -> None:
        """Let a run be RUNNING again, or end it at `time` in ms."""
        if status == "RUNNING":
            self.client.update_run(run_id, status=status)
        else:
            self.client.set_terminated(run_id, status, time)

    def end_orphans(self, time: int) -> None:
        """End the children that run by their status: called when none can be."""
        condition = f"tags.`{PARENT_TAG}` = '{self.parent}' and attributes.status = 'RUNNING'"
        while orphans := self._search(condition, 1000):
            for orphan in orphans:
                self.client.set_terminated(orphan.info.run_id, "KILLED", time)
