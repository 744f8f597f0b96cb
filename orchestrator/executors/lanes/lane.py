"""A lane: a Tune Trainable with reused actors that owns long-lived Ray Train workers.

A further trial in a lane costs a message, not new processes (about 0.1 s instead of 15
s). The Tune side asks for hardly any CPU; the Train workers hold the CPUs and GPUs, so that a trial
never waits for its own workers.
"""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import Any

from ray import tune
from ray.train.v2._internal.constants import WORKER_HEALTH_CHECK_TIMEOUT_S_ENV_VAR
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from orchestrator.executors.base import run_to_the_end
from orchestrator.executors.lanes.worker_group import SILENCE, WorkerGroup
from orchestrator.planning.identity import Job
from orchestrator.spec.resources import WorkerResources
from record.events import Event, Outcome, StorageFailed
from record.store import Store, StoreError

IDLE_SECONDS = 20.0  # after which a lane without a trial gives its place back


class ControlActor:
    """What the driver requests of its lanes: to stop, or to leave machines
    that will go; an actor that holds hardly anything.
    """

    def __init__(self) -> None:
        self.requests: dict[str, Any] = {"stop": False, "draining": []}

    def request(self, **changed: Any) -> None:
        self.requests |= changed

    def read(self) -> dict[str, Any]:
        return self.requests


class Lane(tune.Trainable):  # type: ignore[misc]  # Ray's classes are untyped
    """One set of Train workers; each Tune trial is one job, and `reset_config` takes the next
    without a new actor.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """What the lane itself holds besides its workers: Tune asks here last, and overwrites what
        a trial asked for before.
        """
        return tune.PlacementGroupFactory([config["request"]])

    def setup(self, config: dict[str, Any], settings: dict[str, Any]) -> None:
        self.settings = settings
        # Train would end a silent worker before the worker or this lane can say why.
        os.environ[WORKER_HEALTH_CHECK_TIMEOUT_S_ENV_VAR] = str(
            2 * SILENCE * settings["hang_seconds"]
        )
        self.store = Store(settings["store"])
        self.workers: WorkerGroup | None = None
        self.busy = threading.Lock()
        self.rest = threading.Timer(0.0, self._close)
        self.reset_config(config)

    def reset_config(self, config: dict[str, Any]) -> bool:
        self.job, self.shape = Job.from_json(config["job"]), WorkerResources(**config["shape"])
        return True

    def step(self) -> dict[str, Any]:
        self.rest.cancel()
        with self.busy:
            result = self._run()
        # Tune keeps a lane that it has no trial for; its place may be what another lane waits for.
        self.rest = threading.Timer(IDLE_SECONDS, self._rest)
        self.rest.daemon = True
        self.rest.start()
        return result

    def _rest(self) -> None:
        """In the timer's thread: the next trial waits for it, or it sees that trial at work and
        returns.
        """
        if self.busy.acquire(blocking=False):
            try:
                self._close()
            finally:
                self.busy.release()

    def _run(self) -> dict[str, Any]:
        try:
            state = run_to_the_end(
                self.job,
                self.store,
                self._attempt,
                self._emit,
                max_attempts=self.settings["max_attempts"],
                rank_batch=-(
                    -self.job.batch_size(self.settings["batch_size"]) // self.shape.workers
                ),
            )
        except StoreError as error:  # no trial's fault: the driver stops the run
            self._emit(StorageFailed(str(error)))
            return {"state": "pending", "done": True}
        return {"state": state.value, "done": True}

    def _attempt(self, job: Job) -> Outcome:
        workers, most = self.workers, self.settings["lane_trials"]
        if workers and (
            workers.shape != self.shape or workers.trials >= most or not workers.thread.is_alive()
        ):
            self._close()
        self.workers = self.workers or WorkerGroup(self.settings, self.shape)
        try:
            return self.workers.run(job, self._emit)
        except BaseException:
            self._close()
            raise

    def _emit(self, event: Event) -> None:
        self.settings["events"].put(replace(event, lane=os.getpid()))

    def _close(self) -> None:
        if self.workers is not None:
            self.workers.stop()
            self.workers = None

    def cleanup(self) -> None:
        self.rest.cancel()
        with self.busy:
            self._close()


class LiveTrials(FIFOScheduler):  # type: ignore[misc]
    """Starts the oldest trial that waits, and drops what Tune keeps of those that ended.

    Tune's own looks through all trials at every step, and each keeps its configuration and
    statistics of its metrics; in a study of thousands that is time and memory for what the result
    store knows.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live: set[Trial] = set()

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        live = set(tune_controller.get_live_trials())
        for trial in self.live - live:
            trial.config = {}
            trial.run_metadata.last_result = {}
            trial.run_metadata.metric_analysis = {}
            trial.run_metadata.metric_n_steps = {}
        self.live = live
        waiting = [trial for trial in live if trial.status == Trial.PENDING]
        return min(waiting, key=lambda trial: trial.trial_id, default=None)
