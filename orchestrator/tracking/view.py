"""A study in MLflow: an experiment per study name, a parent run per study, a child run per trial.

Nothing here is a record. Live events come from the study's journal, everything else from its result
store, and whatever is sent twice arrives once (`orchestrator.tracking.server`), so deleting MLflow
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
from orchestrator.tracking.finished import cell_of, log_finished
from orchestrator.tracking.journal import Journal
from orchestrator.tracking.parent import describe_parent, report_metrics
from orchestrator.tracking.server import TEXT_LIMIT, Server
from orchestrator.tracking.sqlite_file import PREFIX, file_beside
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
from record.schema import Commit, PlannedTrial
from record.store import DamagedError
from record.study import StoredStudy

MAX_EVENTS_AT_ONCE = 5000
STATUS: dict[type[Event], str] = {
    Started: "RUNNING",
    Failed: "FAILED",
    Quarantined: "FAILED",
    Interrupted: "KILLED",
}


class View:
    """One study on one server, or in one SQLite file; for one thread.

    Every method raises the errors of the server or the file; what was not delivered is delivered by
    the next call.

    Args:
        log_model: also log every finished trial's weights as an MLflow model.
    """

    def __init__(self, study: StoredStudy, uri: str, *, log_model: bool = False) -> None:
        self.study, self.uri, self.log_model = study, uri, log_model
        self.store = store = study.store
        plan = study.plan
        self.trials: dict[str | None, PlannedTrial] = {
            trial.eval_id: trial for trial in plan.trials
        }
        self.metrics = set(plan.metrics)
        git = str(study.manifest.git.commit if study.manifest else None)
        local = uri.startswith(PREFIX) and store.local
        self.server = Server(
            uri,
            plan.name,
            store.uri,
            git,
            Path(store.root, paths.ARTIFACTS).as_uri() if local else None,
            beside=local and uri == file_beside(store),
        )
        folder = local_folder(store, paths.TRACKING)
        self.journal = Journal(folder / paths.JOURNAL)
        # whether to look for commits; a listing is slow and costs money in an object store
        self.look = True
        self._at_once = 100  # events between two saves of the position
        self._shown: tuple[str, int] | None = None  # parent run and finished trials, as described
        self.delivered = Delivered(folder / paths.DELIVERED, uri)

    def pending(self) -> bool:
        """Whether events or commits wait, as far as is known here; asks no server."""
        return self.journal.size() > self.delivered.sent.offset or (
            self.look and bool(self._undelivered())
        )

    def forget(self) -> None:
        """Consider nothing delivered."""
        self.look = True
        self.delivered.forget()

    def sync(self) -> int:
        """Deliver failures and the journal's new events, then the plan's commits not delivered yet;
        returns how many commits.

        The store's failures come once and first: where a journal knows more of a trial, it has the
        last word.
        """
        with self._connected():
            if not self.delivered.sent.failures:
                self._play(self._failed())
                self.delivered.sent.failures = True
                self.delivered.save()
            while True:
                events, offset = self.journal.read(self.delivered.sent.offset, self._at_once)
                if offset == self.delivered.sent.offset:
                    break
                self._play(events)
                self.delivered.sent.offset = offset
                self.delivered.save()
                self._at_once = min(2 * self._at_once, MAX_EVENTS_AT_ONCE)
            delivered = [
                name for name in (self._undelivered() if self.look else []) if self._deliver(name)
            ]
            self.look = False
            self._describe_parent()
        return len(delivered)

    def _describe_parent(self, contents: Mapping[str, bytes] | None = None) -> None:
        """The parent run's parameters and counts, and the numbers of a report's tables."""
        finished = len(self.trials.keys() & set(self.delivered.sent.commits))
        numbers = {"planned": len(self.study.plan.trials), "finished": finished}
        report = contents is not None
        if report:
            failed = set(self.store.names(paths.FAILURES)) - self.store.committed()
            numbers["failed"] = len(self.trials.keys() & failed)
        metrics = {f"count/{name}": float(count) for name, count in numbers.items()}
        shown = (self.server.parent, finished)
        if report or shown != self._shown:
            metrics |= report_metrics(contents or {})
            describe_parent(
                self.server.client, self.server.parent, self.study.plan, metrics, report=report
            )
            self._shown = shown

    def _deliver(self, eval_id: str) -> bool:
        """Deliver a finished trial; not one whose files are not what was committed."""
        trial = self.trials[eval_id]
        try:
            marker = self.store.load(paths.commit(eval_id), Commit)
            if marker:
                log_finished(
                    self.server, self.store, trial, marker, self.metrics, log_model=self.log_model
                )
        except DamagedError as error:
            now = int(1000 * time.time())
            child = self.server.child(trial, now)
            self.server.describe(child, cell_of(trial), {"medvision.reason": str(error)})
            self.server.set_status(child.run_id, "FAILED", now)
            return False
        self.delivered.sent.commits.append(eval_id)
        self.delivered.save()
        return True

    def log_report(self, *, complete: bool) -> None:
        """Put report, manifest and spec on the parent run and end it; nothing happens where it has
        them as they are.
        """
        contents = {
            paths.report(name): self.store.read(paths.report(name)) or b""
            for name in self.store.names(paths.REPORT)
            if name != paths.VIEWER  # whole images of patients stay in the study
        }
        contents[paths.MANIFEST] = self.store.read(paths.MANIFEST) or b"{}"
        contents[paths.SPEC] = json.dumps(self.study.settings.spec, indent=1).encode()
        digest = hashlib.sha256(repr((complete, sorted(contents.items()))).encode()).hexdigest()
        if digest == self.delivered.sent.report:
            return
        with self._connected() as client, tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / paths.REPORT).mkdir()
            for name, content in contents.items():
                (Path(scratch) / name).write_bytes(content)
            client.log_artifacts(self.server.parent, scratch)
            note = contents.get(paths.report(paths.SIGNIFICANCE), b"").decode()
            client.set_tag(self.server.parent, "mlflow.note.content", note[:TEXT_LIMIT])
            self._describe_parent(contents)
            self.server.set_status(
                self.server.parent, "FINISHED" if complete else "FAILED", int(1000 * time.time())
            )
            self.delivered.sent.report = digest
            self.delivered.save()

    def _undelivered(self) -> list[str]:
        waiting = self.store.committed() - set(self.delivered.sent.commits)
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
            if self.delivered.sent.parent != self.server.parent:  # a new or emptied server
                self.forget()
                self.delivered.sent.parent = self.server.parent
            yield client
        except BaseException:
            self.server.distrust()
            self.look = True
            self._at_once = (
                1  # small steps, so that even with a server that fails now and then it advances
            )
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
                    self.delivered.sent.report = None  # its report ends it again
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
            # An epoch repeated after the loss of a worker gives the same numbers: the first one
            # stays.
            child = server.child(trial, now)
            server.add(child, _named(event.metrics), event.epoch, now, once=True)
            return
        server.flush()
        child = server.child(trial, now)
        server.set_status(child.run_id, STATUS[type(event)], now)
        tags: dict[str, Any] = {}
        if isinstance(event, Started):
            tags = {"medvision.attempt": event.attempt}
            self.delivered.sent.commits = [
                name for name in self.delivered.sent.commits if name != event.eval_id
            ]
        elif isinstance(event, Failed | Quarantined):
            tags = {"medvision.reason": event.reason}
        server.describe(child, cell_of(trial), tags)


def _named(metrics: Mapping[str, Any]) -> dict[str, float]:
    """`train_loss` becomes `train/loss`, as the history calls it, so that MLflow groups its
    charts.
    """
    return {
        name if "/" in name else "/".join(split_and_metric(name)): float(value)
        for name, value in metrics.items()
    }
