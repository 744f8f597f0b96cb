"""The last lines that a process logged, kept for the record of a failure."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections import deque
from collections.abc import Iterator

LAST_LINES = 50


class LastWords(logging.Handler):
    """The last lines that this process logged and warned of, for the record of a failure."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s  %(levelname)s  %(name)s  %(message)s"))
        self.lines: deque[str] = deque(maxlen=LAST_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record).rstrip())
        if logging.lastResort and logging.getLogger().handlers == [
            self
        ]:  # what Python does without a handler
            logging.lastResort.handle(record)

    def text(self) -> str:
        """To be appended to a traceback; empty where nothing was logged."""
        return "\n".join(["", "Last log lines:", *self.lines]) if self.lines else ""

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to the root logger and Python's warnings while this lasts."""
        root, warned = logging.getLogger(), logging.getLogger("py.warnings")
        loggers = [root] if warned.propagate else [root, warned]
        captured = warnings.showwarning
        logging.captureWarnings(True)
        for logger in loggers:
            logger.addHandler(self)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeHandler(self)
            if captured is not warnings.showwarning:
                logging.captureWarnings(False)


LAST_WORDS = LastWords()
