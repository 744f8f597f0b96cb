"""What a run reports while it runs: one vocabulary for workers, lanes, driver, console, journal and
MLflow.

In a queue an event is one of these objects, in a file a JSON object: `event` is its name, `lane`
the process id of the lane that handed it on, and then its fields, those that are None left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

_WORDS: dict[str, type[Event]] = {}


@dataclass(frozen=True)
class Event:
    """`lane`: None of a run in one process and of the driver itself; `time`: seconds since 1970, in
    a journal.
    """

    word: ClassVar[str] = ""
    lane: int | None = field(default=None, kw_only=True)
    time: float | None = field(default=None, kw_only=True)

    def __init_subclass__(cls, word: str = "") -> None:
        cls.word = word
        if word:
            _WORDS[word] = cls

    def to_json(self) -> dict[str, Any]:
        """The event as a JSON object."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        values |= values.pop("metrics", {})
        first = {"lane": values.pop("lane"), "event": self.word}
        time = {"time": values.pop("time")}
        return {name: value for name, value in (first | values | time).items() if value is not None}


def from_json(value: Any) -> Event:
    """The event of a JSON object.

    Raises:
        ValueError: it is no event, its name is unknown, or a field is missing.
    """
    word = value.get("event") if isinstance(value, Mapping) else None
    kind = _WORDS.get(str(word))
    if kind is None:
        raise ValueError(f"unknown event {word!r}; known: {', '.join(_WORDS)}")
    names = {one.name for one in fields(kind)}
    given = {name: value.get(name) for name in names if name in value or name == "cell"}
    if "metrics" in names:
        given["metrics"] = {
            name: number for name, number in value.items() if name not in {*names, "event"}
        }
    try:
        return kind(**given)
    except TypeError as error:
        raise ValueError(f"event {kind.word!r}: {error}") from error


Emit = Callable[[Event], None]


# Of the driver, and of the run as a whole.
@dataclass(frozen=True)
class DriverStarted(Event, word="driver-started"):
    """A driver holds the study."""


@dataclass(frozen=True)
class DriverStopped(Event, word="driver-stopped"):
    """The driver was ended before its study was."""


@dataclass(frozen=True)
class Stopping(Event, word="stopping"):
    """Somebody asked the run to stop; lanes write their checkpoints."""


@dataclass(frozen=True)
class WaitsForMachines(Event, word="waiting"):
    """Something waits for machines, or for a machine's answer."""

    reason: str


@dataclass(frozen=True)
class StorageFailed(Event, word="storage-failed"):
    """The storage failed, which ends the run."""

    reason: str


@dataclass(frozen=True)
class Message(Event, word="message"):
    """A line for people."""

    text: str


@dataclass(frozen=True)
class Result(Event, word="result"):
    """The study's outcome, for people."""

    text: str


@dataclass(frozen=True)
class Ended(Event, word="ended"):
    """The last of a run.

    Attributes:
        code: the command's exit code.
        reason: why it ended: `complete`, `incomplete`, `stopped`, or what was wrong.
        trials: number of planned trials, None where there is no plan yet.
        states: number of trials in each state.
        report: where the report is, None without one.
    """

    code: int
    reason: str
    trials: int | None = None
    states: Mapping[str, int] = field(default_factory=dict)
    report: str | None = None


@dataclass(frozen=True)
class Stopped(Event, word="stopped"):
    """A run that stops before its end, for `notify`; `reason`: the limit, or `by hand`."""

    reason: str


# Of a trial: to driver, console, journal and logs.
@dataclass(frozen=True)
class TrialEvent(Event):
    """`cell`: the trial's name for people; None where only its id is known."""

    cell: str | None
    eval_id: str


@dataclass(frozen=True)
class Started(TrialEvent, word="started"):
    """An attempt begins, the first is number 1."""

    attempt: int


@dataclass(frozen=True)
class Epoch(TrialEvent, word="epoch"):
    """An epoch has ended; its number from 1 on, and what was measured: losses, scores, learning
    rate, `system/...`. `epochs`: of how many.
    """

    epoch: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    epochs: int | None = None


@dataclass(frozen=True)
class Finished(TrialEvent, word="finished"):
    """A trial is finished, with its `Outcome`."""

    seconds: float
    dice: float
    pruned: bool | None = None


@dataclass(frozen=True)
class Failed(TrialEvent, word="failed"):
    """An attempt failed, and the trial will be tried again."""

    reason: str
    kind: str | None = None


@dataclass(frozen=True)
class Quarantined(TrialEvent, word="quarantined"):
    """A trial failed for the last time."""

    reason: str
    kind: str | None = None


@dataclass(frozen=True)
class Interrupted(TrialEvent, word="interrupted"):
    """A trial wrote its checkpoint and gave its place back."""


@dataclass(frozen=True)
class Outcome:
    """What a finished trial reports: seconds over all attempts, mean Dice; `pruned` of a search's
    trials.
    """

    seconds: float
    dice: float
    pruned: bool | None = None


# Between a group of workers and its lane.
@dataclass(frozen=True)
class LaneReady(Event, word="lane-ready"):
    """The workers are there; `cell` and `eval_id` of the trial that they are there for."""

    cell: str | None = None
    eval_id: str | None = None
    pid: int = 0


@dataclass(frozen=True)
class RankReady(Event, word="rank-ready"):
    """A worker's process is there: its actor, Ray's node, its process id, and where its stderr
    goes.
    """

    rank: int
    actor: Any
    node: str
    pid: int
    stderr: str


@dataclass(frozen=True)
class Beat(Event, word="beat"):
    """An attempt is alive."""


@dataclass(frozen=True)
class AttemptDone(Event, word="attempt-done"):
    """An attempt has committed."""

    outcome: Outcome


@dataclass(frozen=True)
class AttemptStopped(Event, word="attempt-interrupted"):
    """An attempt has written its checkpoint and ended, as requested."""


@dataclass(frozen=True)
class RankFailed(Event, word="attempt-failed"):
    """What one rank of an attempt raised; `kind`: `orchestrator.planning.retry`'s, or `storage`."""

    rank: int
    kind: str
    reason: str
    details: str = ""
