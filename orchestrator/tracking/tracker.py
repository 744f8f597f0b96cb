"""Reports a study to MLflow while it runs: one thread of the driver, which no trial ever waits for.

Events go to the study's journal on disk; the thread delivers from there, in batches. A server that
is down, slow or refuses costs only the delay: the thread tries again, then the next run
does, or `python -m orchestrator.track`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import replace
from types import TracebackType

from orchestrator.spec.study import Spec
from orchestrator.tracking.sqlite_file import file_beside
from orchestrator.tracking.view import View
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
)
from record.redact import shown
from record.store import Store
from record.study import StoredStudy

URI_VARIABLE = "MLFLOW_TRACKING_URI"
BATCH_SECONDS = 1.0
PAUSE_SECONDS = 60.0  # the longest between two tries
PATIENCE_SECONDS = 60.0  # at the end, with a server that answered last time
SHORT_PATIENCE_SECONDS = 5.0  # with one that did not
_ENDS = (Finished, Failed, Quarantined, Interrupted)
_SENT = (DriverStarted, DriverStopped, Started, Epoch, *_ENDS)


def tracking_uri(spec: Spec, store: Store) -> str:
    """`tracking.uri`, MLFLOW_TRACKING_URI, or one SQLite file next to the studies (here, where
    storage is remote): next to where the study lies now, wherever it was made.
    """
    return spec.tracking.uri or os.environ.get(URI_VARIABLE) or file_beside(store)


class Tracker:
    """Takes events from any thread and delivers them in the background.

    As a context: what still trains when it is left by an exception is marked as killed.
    """

    def __init__(self, study: StoredStudy, uri: str, *, log_model: bool = False) -> None:
        self.where = (
            shown(uri)
            if uri.startswith("http")  # the variable is for MLflow's page, which else asks outside
            else f"MLFLOW_DISABLE_TELEMETRY=true mlflow ui --backend-store-uri {shown(uri)}"
        )
        self.problem: str | None = None
        self._view = View(study, uri, log_model=log_model)
        self._running: set[str] = set()
        self._lock = threading.Lock()
        self._complete: bool | None = None
        self._poked, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)

    def __enter__(self) -> Tracker:
        if self._view.pending():
            self._poked.set()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for eval_id in sorted(self._running):
                self(Interrupted(None, eval_id))
            self(DriverStopped())
        self._stop()

    def __call__(self, event: Event) -> None:
        """Take an event; never raises, never waits for the server."""
        if not isinstance(event, _SENT):
            return
        with (
            self._lock,
            contextlib.suppress(OSError),
        ):  # a full disk is reported by the result store
            if isinstance(event, Started):
                self._running.add(event.eval_id)
            elif isinstance(event, _ENDS):
                self._running.discard(event.eval_id)
            self._view.journal.append(replace(event, time=time.time()))
        self._poked.set()

    def finish(self, *, complete: bool) -> str | None:
        """The report is written: deliver it and all that waits; returns what went wrong, if
        anything.
        """
        self._complete = complete
        self._stop()
        return self.problem

    def _stop(self) -> None:
        if self._ended.is_set():
            return
        self._ended.set()
        patience = SHORT_PATIENCE_SECONDS if self.problem else PATIENCE_SECONDS
        self._thread.join(patience)
        if self._thread.is_alive():
            self.problem = f"no end after {patience:.0f} s ({self.problem or 'the server is slow'})"

    def _run(self) -> None:
        pause = BATCH_SECONDS
        while not self._ended.wait(pause):
            if self._poked.is_set():
                pause = BATCH_SECONDS if self._deliver() else min(2 * pause, PAUSE_SECONDS)
        self._deliver()

    def _deliver(self) -> bool:
        self._poked.clear()
        try:
            if self._complete is not None:
                self._view.look = True  # a trial whose lane was lost after its commit sent no event
            if self._view.pending():
                self._view.sync()
            if self._complete is not None:
                self._view.log_report(complete=self._complete)
        except Exception as error:  # MLflow raises many kinds; none of them may fail a study
            self._poked.set()
            self.problem = shown(f"{type(error).__name__}: {error}")
            return False
        self.problem = None
        return True
