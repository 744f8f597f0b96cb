"""A lane and its worker processes: how they start, and what they say before they die."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ray.exceptions import ActorDiedError, OutOfMemoryError

from orchestrator.executors.base import AttemptFailed, AttemptInterrupted
from orchestrator.executors.lanes import lane as lanes
from orchestrator.executors.lanes import worker_group
from orchestrator.executors.lanes.worker import take
from orchestrator.executors.lanes.worker_group import WorkerGroup
from orchestrator.spec.resources import WorkerResources
from record.events import AttemptStopped, Event, RankReady
from record.store import StoreError
from tests.orchestrator.executors.test_execution import EPOCH, JOB
from tests.waiting import PATIENCE_SECONDS


def workers(hang_seconds: float = 1800.0, **death: Any) -> WorkerGroup:
    """One worker that has died, without Ray."""
    found = object.__new__(WorkerGroup)
    found.shape, found.hang_seconds, found.ready, found.ranks = (
        WorkerResources(),
        hang_seconds,
        True,
        {},
    )
    found.thread, found.outbox = threading.Thread(), None  # type: ignore[assignment]
    found.death = type("WorkerGroupError", (RuntimeError,), death)("the group died")
    return found


def test_what_workers_raise_before_their_first_trial_is_told_and_is_no_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_group, "next_event", lambda *_, **__: None)
    new = workers(worker_failures={0: ImportError("no module named medvision")})
    new.ready = False
    failure = new._failure([], deque(), 0, 3.0)
    assert isinstance(failure, AttemptFailed)
    assert (failure.kind, str(failure)) == (
        "exception",
        "the workers did not start: no module named medvision",
    )
    assert "ImportError" in failure.details


def test_what_train_wraps_is_told_by_what_ended_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    def failure(ended_by: Exception) -> AttemptFailed | StoreError:
        wrapped = WorkerHealthCheckFailedError("A worker health check failed.", failure=ended_by)
        return workers(worker_failures={0: wrapped})._failure([], deque(), 2, 3.0)

    monkeypatch.setattr(worker_group, "next_event", lambda *_, **__: None)
    for ended_by, kind in ((ActorDiedError(), "lost"), (OutOfMemoryError("killed"), "memory")):
        found = failure(ended_by)
        assert isinstance(found, AttemptFailed)
        assert (found.kind, found.epoch) == (kind, 2)


def test_a_lane_without_a_trial_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step ends with a timer, which the next step stops; here it rings when the test says."""

    class Timer:
        rings: list[Timer] = []

        def __init__(self, seconds: float, ring: Callable[[], None]) -> None:
            self.seconds, self.ring, self.started = seconds, ring, False

        def start(self) -> None:
            self.rings.append(self)

        def cancel(self) -> None:
            if self in self.rings:
                self.rings.remove(self)

    monkeypatch.setattr(lanes, "threading", SimpleNamespace(Timer=Timer))
    lane, closed = object.__new__(lanes.Lane), threading.Event()
    lane.busy, lane.rest = threading.Lock(), Timer(0.0, closed.set)  # type: ignore[assignment]
    monkeypatch.setattr(lane, "_close", closed.set)
    early: list[Timer] = []

    def run() -> dict[str, Any]:
        assert not Timer.rings
        for timer in early:  # one that was not stopped in time finds the lane at work
            timer.ring()
        assert not closed.is_set()
        return {"done": True}

    monkeypatch.setattr(lane, "_run", run)
    assert lane.step() == {"done": True}
    early += Timer.rings
    assert lane.step() == {"done": True}
    (timer,) = Timer.rings
    assert timer.seconds == lanes.IDLE_SECONDS
    timer.ring()
    assert closed.is_set()
    assert not lane.busy.locked()


@pytest.mark.parametrize(("silent", "kind"), [(3.0, "lost"), (100.0, "hang")])
def test_a_worker_that_was_silent_before_it_was_gone_did_hang(
    silent: float, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_group, "next_event", lambda *_, **__: None)
    monkeypatch.setattr(worker_group, "_last_stderr", lambda rank: f"stacks of rank {rank.rank}")
    dead = workers(hang_seconds=40.0)
    dead.ranks = {0: RankReady(0, None, "n", os.getpid(), "")}
    failure = dead._failure([], deque(), 2, silent)
    assert isinstance(failure, AttemptFailed)
    assert (failure.kind, failure.epoch) == (kind, 2)
    assert ("stacks of rank 0" in failure.details) == (kind == "hang")


def test_a_lane_asks_the_driver_while_its_workers_report_without_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_group, "POLL_SECONDS", 0.2)
    busy = workers()
    busy.trials, busy.inbox, busy.outbox = 0, queue.Queue(), queue.Queue()  # type: ignore[assignment]
    busy._control = lambda: {"stop": True, "draining": []}  # type: ignore[method-assign]
    end = time.monotonic() + PATIENCE_SECONDS

    class Worker:
        """Reports an epoch whenever it is asked, until it is asked to stop."""

        def get(self, timeout: float) -> Event:
            received = [busy.inbox.get_nowait() for _ in range(busy.inbox.qsize())]
            if "interrupt" in received or time.monotonic() > end:
                return AttemptStopped()
            return EPOCH

    busy.outbox = Worker()  # type: ignore[assignment]
    with pytest.raises(AttemptInterrupted) as interrupted:
        busy.run(JOB, lambda event: None)
    assert interrupted.value.final
    assert time.monotonic() < end


@pytest.mark.parametrize(
    ("device", "share", "expected"),
    [
        ("cuda:1", 0.25, [("device", "cuda:1"), ("share", 0.25)]),
        ("cuda:0", 1.0, [("device", "cuda:0")]),
        ("cpu", 0.0, []),
    ],
)
def test_a_worker_keeps_to_its_share_of_a_gpus_memory(
    device: str, share: float, expected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Any] = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda one: said.append(("device", str(one))))
    monkeypatch.setattr(
        torch.cuda,
        "set_per_process_memory_fraction",
        lambda given, one: said.append(("share", given)),
    )
    take(torch.device(device), share)
    assert said == expected
