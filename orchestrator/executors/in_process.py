"""Runs trials one after the other in this process: for tests and for debugging with breakpoints,
without Ray.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from medvision.training.loop import Interrupted, Ranks, Watch
from orchestrator.executors.base import (
    AttemptFailed,
    AttemptInterrupted,
    run_to_the_end,
    stop_signals,
)
from orchestrator.planning.identity import Job
from orchestrator.spec.study import Spec
from orchestrator.trial.attempt import failure_of, run_attempt
from orchestrator.trial.context import Measure
from orchestrator.trial.log_tail import LAST_WORDS
from record.events import Emit, Outcome, Stopping
from record.store import Store


def run_jobs(
    jobs: Sequence[Job],
    spec: Spec,
    store: Store,
    emit: Emit,
    *,
    device: torch.device | None = None,
    measure: Measure = lambda context, model: {},
) -> None:
    """Run every job to its end, in order, by default on the CPU. `measure` is `run_attempt`'s.

    Raises:
        KeyboardInterrupt: after Ctrl-C or SIGTERM, with what was trained in a checkpoint.
        StoreError: the storage failed.
    """
    torch.set_num_threads(spec.resources.cpus_per_worker)
    ranks = Ranks(device=device or torch.device("cpu"))
    with LAST_WORDS.listening(), stop_signals(lambda: emit(Stopping())) as asked:
        watch = Watch(stop=asked.is_set)

        def attempt(job: Job) -> Outcome:
            try:
                outcome = run_attempt(job, store, ranks, emit, watch, measure=measure)
            except Interrupted as interruption:
                raise AttemptInterrupted(final=True) from interruption
            except Exception as error:
                cause = failure_of(error)
                if cause.kind == "storage":
                    raise
                raise AttemptFailed(cause.reason, cause.details, cause.kind) from error
            assert outcome  # noqa: S101  # of rank 0
            return outcome

        for job in jobs:
            run_to_the_end(
                job,
                store,
                attempt,
                emit,
                max_attempts=spec.resources.max_attempts,
                rank_batch=job.batch_size(spec.training.batch_size),
            )
            if asked.is_set():
                raise KeyboardInterrupt
