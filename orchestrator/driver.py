"""The Ray Tune driver: lanes of long-lived Ray Train workers, through which trials flow.

A lane is a Tune Trainable with reused actors that owns one TorchTrainer. A further trial in a lane costs a message, not a
new group of processes (about 0.1 s instead of 15 s). The Tune side asks for next to no CPU, the Train workers hold the
CPUs and GPUs, so that a trial never waits for its own workers. Tune orders and counts; our own result store, not Tune's
experiment state, is the record, and `orchestrator.execution` decides what follows a failure.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.queue import Empty, Queue

from orchestrator.execution import AttemptFailed, ClusterError, Emit, run_to_the_end
from orchestrator.spec import ResourcesSpec, Spec
from orchestrator.trial import Job
from orchestrator.worker import lane_loop
from reports.store import Store

LANE_RESOURCE = "lane"  # held by the head only, so that lanes sit beside the driver and take no worker's CPU
LANE_CPU = 0.01  # what a lane asks for where the cluster's head declares no such resource
POLL_SECONDS = 1.0
STOP_SECONDS = 30.0
KNOCK_SECONDS = 10.0
_QUIET = {
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process per lane; interruptions are met by fencing and retries
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own experiment state is not our record
    "RAY_DEDUP_LOGS": "1",
    # A lane starts about seven small processes at once; the default of one a core makes Ray complain of them.
    "RAY_worker_maximum_startup_concurrency": "32",
}


class Lane(tune.Trainable):  # type: ignore[misc]  # Ray's classes are untyped
    """One group of Train workers; each Tune trial is one job, and `reset_config` takes the next without a new actor."""

    def setup(self, config: dict[str, Any], settings: dict[str, Any]) -> None:
        self.settings = settings
        self.store = Store(settings["store"])
        self.events = settings["events"]
        self.job = Job.from_json(config["job"])
        self.group: WorkerGroup | None = None

    def reset_config(self, config: dict[str, Any]) -> bool:
        self.job = Job.from_json(config["job"])
        return True

    def step(self) -> dict[str, Any]:
        def emit(event: dict[str, Any]) -> None:
            self.events.put({"lane": os.getpid(), **event})

        def attempt(job: Job) -> Mapping[str, Any]:
            if self.group is None:
                self.group = WorkerGroup(self.settings)
            try:
                return self.group.run(job, emit)
            except AttemptFailed:
                self.group.stop()
                self.group = None
                raise

        state = run_to_the_end(
            self.job, self.store, attempt, emit, max_attempts=self.settings["resources"]["max_attempts"]
        )
        return {"state": state.value, "done": True}

    def cleanup(self) -> None:
        if self.group is not None:
            self.group.stop()


class WorkerGroup:
    """A TorchTrainer that runs in a thread and waits for jobs."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        resources = ResourcesSpec.model_validate(settings["resources"])
        self.inbox = Queue(actor_options={"num_cpus": 0})
        self.outbox = Queue(actor_options={"num_cpus": 0})
        self.scratch = tempfile.TemporaryDirectory(prefix="medvision-lane-", ignore_cleanup_errors=True)
        self.death: BaseException | None = None
        per_worker: dict[str, float] = {"CPU": resources.cpus_per_worker}
        if resources.gpus_per_worker:
            per_worker["GPU"] = resources.gpus_per_worker
        self.trainer = TorchTrainer(
            lane_loop,
            train_loop_config={
                "inbox": self.inbox,
                "outbox": self.outbox,
                "store": settings["store"],
                "threads": resources.cpus_per_worker,
            },
            torch_config=TorchConfig(backend="nccl" if resources.gpus_per_worker else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=resources.workers,
                use_gpu=bool(resources.gpus_per_worker),
                resources_per_worker=per_worker,
            ),
            run_config=RunConfig(name=f"lane-{os.getpid()}-{time.time_ns()}", storage_path=self.scratch.name),
        )
        self.thread = threading.Thread(target=self._fit, daemon=True)
        self.thread.start()

    def _fit(self) -> None:
        try:
            self.trainer.fit()
        except BaseException as error:  # handed to whoever waits for a result
            self.death = error

    def run(self, job: Job, emit: Emit) -> Mapping[str, Any]:
        """Run one job to its commit.

        Raises:
            AttemptFailed: the attempt raised, or the workers died.
        """
        self.inbox.put(job.to_json())
        while True:
            alive = self.thread.is_alive()  # asked first, so that a last message of a dead group is still read
            try:
                event = self.outbox.get(timeout=POLL_SECONDS)
            except (Empty, queue.Empty):
                if not alive:
                    raise AttemptFailed("the worker processes were lost", str(self.death)) from None
                continue
            if event["event"] == "attempt-done":
                result: Mapping[str, Any] = event["result"]
                return result
            if event["event"] == "attempt-failed":
                raise AttemptFailed(event["reason"], event["details"])
            emit({"cell": str(job.cell), "eval_id": job.eval_id, **event})

    def stop(self) -> None:
        """Let the workers end and give their resources back."""
        with contextlib.suppress(Exception):
            self.inbox.put("stop")
        self.thread.join(STOP_SECONDS)
        for box in (self.inbox, self.outbox):
            with contextlib.suppress(Exception):
                box.shutdown(force=True)
        self.scratch.cleanup()


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Ray, started on this machine unless an address (or RAY_ADDRESS) names a cluster.

    A local Ray is always our own: a bare `ray.init` could attach to somebody else's. Its dashboard is on loopback, and its
    other ports ask for Ray's token.

    Raises:
        ClusterError: no cluster answers at the address.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    address = address or os.environ.get("RAY_ADDRESS")
    if address and address != "local":
        try:
            _knock(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError, ray.exceptions.RayError) as error:
            raise ClusterError(f"no Ray cluster answers at {address}: {error}") from error
    else:
        ray.init(
            address="local",
            dashboard_host="127.0.0.1",
            resources={LANE_RESOURCE: 10_000},
            include_dashboard=True,  # Train's cleaner asks it which placement groups to give back
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Fail at once where nobody listens at HOST:PORT; Ray itself would go on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()


def run_jobs(jobs: Sequence[Job], spec: Spec, store: Store, emit: Emit) -> None:
    """Run every job to its end through lanes, in order, and hand every event to `emit`. Needs a connected Ray.

    Raises:
        ClusterError: no lane fits the cluster.
    """
    lanes = min(_lane_count(spec.resources), len(jobs))
    events = Queue(actor_options={"num_cpus": 0})
    listener = _Listener(events, emit)
    settings = {"store": store.uri, "resources": spec.resources.model_dump(mode="json"), "events": events}
    with tempfile.TemporaryDirectory(prefix="medvision-tune-", ignore_cleanup_errors=True) as scratch:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(Lane, settings=settings), _lane_request()),
            param_space={"job": tune.grid_search([job.to_json() for job in jobs])},
            tune_config=tune.TuneConfig(max_concurrent_trials=lanes, reuse_actors=True),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(Path(scratch)),
                verbose=0,
                # Attempts are counted in `execution`; this is for the loss of a lane's own small process.
                failure_config=tune.FailureConfig(max_failures=3),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False, checkpoint_frequency=0),
            ),
        )
        try:
            with listener:
                results = tuner.fit()
        finally:
            with contextlib.suppress(Exception):
                events.shutdown(force=True)
        if results.errors:
            raise RuntimeError(f"{len(results.errors)} trials were lost with their lanes: {results.errors[0]}")


class _Listener:
    """Hands the lanes' events to `emit` from a thread of the driver."""

    def __init__(self, events: Queue, emit: Emit) -> None:
        self.events, self.emit = events, emit
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join(STOP_SECONDS)

    def _listen(self) -> None:
        while True:
            last_round = self.ended.is_set()
            try:
                self.emit(self.events.get(timeout=POLL_SECONDS / 2))
            except (Empty, queue.Empty):
                if last_round:
                    return


def _lane_request() -> dict[str, float]:
    return {"CPU": 0, LANE_RESOURCE: 1} if ray.cluster_resources().get(LANE_RESOURCE) else {"CPU": LANE_CPU}


def _lane_count(resources: ResourcesSpec) -> int:
    """How many lanes fit, or `max_lanes` as it stands: a cluster that grows from nothing holds less now."""
    if resources.max_lanes is not None:
        return resources.max_lanes
    held = ray.cluster_resources()
    needs = {
        "CPU": resources.workers * resources.cpus_per_worker + _lane_request()["CPU"],
        "GPU": resources.workers * resources.gpus_per_worker,
    }
    fitting = min(int(held.get(kind, 0) / need) for kind, need in needs.items() if need)
    if fitting < 1:
        asked = ", ".join(f"{need:g} {kind}" for kind, need in needs.items() if need)
        has = ", ".join(f"{held.get(kind, 0):g} {kind}" for kind in needs)
        raise ClusterError(
            f"one trial asks for {asked}, the cluster holds {has}: lower resources.workers, cpus_per_worker or "
            "gpus_per_worker, or set resources.max_lanes for a cluster that grows"
        )
    return fitting
