"""A thread of the driver that listens to the lanes and looks after the cluster while Tune runs
trials.
"""

from __future__ import annotations

import _thread
import contextlib
import logging
import threading
import time
from typing import Any

import psutil
import ray
from ray.util.queue import Queue

from orchestrator.executors.base import ClusterError
from orchestrator.executors.lanes.placement_groups import LOOK_SECONDS, OrphanedGroups
from orchestrator.executors.lanes.worker_group import POLL_SECONDS, STOP_SECONDS, next_event
from record.events import Emit, Event, Stopping

ASK_SECONDS = 5.0  # how often the cluster is asked which machines will go


class Watcher:
    """A thread of the driver: passes on the lanes' events and that the run stops, and informs the
    lanes which machines will go.

    It also gives back what dead lanes left taken, and ends the run with a ClusterError when Ray on
    the driver's own machine is gone.
    """

    def __init__(self, events: Queue, emit: Emit, control: Any, stopping: threading.Event) -> None:
        self.events, self.emit, self.control, self.stopping = events, emit, control, stopping
        self.stopping_shown = self.failed = False
        self.ended = threading.Event()
        self.draining: list[str] = []
        self.lost, self.raylet = "", _raylet_here()
        self.orphans = OrphanedGroups()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.ended.set()
        if self.lost:
            raise ClusterError(self.lost)
        if kind is None:  # otherwise it ends at once: the next run looks after what is left
            self.thread.join(STOP_SECONDS)
            self._sweep(last=True)

    def _watch(self) -> None:
        try:
            self._rounds()
        except (
            ray.exceptions.RayError
        ) as error:  # the events' actor lives on this machine, and nothing kills it
            if not self.ended.is_set():
                self._give_up(str(error).strip().splitlines()[0])

    def _give_up(self, reason: str) -> None:
        """End the run: Tune would wait for lanes that cannot come, until Ray silently ends this
        process.
        """
        gone = self.raylet is not None and not _lives(self.raylet)
        what = (
            "Ray ended on the driver's machine"
            if gone
            else "the process that lanes report to was lost"
        )
        self.lost = (
            f"{what} ({reason}). See that Ray runs here and has memory, and run the same command "
            "again"
        )
        self.stopping.set()
        _thread.interrupt_main()

    def _rounds(self) -> None:
        drained_at = swept_at = time.monotonic()
        while True:
            last_round = self.ended.is_set()
            if self.stopping.is_set() and not self.stopping_shown:
                self.stopping_shown = True
                self._hand_on(Stopping())
            event = next_event(self.events, POLL_SECONDS / 2)
            if event is not None:
                self._hand_on(event)
            elif last_round:
                return None
            if time.monotonic() - drained_at > ASK_SECONDS:
                drained_at = time.monotonic()
                self._hand_on_draining()
                if self.raylet is not None and not _lives(self.raylet):
                    return self._give_up("its raylet is gone")
            if time.monotonic() - swept_at > LOOK_SECONDS:
                swept_at = time.monotonic()
                self._sweep()

    def _sweep(self, *, last: bool = False) -> None:
        if not ray.is_initialized():  # Ray's functions would start another one
            return
        with contextlib.suppress(
            Exception
        ):  # without an answer from Ray's dashboard they are looked for later
            for placement_group in self.orphans.sweep(last=last):
                logging.getLogger(__name__).warning(
                    "gave back placement group %s, which a dead lane had left", placement_group
                )

    def _hand_on(self, event: Event) -> None:
        """Whatever a listener does (a closed pipe, a full disk), this thread lives: the lanes
        depend on it.
        """
        try:
            self.emit(event)
        except Exception as error:
            if not self.failed:
                logging.getLogger(__name__).exception(
                    "events of the lanes can no longer be shown completely: %s", error
                )
            self.failed = True

    def _hand_on_draining(self) -> None:
        with contextlib.suppress(
            Exception
        ):  # Ray Train asks in the same way; without an answer, the machine counts as lost
            draining = sorted(ray._private.state.state.get_draining_nodes())
            if draining != self.draining:
                self.draining = draining
                self.control.request.remote(draining=draining)


def _raylet_here() -> psutil.Process | None:
    """The process of the Ray node that this driver is connected to, where it is to be found."""
    node = f"--node_id={ray.get_runtime_context().get_node_id()}"
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if node in process.cmdline() and "raylet" in process.name():
                return process
    return None


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
