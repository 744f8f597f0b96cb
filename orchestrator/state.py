"""States of a trial and what follows a failed attempt. Pure logic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """What is known of a trial."""

    PENDING = "pending"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    QUARANTINED = "quarantined"


def next_state(failures: Sequence[Mapping[str, Any]], max_attempts: int) -> State:
    """After these failed attempts: PENDING (never failed), FAILED (try again) or QUARANTINED (no more)."""
    if not failures:
        return State.PENDING
    return State.QUARANTINED if len(failures) >= max_attempts else State.FAILED


def reason(failures: Sequence[Mapping[str, Any]]) -> str:
    """The last failure in one line."""
    return str(failures[-1]["reason"]) if failures else ""
