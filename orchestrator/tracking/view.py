"""A study in MLflow: an experiment per study name, a parent run per study, a child run per trial.

Nothing here is a record. Live events come from the study's journal, everything else from its result
store, and whatever is told twice arrives once (`orchestrator.tracking.server`), so deleting MLflow
loses nothing: `forget`, then `sync`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.planning.identity import split_and_metric
from orchestrator.tracking.delivered import Delivered
from orchestrator.tracking.journal import Journal
from orchestrator.tracking.server import TEXT_LIMIT, Server
from record import paths
from record.events import (
    DriverStarted,
    DriverStopped,
    Epoch,
    Event,
    Failed,
    Finished,
    Interrupted,
    Quarantined,
    Started,
    TrialEvent,
)
from record.local_files import local_folder
from record.manifest import Manifest
from record.schema import CELL, Commit, PlannedTrial, StudyFile
from record.store import DamagedError, Store
from record.tables import read_table

MAX_EVENTS_AT_ONCE = 5000
STATUS: dict[type[Event], str] = {
    Started: "RUNNING",
    Failed: "FAILED",
    Quarantined: "FAILED",
    Interrupted: "KILLED",
}
_SPENT = ("seconds", "peak_memory_bytes")


class View:
    """One study on one server, or in one SQLite file; for one thread.

    Every method raises what the server or the file says; what was not delivered is delivered by the
    next call.

    Args:
        log_model: also log every finished trial's weights as an MLflow model.

    Raises:
        StoreError: this is no study.
    """

    def __init__(self, store: Store, uri: str, *, log_model: bool = False) -> None:
        self.store, self.uri, self.log_model = store, uri, log_model
        plan = store.plan()
        self.trials: dict[str | None, PlannedTrial] = {
            trial.eval_id: trial for trial in plan.trials
        }
        self.metrics = set(plan.metrics)
        manifest = store.load(paths.MANIFEST, Manifest)
        git = str(manifest.git.commit if manifest else None)
        beside = (
            Path(store.root, paths.ARTIFACTS).as_uri()
            if uri.startswith("sqlite:///") and store.local
            else None
        )
        self.server = Server(uri, plan.name, store.uri, git, beside)
        folder = local_folder(store, paths.TRACKING)
        self.journal = Journal(folder / paths.JOURNAL)
        # whether to look for commits; a listing is slow and costs money in an object store
        self.look = True
        self._at_once = 100  # events between two notes of how far this came
        self.delivered = Delivered(folder / paths.DELIVERED, uri)

    def pending(self) -> bool:
        """Whether events or commits wait, as far as is known here; asks no server."""
        return self.journal.size() > self.delivered.told.offset or (
            self.look and bool(self._undelivered())
        )

    def forget(self) -> None:
        """Take nothing for delivered."""
        self.look = True
        self.delivered.forget()

    def sync(self) -> int:
        """Deliver failures and the journal's new events, then the plan's commits not delivered yet;
        returns how many commits.

        The store's failures come once and first: where a journal knows more of a trial, it has the
        last word.
        """
        with self._connected():
            if not self.delivered.told.failures:
                self._play(self._failed())
                self.delivered.told.failures = True
                self.delivered.save()
            while True:
                events, offset = self.journal.read(self.delivered.told.offset, self._at_once)
                if offset == self.delivered.told.offset:
                    break
                self._play(events)
                self.delivered.told.offset = offset
                self.delivered.save()
                self._at_once = min(2 * self._at_once, MAX_EVENTS_AT_ONCE)
            delivered = [
                name for name in (self._undelivered() if self.look else []) if self._deliver(name)
            ]
            self.look = False
        return len(delivered)

    def _deliver(self, eval_id: str) -> bool:
        """Deliver a finished trial; not one whose files are not what was committed."""
        trial = self.trials[eval_id]
        try:
            marker = self.store.load(paths.commit(eval_id), Commit)
            if marker:
                self._log_commit(trial, marker)
        except DamagedError as error:
            now = int(1000 * time.time())
            child = self.server.child(trial, now)
            self.server.describe(child, _cell(trial), {"medvision.reason": str(error)})
            self.server.set_status(child.run_id, "FAILED", now)
            return False
        self.delivered.told.commits.append(eval_id)
        self.delivered.save()
        return True

    def log_report(self, *, complete: bool) -> None:
        """Put report, manifest and spec on the parent run and end it; nothing happens where it has
        them as they are.
        """
        contents = {
            paths.report(name): self.store.read(paths.report(name)) or b""
            for name in self.store.names(paths.REPORT)
        }
        contents[paths.MANIFEST] = self.store.read(paths.MANIFEST) or b"{}"
        study = self.store.load(paths.STUDY, StudyFile)
        contents[paths.SPEC] = json.dumps(study.spec if study else {}, indent=1).encode()
        digest = hashlib.sha256(repr((complete, sorted(contents.items()))).encode()).hexdigest()
        if digest == self.delivered.told.report:
            return
        with self._connected() as client, tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / paths.REPORT).mkdir()
            for name, content in contents.items():
                (Path(scratch) / name).write_bytes(content)
            client.log_artifacts(self.server.parent, scratch)
            note = contents.get(paths.report(paths.SIGNIFICANCE), b"").decode()
            client.set_tag(self.server.parent, "mlflow.note.content", note[:TEXT_LIMIT])
            self.server.set_status(
                self.server.parent, "FINISHED" if complete else "FAILED", int(1000 * time.time())
            )
            self.delivered.told.report = digest
            self.delivered.save()

    def _undelivered(self) -> list[str]:
        waiting = self.store.committed() - set(self.delivered.told.commits)
        return [name for name in self.trials if name in waiting]

    def _failed(self) -> Iterator[Event]:
        """The recorded failures of unfinished trials, as the events that a journal would have of
        them.
        """
        failures, finished = self.store.failures(), self.store.committed()
        for eval_id in self.trials:
            if eval_id is None or eval_id in finished:
                continue
            for attempt, failure in enumerate(failures.get(eval_id, ()), start=1):
                yield Started(None, eval_id, attempt, time=failure.time)
                yield Failed(None, eval_id, failure.reason, time=failure.time)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        try:
            client = self.server.connect()
            if self.delivered.told.parent != self.server.parent:  # a new or emptied server
                self.forget()
                self.delivered.told.parent = self.server.parent
            yield client
        except BaseException:
            self.server.distrust()
            self.look = True
            self._at_once = 1  # small steps, so that even a server that fails now and then gets on
            raise

    def _play(self, events: Iterable[Event]) -> None:
        server = self.server
        for event in events:
            now = int(1000 * (event.time or 0.0))
            match event:
                case DriverStarted():
                    server.flush()
                    server.end_orphans(now)
                    server.set_status(server.parent, "RUNNING", now)
                    self.delivered.told.report = None  # its report ends it again
                case DriverStopped():
                    server.flush()
                    server.set_status(server.parent, "KILLED", now)
                case Finished():
                    self.look = True
                case TrialEvent():
                    if trial := self.trials.get(event.eval_id):  # else it is of an earlier plan
                        self._play_trial(event, trial, now)
        server.flush()

    def _play_trial(self, event: TrialEvent, trial: PlannedTrial, now: int) -> None:
        server = self.server
        if isinstance(event, Epoch):
            # An epoch repeated after the loss of a worker gives the same numbers: the first telling
            # stays.
            child = server.child(trial, now)
            server.add(child, _named(event.metrics), event.epoch, now, once=True)
            return
        server.flush()
        child = server.child(trial, now)
        server.set_status(child.run_id, STATUS[type(event)], now)
        told: dict[str, Any] = {}
        if isinstance(event, Started):
            told = {"medvision.attempt": event.attempt}
            self.delivered.told.commits = [
                name for name in self.delivered.told.commits if name != event.eval_id
            ]
        elif isinstance(event, Failed | Quarantined):
            told = {"medvision.reason": event.reason}
        server.describe(child, _cell(trial), told)

    def _log_commit(self, trial: PlannedTrial, marker: Commit) -> None:
        """All that the store holds of a finished trial, and the run's end."""
        server, client = self.server, self.server.client
        end = int(1000 * marker.finished_at.timestamp())
        lasted, cost = int(1000 * marker.cost.seconds), marker.cost.to_json()
        child = server.child(trial, end - lasted)
        history = read_table(self.store, marker, paths.HISTORY).to_pylist()
        last = max((row["epoch"] for row in history), default=1)
        for row in history:
            then = end - lasted + lasted * row["epoch"] // last
            server.add(child, {f"{row['split']}/{row['metric']}": row["value"]}, row["epoch"], then)
        cases = read_table(self.store, marker, paths.CASES).to_pandas()
        for name in cases.select_dtypes("number"):
            if name.partition("@")[0] in self.metrics:
                server.add(
                    child, {f"test/{name}": cases[name].mean()}, 0, end
                )  # over this trial's test cases
        server.add(child, {f"cost/{name}": cost[name] for name in _SPENT if name in cost}, 0, end)
        server.flush()
        # The file and the tag of MLflow's `log_table`, which itself would append to what an
        # uncertain delivery left.
        client.log_text(child.run_id, cases.to_json(orient="split", index=False), "cases.json")
        client.log_dict(child.run_id, marker.to_json(), "commit.json")
        if self.log_model:
            from orchestrator.tracking.model import log_model

            log_model(client, child.run_id, self.store, marker)
        tags = {"mlflow.loggedArtifacts": '[{"path": "cases.json", "type": "table"}]'}
        tags |= {
            f"medvision.attempt.{name}": value for name, value in marker.attempt.to_json().items()
        }
        described = {**trial.to_json(), **marker.identity.to_json(), "cost": cost}
        server.describe(child, described, tags)
        server.set_status(child.run_id, "FINISHED", end)
        server.ended(str(trial.eval_id))


def _cell(trial: PlannedTrial) -> dict[str, Any]:
    return {name: getattr(trial, name) for name in CELL}


def _named(metrics: Mapping[str, Any]) -> dict[str, float]:
    """`train_loss` becomes `train/loss`, as the history calls it, so that MLflow groups its
    charts.
    """
    return {
        name if "/" in name else "/".join(split_and_metric(name)): float(value)
        for name, value in metrics.items()
    }
