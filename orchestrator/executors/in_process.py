"""Runs trials one after the other in this process: for tests and for debugging with breakpoints,
without Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from orchestrator.executors.base import (
    AttemptFailed,
    AttemptInterrupted,
    Executor,
    run_to_the_end,
    stop_signals,
)
from orchestrator.planning.identity import Job
from orchestrator.spec.study import Spec
from record.events import Emit, Epoch, Event, Outcome, Stopping
from record.store import Store

if TYPE_CHECKING:
    import torch

    from orchestrator.trial.context import Measure


class InProcessExecutor(Executor):
    """Every job to its end, in the order given.

    Args:
        spec: the study's.
        store: the study's record.
        address: unused, there are no other machines here.
        device: where trials compute, by default the CPU.
        measure: as `orchestrator.trial.attempt.run_attempt` takes it.
        committed: called after a job's commit, while its last checkpoint is still there.
    """

    def __init__(
        self,
        spec: Spec,
        store: Store,
        address: str | None = None,
        *,
        device: torch.device | None = None,
        measure: Measure = lambda context, model: {},
        committed: Callable[[Job], None] = lambda job: None,
    ) -> None:
        super().__init__(spec, store, address)
        self.device, self.measure, self.committed = device, measure, committed

    def run(
        self, jobs: Sequence[Job], *, emit: Emit, seconds: Callable[[Job], float] | None = None
    ) -> None:
        """See `Executor.run`; `seconds` decides nothing here."""
        import torch

        from medvision.training.ranks import Ranks
        from medvision.training.watch import Interrupted, Watch
        from orchestrator.trial.attempt import failure_of, run_attempt
        from orchestrator.trial.log_tail import LAST_WORDS

        resources = self.spec.resources
        torch.set_num_threads(resources.cpus_per_worker)
        ranks = Ranks(device=self.device or torch.device("cpu"))
        with (
            LAST_WORDS.listening(),
            stop_signals(lambda: emit(Stopping())) as stop_requested,
        ):
            watch = Watch(stop=stop_requested.is_set)

            def attempt(job: Job) -> Outcome:
                epoch = 0

                def on_event(event: Event) -> None:
                    nonlocal epoch
                    epoch = event.epoch if isinstance(event, Epoch) else epoch
                    emit(event)

                try:
                    outcome = run_attempt(
                        job, self.store, ranks, on_event, watch, measure=self.measure
                    )
                except Interrupted as interruption:
                    raise AttemptInterrupted(final=True) from interruption
                except Exception as error:
                    failure = failure_of(error)
                    if failure.kind == "storage":
                        raise
                    raise AttemptFailed(
                        failure.reason, failure.details, failure.kind, epoch
                    ) from error
                assert outcome  # noqa: S101  # of rank 0
                self.committed(job)
                return outcome

            for job in jobs:
                run_to_the_end(
                    job,
                    self.store,
                    attempt,
                    emit,
                    max_attempts=resources.max_attempts,
                    rank_batch=job.batch_size(self.spec.training.batch_size),
                )
                if stop_requested.is_set():
                    raise KeyboardInterrupt
