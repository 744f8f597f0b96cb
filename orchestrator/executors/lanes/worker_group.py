"""The Ray Train workers of a lane, as the lane sees them: jobs go in, events come out, and what
ended them is distinguished.

The workers' own side is `orchestrator.executors.lanes.worker`.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.exceptions import RayTrainError
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.executors.base import AttemptFailed, AttemptInterrupted
from orchestrator.executors.lanes.meeting import torch_config
from orchestrator.executors.lanes.worker import lane_loop
from orchestrator.planning.identity import Job
from orchestrator.spec.resources import WorkerResources
from record.events import (
    AttemptDone,
    AttemptStopped,
    Beat,
    Emit,
    Epoch,
    Event,
    LaneReady,
    Outcome,
    RankFailed,
    RankReady,
)
from record.store import StoreError

POLL_SECONDS = 1.0
STOP_SECONDS = 30.0
LAST_WORDS_SECONDS = 10.0  # after a rank's failure: for the other ranks' and for Train's own report
LAST_EVENTS = 20
STDERR_LINES = 100
SILENCE = (
    3  # times `hang_seconds`, after which workers that sent nothing at all are killed from outside
)
# Which of several ranks' failures gives the cause: the others often see only a broken connection.
_CAUSES = ("hang", "memory", "training", "storage")


def queue_here() -> Queue:
    """A queue whose process lives on this machine, so that no other machine's loss takes it
    away.
    """
    return Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here()})


def here() -> NodeAffinitySchedulingStrategy:
    """Placement on the machine of the caller."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


class WorkerGroup:
    """A TorchTrainer that runs in a thread and waits for jobs."""

    def __init__(self, settings: Mapping[str, Any], shape: WorkerResources) -> None:
        self.shape, self.control = shape, settings["control"]
        self.hang_seconds = settings["hang_seconds"]
        self.inbox, self.outbox = queue_here(), queue_here()
        self.scratch = tempfile.TemporaryDirectory(
            prefix="medvision-lane-", ignore_cleanup_errors=True
        )
        self.trials = 0
        self.ready = False
        self.ranks: dict[int, RankReady] = {}  # what each reported of itself
        self.death: BaseException | None = None
        self.trainer = TorchTrainer(
            lane_loop,
            train_loop_config={
                "inbox": self.inbox,
                "outbox": self.outbox,
                "store": settings["store"],
                "threads": shape.cpus_per_worker,
                "hang_seconds": self.hang_seconds,
                "gpus": shape.gpus_per_worker,
            },
            torch_config=torch_config(
                # Tensors on the CPU, such as requests to stop, go over Gloo and wait for no GPU.
                backend="cpu:gloo,cuda:nccl" if shape.gpus_per_worker else "gloo",
                # A hang is the heartbeat's to tell, which ends the process sooner.
                timeout_s=math.ceil(SILENCE * self.hang_seconds) + 60,
            ),
            scaling_config=ScalingConfig(
                num_workers=shape.workers,
                use_gpu=bool(shape.gpus_per_worker),
                resources_per_worker=shape.worker,
            ),
            run_config=RunConfig(
                name=f"lane-{os.getpid()}-{time.time_ns()}", storage_path=self.scratch.name
            ),
        )
        self.thread = threading.Thread(target=self._fit, daemon=True)
        self.thread.start()

    def _fit(self) -> None:
        try:
            self.trainer.fit()
        except BaseException as error:  # handed to whoever waits for a result
            self.death = error

    def run(self, job: Job, emit: Emit) -> Outcome:
        """Run one job to its commit.

        Raises:
            AttemptFailed: the attempt raised, was silent for too long, or the workers died.
            AttemptInterrupted: the driver stops, or a machine of these workers is about to go.
            StoreError: the storage failed.
        """
        self.trials += 1
        self.inbox.put(job.to_json())
        last_events: deque[str] = deque(maxlen=LAST_EVENTS)
        epoch, interrupted = 0, False
        last_event_at = looked_at = time.monotonic()
        while True:
            # Asked first, so that a last message of dead workers is still read.
            alive = self.thread.is_alive()
            event = next_event(self.outbox)
            if event is not None:
                last_event_at = time.monotonic()
                if not isinstance(event, Beat):
                    last_events.append(repr(event))
                match event:
                    case RankReady():
                        self.ranks[event.rank] = event
                    case AttemptDone():
                        return event.outcome
                    case AttemptStopped():
                        raise AttemptInterrupted(final=self._control()["stop"])
                    case RankFailed():
                        raise self._failure([event], last_events, epoch, 0.0)
                    case LaneReady():
                        self.ready = True
                        emit(replace(event, cell=job.title, eval_id=job.eval_id))
                    case Epoch():
                        self.ready, epoch = True, event.epoch
                        emit(event)
                # Epochs may follow each other without a pause.
                if last_event_at - looked_at < POLL_SECONDS:
                    continue
            elif not alive:
                raise self._failure([], last_events, epoch, time.monotonic() - last_event_at)
            looked_at, control = time.monotonic(), self._control()
            if control["stop"] and not self.ready:
                raise AttemptInterrupted(final=True)
            if not interrupted and (
                control["stop"]
                or {rank.node for rank in self.ranks.values()} & set(control["draining"])
            ):
                interrupted = True
                self.inbox.put("interrupt")
            if self.ranks and time.monotonic() - last_event_at > SILENCE * self.hang_seconds:
                for rank in self.ranks.values():
                    ray.kill(rank.actor)
                reason = (
                    f"the workers did not answer for {SILENCE * self.hang_seconds:.0f} s and were "
                    "killed"
                )
                raise AttemptFailed(reason, "\n".join(last_events), "hang", epoch)

    def _failure(
        self, received: list[Event], last_events: deque[str], epoch: int, silent: float
    ) -> AttemptFailed | StoreError:
        """The cause, from what the ranks reported, what Train saw of their processes, and how long
        they were silent before.
        """
        until = time.monotonic() + LAST_WORDS_SECONDS
        while (alive := self.thread.is_alive()) and time.monotonic() < until:
            if event := next_event(self.outbox, timeout=0.2):
                received.append(event)
        while event := next_event(self.outbox, timeout=0.2 if alive else 0.05):
            received.append(event)
        failures = [event for event in received if isinstance(event, RankFailed)]
        causes = [event for event in failures if event.kind in _CAUSES]
        # Train wraps what ended a process in an error of its own.
        ends = [
            getattr(end, "health_check_failure", end)
            for end in getattr(self.death, "worker_failures", {}).values()
        ]
        gone = [end for end in ends if isinstance(end, ray.exceptions.RayActorError)]
        if not causes and any(isinstance(end, ray.exceptions.OutOfMemoryError) for end in ends):
            return AttemptFailed(
                "the machine ran out of memory and Ray ended a worker",
                str(self.death),
                "memory",
                epoch,
            )
        raised = [
            end for end in ends if not isinstance(end, ray.exceptions.RayError | RayTrainError)
        ]
        if (
            not self.ready and not failures and raised
        ):  # before the first trial, so that none could report it
            details = "".join(traceback.format_exception(raised[0]))
            return AttemptFailed(
                f"the workers did not start: {raised[0]}".splitlines()[0],
                details,
                "exception",
                epoch,
            )
        if not causes and (gone or not failures):
            details = "\n".join([str(self.death), "Last events:", *last_events])
            if self.ready and silent > self.hang_seconds:
                # A worker says so itself unless its threads cannot run; then a timer in C has ended
                # it.
                reason = (
                    f"no sign of life for {silent:.0f} s, then its process ended: something held "
                    "Python's lock"
                )
                return AttemptFailed(
                    reason,
                    "\n".join([details, *map(_last_stderr, self.ranks.values())]),
                    "hang",
                    epoch,
                )
            return AttemptFailed("the worker processes were lost", details, "lost", epoch)
        cause = (causes or failures)[0]
        if cause.kind == "storage":
            return StoreError(cause.reason)
        rank = f"rank {cause.rank}: " if self.shape.workers > 1 else ""
        details = "\n".join([cause.details, "Last events:", *last_events])
        return AttemptFailed(rank + cause.reason, details, cause.kind, epoch)

    def _control(self) -> dict[str, Any]:
        requests: dict[str, Any] = ray.get(self.control.read.remote())
        return requests

    def stop(self) -> None:
        """Let the workers end and give their resources back."""
        with contextlib.suppress(Exception):
            self.inbox.put("stop")
        if self.ready:
            self.thread.join(STOP_SECONDS)
        for box in (self.inbox, self.outbox):
            with contextlib.suppress(Exception):
                box.shutdown(force=True)
        self.scratch.cleanup()


def _last_stderr(rank: RankReady) -> str:
    """The last lines of a dead worker's stderr, which Ray keeps on its machine; where they lie if
    it does not give them.
    """
    where = (
        f"Last lines of rank {rank.rank}'s stderr (process {rank.pid} on Ray's node {rank.node}):\n"
    )
    try:
        context = ray.get_runtime_context()
        if rank.node == context.get_node_id() and Path(rank.stderr).is_file():
            lines = Path(rank.stderr).read_text(errors="replace").splitlines(keepends=True)
            return where + "".join(lines[-STDERR_LINES:])
        from ray.util.state import get_log

        file = {"node_id": rank.node, "pid": rank.pid, "suffix": "err"}
        # The address: another Ray may run on this machine.
        return where + "".join(get_log(context.gcs_address, **file, tail=STDERR_LINES, timeout=10))
    except Exception as error:  # the machine, or Ray's dashboard, may be gone, too
        return f"{where}not to be had: {error}"


def next_event(box: Queue, timeout: float = POLL_SECONDS) -> Event | None:
    """The next event in a box, None after a while without one."""
    try:
        event: Event = box.get(timeout=timeout)
    except (Empty, queue.Empty):
        return None
    return event
