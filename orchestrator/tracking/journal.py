"""Events of a study on local disk, one JSON object a line, so that a view that was away can catch
up.
"""

from __future__ import annotations

import json
from pathlib import Path

from record.events import Event, from_json


class Journal:
    """An append-only file; positions are byte offsets, so that a reader remembers how far it
    came.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, event: Event) -> None:
        """Add one event; a line that a killed process left unfinished is closed first.

        Raises:
            OSError: the disk is full or read-only.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            broken = file.seek(0, 2) and (file.seek(-1, 2), file.read(1))[1] != b"\n"
            file.write(b"\n" * bool(broken) + json.dumps(event.to_json()).encode() + b"\n")

    def read(self, offset: int, limit: int) -> tuple[list[Event], int]:
        """At most `limit` whole events from an offset on, and the offset behind them; broken lines
        and events of another version are passed over.
        """
        if not self.path.exists():
            return [], offset
        events: list[Event] = []
        with self.path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if len(events) == limit or not line.endswith(b"\n"):
                    break
                offset += len(line)
                try:
                    events.append(from_json(json.loads(line)))
                except ValueError:
                    continue
        return events, offset

    def size(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0
