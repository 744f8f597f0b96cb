"""What every way of running trials shares: claims, the record of failures, and what follows a failure.

`orchestrator.driver` runs trials in Ray lanes, `orchestrator.local` in this process; both go through `run_to_the_end`.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from orchestrator.state import State, micro_batch, next_state
from orchestrator.trial import Job
from reports.store import Store

Event = dict[str, Any]
Emit = Callable[[Event], None]


class ClusterError(RuntimeError):
    """The cluster cannot be reached, or cannot hold a single trial."""


class AttemptFailed(Exception):  # says what happened; callers catch it as a result
    """One attempt failed.

    Args:
        reason: one line. details: the traceback, or the last words of a lost worker. kind: `orchestrator.state.Kind`.
        epoch: how many epochs were finished.
    """

    def __init__(self, reason: str, details: str = "", kind: str = "exception", epoch: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.details, self.kind, self.epoch = reason, details, kind, epoch


class AttemptInterrupted(Exception):  # the attempt did as it was told
    """The attempt saved its checkpoint and ended because it was told to; `final`: because the whole run stops."""

    def __init__(self, final: bool) -> None:
        super().__init__("interrupted")
        self.final = final


def run_to_the_end(
    job: Job,
    store: Store,
    attempt: Callable[[Job], Mapping[str, Any]],
    emit: Emit,
    *,
    max_attempts: int,
    rank_batch: int = 1,
) -> State:
    """Attempt a job until it is finished or quarantined, or the run stops.

    Each attempt gets its own token, and claims the trial with it before it starts: what an orphan of an earlier driver
    commits later is refused.

    Args:
        attempt: runs one attempt to its commit, and raises AttemptFailed or AttemptInterrupted. rank_batch: cases of a
            batch on one rank, which a lack of memory halves.

    Returns:
        FINISHED, QUARANTINED, or PENDING where the run was told to stop.

    Raises:
        StoreError: the storage failed, which is no trial's fault.
    """
    failures = store.failures_of(job.train_id)
    if store.read(job.record) is not None:  # its lane was lost after the commit
        return State.FINISHED
    name = {"cell": job.title, "eval_id": job.eval_id}
    while True:
        token = f"{job.token}-{uuid.uuid4().hex[:8]}"
        micro = micro_batch(failures, rank_batch)
        store.write_json(f"claims/{job.train_id}.json", {"token": token})
        emit({"event": "started", **name, "attempt": len(failures) + 1})
        try:
            result = attempt(replace(job, token=token, micro_batch=micro))
        except AttemptInterrupted as interruption:
            emit({"event": "interrupted", **name})
            if interruption.final:
                return State.PENDING
        except AttemptFailed as failure:
            record = {
                "token": token,
                "kind": failure.kind,
                "reason": failure.reason,
                "details": failure.details,
                "epoch": failure.epoch,
                "micro_batch": micro or rank_batch,
                "time": time.time(),
                "cell": job.to_json()["cell"],
            }
            store.write_json(f"failures/{job.train_id}/{token}.json", record)
            store.remove(f"trials/{job.train_id}/{token}")
            failures = [*failures, record]
            state = next_state(failures, max_attempts)
            emit({"event": state.value, **name, "reason": failure.reason, "kind": failure.kind})
            if state is State.QUARANTINED:
                return state
        else:
            store.remove(f"failures/{job.train_id}")
            emit({"event": State.FINISHED.value, **name, **result})
            return State.FINISHED


@contextlib.contextmanager
def stop_signals(first: Callable[[], None]) -> Iterator[threading.Event]:
    """Ctrl-C or SIGTERM once calls `first` and sets the event that is given; twice raises KeyboardInterrupt at once.

    Outside the main thread, where Python takes no signals, the event is never set.
    """
    asked = threading.Event()

    def handle(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        first()

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
