"""What searches of settings leave in a study, typed as `record.schema`."""

from __future__ import annotations

from typing import Any, ClassVar

from record.stored import Stored


class SearchTrial(Stored):
    """search/ID/NUMBER.json: a trial of a search. `state`: complete, pruned or failed; `value`: the
    validation Dice; `curve`: (steps, validation Dice) by epoch.
    """

    remedy: ClassVar[str] = "remove it and run the study's command again"
    number: int
    settings: dict[str, Any]
    state: str
    value: float | None = None
    curve: list[tuple[int, float]] = []
    seconds: float | None = None
    reason: str = ""


class SearchOutcome(Stored):
    """An entry of search.json: what a search found for a model and task, for one fold or for all
    (`fold` None). `settings` None: every trial failed, and `reason` says how.
    """

    remedy: ClassVar[str] = "remove it and run the study's command again, which chooses anew"
    model: str
    task: str
    fold: int | None
    settings: dict[str, Any] | None
    value: float | None = None
    number: int | None = None
    reason: str
    counts: dict[str, int]
    cases: dict[str, int]
    trials: list[SearchTrial]
    identity: dict[str, Any]
