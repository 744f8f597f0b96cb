"""The MLflow side of a study: finds or makes its experiment and runs, and sends points, parameters
and tags in batches.

Whatever is sent may be sent again and arrives once: runs are found by their tags, and what a run
already holds is asked of the server before anything is added to it.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.planning.identity import flattened
from orchestrator.tracking.sqlite_file import database, repair_artifacts
from record.command import NO_TELEMETRY, default_variables
from record.schema import CELL, PlannedTrial

TAG = "medvision.eval_id"
STUDY_TAG = "medvision.study"
PARENT_TAG = "mlflow.parentRunId"
DICE = "Dice"  # a run's first metric, which MLflow's page compares by (`Server._opened`)
TEXT_LIMIT = 5000  # characters of a tag that older servers keep, too
METRICS_AT_ONCE, PARAMS_AT_ONCE = 1000, 100  # MLflow's limits of one batch
_LONGEST_KEY = 250  # characters that every database of MLflow keeps
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
    """A name as MLflow takes it: letters, digits and `-_. :`, of parts between `/`, at most 250
    characters. One that is not such carries a hash of what it was, so that no two share a key.
    """
    plain = name.replace("@", "_at_")
    parts = re.sub(r"[^\w\-. /:]", "_", plain).split("/")
    # MLflow takes them for folders, and refuses what leads elsewhere.
    shown = "/".join("_" if part in ("", ".", "..") else part for part in parts)
    if shown == plain and len(shown) <= _LONGEST_KEY:
        return shown
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
    return f"{shown[: _LONGEST_KEY - 9]}-{digest[:8]}"


def key_part(name: str) -> str:
    """A name as one part of a key: a `/` in it begins no other part, and no other name has it."""
    return re.sub("[/@]", "\0", name)


def _quoted(text: str) -> str:
    """A text in a condition of MLflow's search, which knows no escapes."""
    return f'"{text}"' if "'" in text else f"'{text}'"


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
        study: what distinguishes the study's parent run from others (its URI).
        git: the commit.
        artifacts: where an experiment of a SQLite file keeps its artifacts; by default MLflow
            decides.
        beside: whether the SQLite file lies beside the study's folder, and so moves with it.
    """

    def __init__(
        self,
        uri: str,
        name: str,
        study: str,
        git: str,
        artifacts: str | None = None,
        *,
        beside: bool = False,
    ) -> None:
        self.uri, self.name, self.study, self.git = uri, name, study, git
        self.artifacts, self.beside = artifacts, beside
        self.client: Any = None
        self.experiment = self.parent = ""
        self._children: dict[str, Child] = {}

    def connect(self) -> Any:
        """The client, with experiment and parent run there."""
        default_variables(NO_TELEMETRY | _CLIENT)
        from mlflow import MlflowClient

        if self.client is None:
            if file := database(self.uri):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch(mode=0o600)  # MLflow asks nobody for a password
            self.client = MlflowClient(tracking_uri=self.uri)
        if not self.parent:
            self.experiment = self._find_experiment()
            file = database(self.uri)
            own = self._search(f"tags.`{STUDY_TAG}` = {_quoted(self.study)}", 1)
            moved = self._moved(file.parent) if file and self.beside and not own else []
            if self.artifacts and file:
                repair_artifacts(file, self.experiment, self.artifacts, anyway=bool(moved))
            self.parent = self._parent_of(own or moved)
        return self.client

    def distrust(self) -> None:
        """Forget what the server holds: after an error, what was sent may or may not have
        arrived.
        """
        self.parent = ""
        self._children.clear()

    def _find_experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(self.name)
        if found is None:
            # Without this kind, MLflow's page takes the experiment for one with language models and
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

    def _moved(self, folder: Path) -> list[Any]:
        """The study's parent run from before it was moved or renamed, if any: one whose study does
        not lie in the database's folder as another one, of which this is a copy.
        """
        own = Path(self.study).name
        return [
            run
            for run in self._search(f"tags.`{STUDY_TAG}` LIKE '%'", 100)
            if (old := Path(run.data.tags[STUDY_TAG]).name) == own or not (folder / old).exists()
        ][:1]

    def _parent_of(self, found: list[Any]) -> str:
        """The parent run's id; a new run's where none was found."""
        if not found:
            tags = {
                STUDY_TAG: self.study,
                "mlflow.runName": f"study {self.name}",
                "medvision.git": self.git,
            }
            found = [self._opened(self.client.create_run(self.experiment, tags=tags))]
        elif found[0].data.tags[STUDY_TAG] != self.study:
            self.client.set_tag(found[0].info.run_id, STUDY_TAG, self.study)
        return str(found[0].info.run_id)

    def _opened(self, run: Any) -> Any:
        """A new run, whose first metric is its Dice, undefined until there is one: MLflow's page
        compares runs by the first metric in the order in which a SQLite file got them. Its time is
        0, because a trial's end is kept in whole seconds and may lie before the run's start.
        """
        from mlflow.entities import Metric

        first = Metric(DICE, math.nan, 0, 0)
        self.client.log_batch(run.info.run_id, metrics=[first])
        return run

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
                run = self._opened(
                    self.client.create_run(
                        self.experiment, start, tags | {"medvision.git": self.git}
                    )
                )
                child = Child(str(run.info.run_id))
            self._children[eval_id] = child
        return self._children[eval_id]

    def ended(self, eval_id: str) -> None:
        """A trial has ended: its points need not be remembered."""
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

        given = {key(name): str(value)[:TEXT_LIMIT] for name, value in flattened(params)}
        new = [Param(name, value) for name, value in given.items() if name not in child.params]
        for first in range(0, len(new), PARAMS_AT_ONCE):
            self.client.log_batch(child.run_id, params=new[first : first + PARAMS_AT_ONCE])
        child.params |= given.keys()
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
