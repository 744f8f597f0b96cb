"""States of a trial and what follows a failed attempt. Pure logic.

| kind of failure | counted as an attempt |
|---|---|
| `exception` | yes |
| `hang`: no sign of life for `resources.hang_seconds` | yes |
| `memory`: out of memory | only with micro-batches of one case; before that, they are halved |
| `training`: for example a loss of NaN | the last one: the same seed would end the same way |
| `lost`: process or machine gone | every third loss without a new epoch |
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Literal

from record.schema import Failure, PlannedTrial

Kind = Literal["exception", "hang", "memory", "training", "lost"]
LOSSES_PER_ATTEMPT = 3


class State(StrEnum):
    """What is known of a trial."""

    PENDING = "pending"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    DAMAGED = "damaged"  # finished, and a file of it is no longer what was committed


def next_state(failures: Sequence[Failure], max_attempts: int) -> State:
    """After these failed attempts: PENDING (never failed), FAILED (try again) or QUARANTINED (no
    more).
    """
    if not failures:
        return State.PENDING
    hopeless = failures[-1].kind == "training"
    return (
        State.QUARANTINED
        if hopeless or counted_attempts(failures) >= max_attempts
        else State.FAILED
    )


def trial_states(
    trials: Iterable[PlannedTrial],
    finished: Container[str],
    failures: Mapping[str, Sequence[Failure]],
    claims: Mapping[str, str | None],
    max_attempts: int,
    damaged: Container[str] = (),
) -> dict[str, State]:
    """State of every planned trial by eval_id; a claimed trial of a living driver is `running`;
    trials without an id wait for a search and are left out. Pure.

    Args:
        finished: evaluations that are finished and whole.
        claims: evaluations that the driver with the study's lock has claimed, by train_id; empty
            where none has it.
        damaged: evaluations that are finished, with a file that is not what was committed.
    """
    states = {}
    for trial in trials:
        if trial.eval_id is None:
            continue
        state = next_state(failures.get(trial.eval_id, ()), max_attempts)
        if trial.eval_id in finished:
            state = State.FINISHED
        elif trial.eval_id in damaged:
            state = State.DAMAGED
        elif claims.get(trial.train_id or "") == trial.eval_id and state is not State.QUARANTINED:
            state = State.RUNNING
        states[trial.eval_id] = state
    return states


def counted_attempts(failures: Sequence[Failure]) -> int:
    """How many of the failures count, by the table above; `epoch` is how far an attempt came."""
    counted = losses = best_epoch = 0
    for failure in failures:
        if failure.kind == "lost":
            progress = failure.epoch > best_epoch
            losses = 0 if progress else losses + 1
            if losses == LOSSES_PER_ATTEMPT:
                counted, losses = counted + 1, 0
        elif failure.kind != "memory" or failure.micro_batch == 1:
            counted += 1
        best_epoch = max(best_epoch, failure.epoch)
    return counted


def micro_batch(failures: Sequence[Failure], cases: int) -> int | None:
    """Cases of a rank that go through the network at once: halved by every failure for memory, None
    where none was.

    Args:
        cases: of one batch that one rank takes.
    """
    halvings = sum(failure.kind == "memory" for failure in failures)
    return max(1, cases // 2**halvings) if halvings else None


def reason(failures: Sequence[Failure]) -> str:
    """The last failure in one line."""
    return failures[-1].reason if failures else ""
