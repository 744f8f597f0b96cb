"""How far each MLflow server has been told of a study, in a file beside the journal."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from record.redact import shown


@dataclass
class Told:
    """`parent`: the study's run on that server; `failures`: whether the store's were told; `offset`
    in the journal; `commits`: evaluations; `report`: digest of the last one.
    """

    parent: str | None = None
    failures: bool = False
    offset: int = 0
    commits: list[str] = field(default_factory=list)
    report: str | None = None


class Delivered:
    """What one server has been told (`told`); lost, it costs questions to the server and nothing
    else.
    """

    def __init__(self, file: Path, uri: str) -> None:
        self.file, self.server = file, shown(uri)
        self.told = Told(**self._every().get(self.server, {}))

    def forget(self) -> None:
        """Take nothing for delivered."""
        self.told = Told()
        self.save()

    def save(self) -> None:
        """Write it down, for the next run."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.file.with_suffix(".new")
        fresh.write_text(json.dumps(self._every() | {self.server: asdict(self.told)}))
        fresh.replace(self.file)

    def _every(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.file.read_text()))
        except (OSError, ValueError):  # without it the server is asked
            return {}
