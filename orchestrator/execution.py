"""What every way of running trials shares: claims, the record of failures, and what follows a failure.

`orchestrator.driver` runs trials in Ray lanes, `orchestrator.local` in this process; both go through `run_to_the_end`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from orchestrator.state import State, next_state
from orchestrator.trial import Job
from reports.store import Store

Event = dict[str, Any]
Emit = Callable[[Event], None]


class ClusterError(RuntimeError):
    """The cluster cannot be reached, or cannot hold a single trial."""


class AttemptFailed(Exception):  # says what happened; callers catch it as a result
    """One attempt failed. `reason` is one line, `details` the traceback or the last words of a lost worker."""

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(reason)
        self.reason, self.details = reason, details


def run_to_the_end(
    job: Job, store: Store, attempt: Callable[[Job], Mapping[str, Any]], emit: Emit, *, max_attempts: int
) -> State:
    """Attempt a job until it is finished or quarantined.

    Each attempt gets its own token, and claims the trial with it before it starts: what an orphan of an earlier driver
    commits later is refused.

    Args:
        attempt: runs one attempt to its commit, and raises AttemptFailed.

    Returns:
        FINISHED or QUARANTINED.
    """
    failures = store.failures().get(job.train_id, [])
    if store.read(f"commits/{job.eval_id}.json") is not None:  # its lane was lost after the commit
        return State.FINISHED
    while True:
        token = f"{job.token}-{uuid.uuid4().hex[:8]}"
        store.write_json(f"claims/{job.train_id}.json", {"token": token})
        emit({"event": "started", "cell": str(job.cell), "eval_id": job.eval_id, "attempt": len(failures) + 1})
        try:
            result = attempt(replace(job, token=token))
        except AttemptFailed as failure:
            record = {
                "token": token,
                "reason": failure.reason,
                "details": failure.details,
                "time": time.time(),
                "cell": job.to_json()["cell"],
            }
            store.write_json(f"failures/{job.train_id}/{token}.json", record)
            store.remove(f"trials/{job.train_id}/{token}")
            failures = [*failures, record]
            state = next_state(failures, max_attempts)
            emit(
                {
                    "event": state.value,
                    "cell": str(job.cell),
                    "eval_id": job.eval_id,
                    "reason": failure.reason,
                }
            )
            if state is State.QUARANTINED:
                return state
        else:
            store.remove(f"failures/{job.train_id}")
            emit({"event": State.FINISHED.value, "cell": str(job.cell), "eval_id": job.eval_id, **result})
            return State.FINISHED
