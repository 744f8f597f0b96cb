"""Log files of a study: one per trial, and one for the messages of Ray and MLflow, which is kept
off the terminal.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from record import paths
from record.events import Event, LaneReady, Started, TrialEvent
from record.local_files import local_folder
from record.names import visible
from record.store import Store

_TITLE = ("event", "cell", "eval_id", "lane")


class TrialLogs:
    """Appends every event of a trial to STUDY/logs/TRAIN_ID.log, with its time.

    Args:
        trials: eval_id -> train_id.
    """

    def __init__(self, store: Store, trials: Mapping[str, str]) -> None:
        self.folder, self.trials = local_folder(store, paths.LOGS), trials
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Write down one event; a full disk is reported by the result store, not here."""
        if not isinstance(event, TrialEvent | LaneReady):
            return
        train_id = self.trials.get(event.eval_id or "")
        if train_id is None:
            return
        values = event.to_json().items()
        text = "  ".join(f"{key} {value}" for key, value in values if key not in _TITLE)
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {event.word:11s}  {text}".rstrip() + "\n"
        if isinstance(event, Started):
            line = f"--- {event.cell}\n{line}"
        with self._lock, contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / paths.trial_log(train_id)).open(
                "a", encoding="utf-8", errors="replace"
            ) as file:
                file.write(visible(line))


class _Visible(logging.Formatter):
    """Messages of libraries hold names, too."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


@contextlib.contextmanager
def libraries_log(store: Store, *names: str) -> Iterator[Path]:
    """While this lasts, messages of the named loggers go to STUDY/logs/driver.log instead of the
    terminal.

    Ray must be imported before, because importing it sets up its logger; `py.warnings` are Python's
    warnings.
    """
    path = local_folder(store, paths.LOGS) / paths.DRIVER_LOG
    path.parent.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault(
        "MLFLOW_CONFIGURE_LOGGING", "false"
    )  # or importing MLflow puts its own handler back
    handler = logging.FileHandler(path, delay=True, encoding="utf-8", errors="replace")
    handler.setFormatter(_Visible("%(asctime)s  %(levelname)s  %(name)s  %(message)s"))
    before = {}
    warnings = "py.warnings" in names
    if warnings:
        logging.captureWarnings(True)
    for name in names:
        logger = logging.getLogger(name)
        before[logger] = (logger.handlers[:], logger.propagate, logger.level)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
    try:
        yield path
    finally:
        if warnings:
            logging.captureWarnings(False)
        for logger, (handlers, propagate, level) in before.items():
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
        handler.close()
