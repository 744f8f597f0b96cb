"""The Ray Tune driver: feeds the trials of a study to lanes of long-lived Ray Train workers
(`orchestrator.executors.lanes.lane`).

Tune starts lanes, hands trials over and counts; which trial comes next is
`orchestrator.executors.lanes.scheduler`'s, and what follows a failure
`orchestrator.executors.base`'s. Our own result store, not Tune's experiment state, is the record.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import ray
from ray import tune

from orchestrator.executors.base import ClusterError, has_ended, stop_signals
from orchestrator.executors.lanes.lane import ControlActor, Lane, LiveTrials
from orchestrator.executors.lanes.machines import check_shapes, with_gpus
from orchestrator.executors.lanes.preflight import check_machines
from orchestrator.executors.lanes.scheduler import Scheduler, Waiting
from orchestrator.executors.lanes.trial_source import TrialSource
from orchestrator.executors.lanes.watcher import Watcher
from orchestrator.executors.lanes.worker_group import here, queue_here
from orchestrator.planning.identity import Job
from orchestrator.spec.study import Spec
from record.events import Emit, Event, StorageFailed
from record.store import Store, StoreError

LANE_LOSSES = 20  # of the lane's own small process, for one trial
ROUNDS = 3  # for trials that did not end by themselves


def run_jobs(
    jobs: Sequence[Job],
    spec: Spec,
    store: Store,
    emit: Emit,
    *,
    seconds: Callable[[Job], float] | None = None,
) -> None:
    """Run every job to its end through lanes and hand every event to `emit`. Needs a connected Ray.

    Args:
        seconds: expected duration of a job, asked again as trials finish; without it, jobs run in
            the order given.

    Raises:
        ClusterError: a trial fits no machine of the cluster, a machine lacks what the study needs,
            or lanes were lost again and again.
        StoreError: the storage failed.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, when every lane has written its checkpoint.
    """
    check_machines(spec, store, emit)
    spec = with_gpus(spec, emit)
    shapes = dict.fromkeys(spec.resources.shape(job.cell.model, job.cell.task) for job in jobs)
    check_shapes(list(shapes), spec.resources.max_lanes, emit)
    order = {job.eval_id: float(len(jobs) - position) for position, job in enumerate(jobs)}
    seconds = seconds or (lambda job: order[job.eval_id])
    lost: Sequence[BaseException] = ()
    for _ in range(ROUNDS):
        lost = _round(jobs, spec, store, emit, seconds)
        # A trial that Tune gave to a dying lane has not ended by itself.
        jobs = (
            [job for job in jobs if not has_ended(job, store, spec.resources.max_attempts)]
            if lost
            else []
        )
        if not jobs:
            return
    raise ClusterError(f"{len(jobs)} trials lost their lanes again and again: {lost[0]}")


def _round(
    jobs: Sequence[Job], spec: Spec, store: Store, emit: Emit, seconds: Callable[[Job], float]
) -> Sequence[BaseException]:
    """Run jobs as `run_jobs` does, once; what Tune saw of those whose lanes were lost too often."""
    scheduler = Scheduler(
        Waiting(job, spec.resources.shape(job.cell.model, job.cell.task), seconds(job))
        for job in jobs
    )
    control = ray.remote(ControlActor).options(num_cpus=0, scheduling_strategy=here()).remote()
    events = queue_here()
    settings = {
        "store": store.uri,
        "events": events,
        "control": control,
        "batch_size": spec.training.batch_size,
        **spec.resources.model_dump(include={"max_attempts", "hang_seconds", "lane_trials"}),
    }
    storage_failed: list[str] = []
    with (
        tempfile.TemporaryDirectory(
            prefix="medvision-tune-", ignore_cleanup_errors=True
        ) as scratch,
        stop_signals(lambda: control.request.remote(stop=True)) as stop_requested,
    ):
        source = TrialSource(
            scheduler, seconds, spec.resources.max_lanes, stop_requested, events.put
        )

        def on_event(event: Event) -> None:
            if isinstance(event, StorageFailed):
                storage_failed.append(event.reason)
                stop_requested.set()
                control.request.remote(stop=True)
            source.on_event(event)
            emit(event)

        tuner = tune.Tuner(
            tune.with_parameters(Lane, settings=settings),
            tune_config=tune.TuneConfig(
                search_alg=source, scheduler=LiveTrials(), num_samples=len(jobs), reuse_actors=True
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(Path(scratch)),
                verbose=0,
                # Attempts are counted elsewhere; this is for the loss of a lane's own process.
                failure_config=tune.FailureConfig(max_failures=LANE_LOSSES),
                checkpoint_config=tune.CheckpointConfig(
                    checkpoint_at_end=False, checkpoint_frequency=0
                ),
            ),
        )
        try:
            with Watcher(events, on_event, control, stop_requested):
                results = tuner.fit()
        finally:
            with contextlib.suppress(Exception):
                events.shutdown(force=True)
                ray.kill(control)
        if storage_failed:
            raise StoreError(storage_failed[0])
        if stop_requested.is_set():
            raise KeyboardInterrupt
        return list(results.errors)
