"""What each MLflow server has received of a study, in a file next to the journal."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from record.redact import shown


@dataclass
class Sent:
    """`parent`: the study's run on that server; `failures`: whether the store's were sent; `offset`
    in the journal; `commits`: evaluations; `report`: digest of the last one.
    """

    parent: str | None = None
    failures: bool = False
    offset: int = 0
    commits: list[str] = field(default_factory=list)
    report: str | None = None


class Delivered:
    """What one server has received (`sent`); if lost, it costs requests to the server and nothing
    else.
    """

    def __init__(self, file: Path, uri: str) -> None:
        self.file, self.server = file, shown(uri)
        self.sent = Sent(**self._every().get(self.server, {}))

    def forget(self) -> None:
        """Consider nothing delivered."""
        self.sent = Sent()
        self.save()

    def save(self) -> None:
        """Write it to the file, for the next run."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.file.with_suffix(".new")
        fresh.write_text(json.dumps(self._every() | {self.server: asdict(self.sent)}))
        fresh.replace(self.file)

    def _every(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.file.read_text()))
        except (OSError, ValueError):  # without it, the server is asked
            return {}
