"""The Ray Tune driver: feeds the trials of a study to lanes of long-lived Ray Train workers
(`orchestrator.executors.lanes.lane`).

Tune starts lanes, hands trials over and counts; which trial comes next is
`orchestrator.executors.lanes.scheduler`'s, and what follows a failure
`orchestrator.executors.base`'s. Our own result store, not Tune's experiment state, is the record.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search import BasicVariantGenerator

from orchestrator.executors.base import ClusterError, has_ended, stop_signals
from orchestrator.executors.lanes.lane import ControlActor, Lane, LiveTrials
from orchestrator.executors.lanes.machines import HEAD_RESOURCE, WAITS, check_shapes, nodes
from orchestrator.executors.lanes.preflight import check_machines, runtime_env
from orchestrator.executors.lanes.scheduler import Scheduler, Waiting, impossible
from orchestrator.executors.lanes.watcher import Watcher
from orchestrator.executors.lanes.worker_group import here, queue_here
from orchestrator.planning.identity import Job
from orchestrator.spec.resources import WorkerResources
from orchestrator.spec.study import Spec
from record.events import (
    Emit,
    Event,
    LaneReady,
    Started,
    StorageFailed,
    TrialEvent,
    WaitsForMachines,
)
from record.store import Store, StoreError

LANE_RESOURCE = (
    "lane"  # held by the head only, so that lanes sit beside the driver and take no worker's CPU
)
REACHABLE_SECONDS = 10.0
NODES_SECONDS = 5.0  # how often the cluster is asked what it holds
LANE_LOSSES = 20  # of the lane's own small process, for one trial
ROUNDS = 3  # for trials that ended without an end of their own
PLACE_SECONDS = 60.0  # a lane whose workers have found no place for so long is made room for
_QUIET = {
    # a process per lane; the driver itself asks for draining machines
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # `stop_signals` lets the lanes write their checkpoints
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own experiment state is not our record
    "TUNE_MAX_PENDING_TRIALS_PG": "200",
    "RAY_DEDUP_LOGS": "1",
    # A lane starts about seven small processes at once; the default of one a core makes Ray
    # complain of them.
    "RAY_worker_maximum_startup_concurrency": "32",
}


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Ray, started on this machine unless an address (or RAY_ADDRESS) names a cluster.

    A local Ray is always our own: a bare `ray.init` could attach to somebody else's. Its dashboard
    is on loopback, and its other ports ask for Ray's token.

    Raises:
        ClusterError: no cluster answers at the address, or Ray does not start here.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    address = address or os.environ.get("RAY_ADDRESS")
    if address and address != "local":
        try:
            check_reachable(address)
            quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
            ray.init(address=address, runtime_env=runtime_env(_QUIET), **quiet)
        except (OSError, ValueError, ray.exceptions.RayError) as error:
            raise ClusterError(f"no Ray cluster answers at {address}: {error}") from error
    else:
        try:
            ray.init(
                address="local",
                dashboard_host="127.0.0.1",
                resources={LANE_RESOURCE: 10_000},
                # Train's cleaner asks it which placement groups to give back
                include_dashboard=True,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except Exception as error:  # Ray raises RuntimeError and bare Exception, too
            raise ClusterError(
                f"Ray did not start on this machine: {error}. Try again when it is less busy"
            ) from error
    try:
        yield
    finally:
        ray.shutdown()


def check_reachable(address: str) -> None:
    """Fail at once where nobody listens at HOST:PORT; Ray itself would go on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=REACHABLE_SECONDS).close()


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
    shapes = dict.fromkeys(spec.resources.shape(job.cell.model, job.cell.task) for job in jobs)
    check_shapes(list(shapes), spec.resources.max_lanes, emit)
    order = {job.eval_id: float(len(jobs) - position) for position, job in enumerate(jobs)}
    seconds = seconds or (lambda job: order[job.eval_id])
    lost: Sequence[BaseException] = ()
    for _ in range(ROUNDS):
        lost = _round(jobs, spec, store, emit, seconds)
        # A trial that Tune took for a lane that was dying has come to no end of its own.
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
        Waiting(
            job, spec.resources.shape(job.cell.model, job.cell.task), seconds(job), job.train_id
        )
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
        stop_signals(lambda: control.tell.remote(stop=True)) as asked,
    ):
        source = TrialSource(scheduler, seconds, spec.resources.max_lanes, asked, events.put)

        def on_event(event: Event) -> None:
            if isinstance(event, StorageFailed):
                storage_failed.append(event.reason)
                asked.set()
                control.tell.remote(stop=True)
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
                # Attempts are counted in `execution`; this is for the loss of a lane's own small
                # process.
                failure_config=tune.FailureConfig(max_failures=LANE_LOSSES),
                checkpoint_config=tune.CheckpointConfig(
                    checkpoint_at_end=False, checkpoint_frequency=0
                ),
            ),
        )
        try:
            with Watcher(events, on_event, control, asked):
                results = tuner.fit()
        finally:
            with contextlib.suppress(Exception):
                events.shutdown(force=True)
                ray.kill(control)
        if storage_failed:
            raise StoreError(storage_failed[0])
        if asked.is_set():
            raise KeyboardInterrupt
        return list(results.errors)


class TrialSource(BasicVariantGenerator):  # type: ignore[misc]  # Ray's classes are untyped
    """Gives Tune one trial for every place that is free, and decides which only then."""

    def __init__(
        self,
        scheduler: Scheduler[Job],
        seconds: Callable[[Job], float],
        max_lanes: int | None,
        stopping: threading.Event,
        emit: Emit,
    ) -> None:
        super().__init__()
        self.scheduler, self.seconds, self.max_lanes, self.stopping = (
            scheduler,
            seconds,
            max_lanes,
            stopping,
        )
        self.emit = emit
        self.requests = {
            shape: _lane_request(number) for number, shape in enumerate(scheduler.shapes)
        }
        self.running: dict[str, Waiting[Job]] = {}
        # Trials of new lanes by eval_id, since when, until their workers are there.
        self.placeless: dict[str, tuple[float, WorkerResources]] = {}
        self.placed: set[int | None] = set()  # lanes that have had their workers
        self.freed: WorkerResources | None = None
        self.ended = 0
        self.nodes: list[dict[str, float]] = []
        self.asked = -NODES_SECONDS
        self.told: set[WorkerResources] = set()

    def next_trial(self) -> Any:
        """A Tune trial that carries the next job, or None where nothing fits now or nothing is
        left.
        """
        if self.stopping.is_set() or not len(self.scheduler):
            self.set_finished()
            return None
        if self.max_lanes is not None and len(self.running) >= self.max_lanes:
            return None
        now, machines = time.monotonic(), self._nodes()
        placeless = {
            shape for since, shape in [*self.placeless.values()] if now - since > PLACE_SECONDS
        }
        waiting = self.scheduler.take(list(self.running.values()), machines, self.freed, placeless)
        if waiting is None:
            return None
        trial = super().next_trial()
        job, request = waiting.item, self.requests[waiting.shape]
        trial.config |= {"job": job.to_json(), "shape": asdict(waiting.shape), "request": request}
        if waiting.shape != self.freed:
            self.placeless[job.eval_id] = (now, waiting.shape)
        self.running[trial.trial_id], self.freed = waiting, None
        return trial

    def on_event(self, event: Event) -> None:
        """Whatever a trial tells after its start it tells from a place, and a lane that had one
        before has it at once.
        """
        if isinstance(event, LaneReady):
            self.placed.add(event.lane)
        if isinstance(event, LaneReady | TrialEvent) and (
            not isinstance(event, Started) or event.lane in self.placed
        ):
            self.placeless.pop(event.eval_id or "", None)

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        super().on_trial_complete(trial_id, result, error)
        ended = self.running.pop(trial_id, None)
        self.freed = ended.shape if ended else None
        if ended:
            self.placeless.pop(ended.item.eval_id, None)
        self.ended += 1
        if (
            self.ended % (1 + len(self.scheduler) // 50) == 0
        ):  # to order ten thousand anew each time would take minutes
            self.scheduler.estimate_again(self.seconds)

    def _nodes(self) -> list[dict[str, float]] | None:
        """What the cluster holds, asked now and then because it may grow; None where `max_lanes`
        alone decides.
        """
        if self.max_lanes is not None:
            return None
        if time.monotonic() - self.asked > NODES_SECONDS:
            self.asked, self.nodes = time.monotonic(), nodes()
            self._tell_of_lost_machines()
        return self.nodes

    def _tell_of_lost_machines(self) -> None:
        shapes = {*self.scheduler.shapes, *(waiting.shape for waiting in self.running.values())}
        lacking = {
            shape: problem for shape in shapes if (problem := impossible([shape], self.nodes))
        }
        for shape in lacking.keys() - self.told:
            self.emit(WaitsForMachines(f"{lacking[shape]}. {WAITS}"))
        self.told = set(lacking)

    def save_to_dir(self, dirpath: str, **_: Any) -> None:
        """Nothing: the result store is the record."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, for the same reason: Tune pickles its settings for a resumption of its own."""
        return {}


def _lane_request(number: int) -> dict[str, float]:
    """What a lane asks for beside its workers. Tune reuses a lane for an equal request only, so
    each shape has its own.
    """
    if ray.cluster_resources().get(LANE_RESOURCE):
        return {"CPU": 0, LANE_RESOURCE: 0.5 + number / 1000}
    return {
        "CPU": 0,
        HEAD_RESOURCE: (1 + number) / 1000,
    }  # the head declares no lanes: a share of it
