"""Where Ray Tune gets its trials from: one for every free place, chosen only when it is free.

Which trial comes next is `orchestrator.executors.lanes.scheduler`'s.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import ray
from ray.tune.search import BasicVariantGenerator

from orchestrator.executors.lanes.cluster import LANE_RESOURCE
from orchestrator.executors.lanes.machines import HEAD_RESOURCE, WAITS, nodes
from orchestrator.executors.lanes.scheduler import Scheduler, Waiting, impossible
from orchestrator.planning.identity import Job
from orchestrator.spec.resources import WorkerResources
from record.events import Emit, Event, LaneReady, Started, TrialEvent, WaitsForMachines

NODES_SECONDS = 5.0  # how often the cluster is asked what it holds
PLACE_SECONDS = 60.0  # room is made for a lane whose workers have found no place for this long


class TrialSource(BasicVariantGenerator):  # type: ignore[misc]  # Ray's classes are untyped
    """Gives Tune one trial for every free place, chosen only when it is free."""

    def __init__(
        self,
        scheduler: Scheduler[Job],
        seconds: Callable[[Job], float],
        max_lanes: int | None,
        stopping: threading.Event,
        emit: Emit,
    ) -> None:
        super().__init__()
        self.scheduler, self.seconds, self.max_lanes = scheduler, seconds, max_lanes
        self.stopping, self.emit = stopping, emit
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
        self.nodes_read_at = -NODES_SECONDS
        self.lacking: set[WorkerResources] = (
            set()
        )  # shapes that no machine holds and that were reported

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
        """Every event of a trial after its start comes from a place, and a lane that had one before
        has it at once.
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
        ):  # to reorder ten thousand each time would take minutes
            self.scheduler.estimate_again(self.seconds)

    def _nodes(self) -> list[dict[str, float]] | None:
        """What the cluster holds, asked now and then because it may grow; None where `max_lanes`
        alone decides.
        """
        if self.max_lanes is not None:
            return None
        if time.monotonic() - self.nodes_read_at > NODES_SECONDS:
            self.nodes_read_at, self.nodes = time.monotonic(), nodes()
            self._tell_of_lost_machines()
        return self.nodes

    def _tell_of_lost_machines(self) -> None:
        shapes = {*self.scheduler.shapes, *(waiting.shape for waiting in self.running.values())}
        lacking = {
            shape: problem for shape in shapes if (problem := impossible([shape], self.nodes))
        }
        for shape in lacking.keys() - self.lacking:
            self.emit(WaitsForMachines(f"{lacking[shape]}. {WAITS}"))
        self.lacking = set(lacking)

    def save_to_dir(self, dirpath: str, **_: Any) -> None:
        """Does nothing: the result store is the record."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, for the same reason: Tune pickles its settings for a resumption of its own."""
        return {}


def _lane_request(number: int) -> dict[str, float]:
    """What a lane asks for besides its workers. Tune reuses a lane for an equal request only, so
    each shape has its own.
    """
    if ray.cluster_resources().get(LANE_RESOURCE):
        return {"CPU": 0, LANE_RESOURCE: 0.5 + number / 1000}
    # The head declares no lanes: a share of it.
    return {"CPU": 0, HEAD_RESOURCE: (1 + number) / 1000}
