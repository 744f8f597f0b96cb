"""The interface of every way of running trials, and what all of them share: claims, the record of
failures, and what follows a failure.

`orchestrator.executors.lanes` runs trials in Ray lanes, `orchestrator.executors.in_process` in this
process; both take each trial through `run_to_the_end`. `orchestrator.executors.registry` names
them, and tests/orchestrator/executors/test_contract.py holds what each must do.
"""

from __future__ import annotations

import abc
import contextlib
import math
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from orchestrator.planning.identity import Job
from orchestrator.planning.retry import State, micro_batch, next_state
from orchestrator.spec.study import Spec
from record import paths
from record.events import Emit, Failed, Finished, Interrupted, Outcome, Quarantined, Started
from record.schema import Claim, Commit, Failure
from record.search import SearchTrial
from record.store import Store, StoreError
from record.tables import mean_dice


class ClusterError(RuntimeError):
    """The cluster cannot be reached, or cannot hold a single trial."""


class Executor(abc.ABC):
    """A way of running the trials of one study: `with executor: executor.run(jobs, emit=emit)`.

    What it runs trials on (a cluster, for example) is there while the context lasts, which may be
    entered again. Making one is cheap: it imports neither torch nor Ray before it is entered.

    Args:
        spec: the study's.
        store: the study's record, which is written (`orchestrator.planning.study.Study.write`)
            before anything runs.
        address: where its machines are, for executors that have any.
    """

    starts = ""  # what entering it starts, in words; empty where that is nothing

    def __init__(self, spec: Spec, store: Store, address: str | None = None) -> None:
        self.spec, self.store, self.address = spec, store, address

    def machines(self) -> AbstractContextManager[None]:
        """What the trials run on is there while this lasts; here that is this process.

        Raises:
            ClusterError: it cannot be reached or started.
        """
        return contextlib.nullcontext()

    def __enter__(self) -> Self:
        self._machines = self.machines()
        self._machines.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._machines.__exit__(kind, error, trace)

    @abc.abstractmethod
    def run(
        self, jobs: Sequence[Job], *, emit: Emit, seconds: Callable[[Job], float] | None = None
    ) -> None:
        """Take every job through `run_to_the_end`: afterwards each is finished or quarantined.

        Args:
            emit: takes every event, from any thread. Of one trial come in this order: `started`,
                `epoch` of each epoch, then `finished`, `quarantined`, `failed` (and `started`
                again) or `interrupted`.
            seconds: expected duration of a job, asked again as trials finish; without it, jobs run
                in the order given.

        Raises:
            ClusterError: the trials cannot be run here, or the machines were lost again and again.
            StoreError: the storage failed, which is not a trial's fault.
            KeyboardInterrupt: after Ctrl-C or SIGTERM, with what was trained in checkpoints.
        """


class AttemptFailed(Exception):  # says what happened; callers catch it as a result
    """One attempt failed.

    Args:
        reason: one line.
        details: the traceback, or the last words of a lost worker.
        kind: `orchestrator.planning.retry.Kind`.
        epoch: how many epochs were finished.
    """

    def __init__(
        self, reason: str, details: str = "", kind: str = "exception", epoch: int = 0
    ) -> None:
        super().__init__(reason)
        self.reason, self.details, self.kind, self.epoch = reason, details, kind, epoch


class AttemptInterrupted(Exception):  # the attempt did what it was asked to do
    """The attempt saved its checkpoint and ended because it was asked to; `final`: because the
    whole run stops.
    """

    def __init__(self, final: bool) -> None:
        super().__init__("interrupted")
        self.final = final


def run_to_the_end(
    job: Job,
    store: Store,
    attempt: Callable[[Job], Outcome],
    emit: Emit,
    *,
    max_attempts: int,
    rank_batch: int = 1,
) -> State:
    """Attempt a job until it is finished or quarantined, or the run stops.

    Each attempt gets its own token, and claims the trial with it before it starts: what an orphan
    of an earlier driver commits later is refused.

    Args:
        attempt: runs one attempt to its commit, and raises AttemptFailed or AttemptInterrupted.
        rank_batch: cases of a batch on one rank, which a lack of memory halves.

    Returns:
        FINISHED, QUARANTINED, or PENDING where the run was asked to stop.

    Raises:
        StoreError: the storage failed, which is not the trial's fault.
    """
    failures = store.failures_of(job.eval_id)
    name = (job.title, job.eval_id)

    def finish(outcome: Outcome) -> State:
        store.remove(paths.failures(job.eval_id))
        store.remove(paths.checkpoints(job.train_id))
        emit(Finished(*name, outcome.seconds, outcome.dice, outcome.pruned))
        return State.FINISHED

    if (known := recorded(job, store)) is not None:  # its lane was lost after the commit
        return finish(known)
    while (state := next_state(failures, max_attempts)) is not State.QUARANTINED:
        token = f"{job.token}-{uuid.uuid4().hex[:8]}"
        micro = micro_batch(failures, rank_batch)
        store.save(paths.claim(job.train_id), Claim(token=token, eval_id=job.eval_id))
        emit(Started(*name, len(failures) + 1))
        try:
            outcome = attempt(replace(job, token=token, micro_batch=micro))
        except AttemptInterrupted as interruption:
            if (known := recorded(job, store)) is not None:
                return finish(known)
            emit(Interrupted(*name))
            if interruption.final:
                return State.PENDING
        except AttemptFailed as failure:
            # Its workers may have been lost between the commit and their report of it.
            if (known := recorded(job, store)) is not None:
                return finish(known)
            record = Failure(
                token=token,
                kind=failure.kind,
                reason=failure.reason,
                details=failure.details,
                epoch=failure.epoch,
                micro_batch=micro or rank_batch,
                time=time.time(),
                cell=job.cell,
            )
            store.save(paths.failure(job.eval_id, token), record)
            # Its files stay for `orchestrator.planning.study_files.sweep`: a worker that only seems
            # to be lost may still commit them.
            failures = [*failures, record]
            if (state := next_state(failures, max_attempts)) is not State.QUARANTINED:
                emit(Failed(*name, failure.reason, failure.kind))
        else:
            return finish(outcome)
    # Also of a trial that a lane gave up before it died.
    emit(Quarantined(*name, failures[-1].reason, failures[-1].kind))
    return state


def recorded(job: Job, store: Store) -> Outcome | None:
    """What a job's record says; None while the job is not finished."""
    if job.tuning:
        trial = store.load(job.record, SearchTrial)
        if trial is None:
            return None
        value = math.nan if trial.value is None else trial.value
        return Outcome(trial.seconds or 0.0, value, trial.state == "pruned")
    commit = store.load(job.record, Commit)
    if commit is None:
        return None
    dice = math.nan
    with contextlib.suppress(
        StoreError, KeyError
    ):  # only shown; the report says what is wrong with the table
        dice = mean_dice(store, commit)
    return Outcome(commit.cost.seconds, dice)


def has_ended(job: Job, store: Store, max_attempts: int) -> bool:
    """Whether a job is finished or quarantined."""
    return store.read(job.record) is not None or (
        next_state(store.failures_of(job.eval_id), max_attempts) is State.QUARANTINED
    )


@contextlib.contextmanager
def stop_signals(first: Callable[[], None]) -> Iterator[threading.Event]:
    """Ctrl-C or SIGTERM once calls `first` and sets the event that is given; twice raises
    KeyboardInterrupt at once.

    Outside the main thread, where Python takes no signals, the event is never set.
    """
    requested = threading.Event()

    def handle(number: int, frame: Any) -> None:
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()
        first()

    if threading.current_thread() is not threading.main_thread():
        yield requested
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
