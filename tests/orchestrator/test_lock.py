"""The study's lock: held by the living, given up by the dead."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from orchestrator.lock import StudyLockedError, is_stale, study_lock
from orchestrator.state import State, next_state
from reports.store import Store

HERE = {"host": socket.gethostname(), "pid": os.getpid(), "process_started": psutil.Process().create_time()}


def test_a_held_lock_refuses_and_a_released_one_is_gone(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with study_lock(store), pytest.raises(StudyLockedError, match=f"process {os.getpid()}"), study_lock(store):
        pass
    assert store.read_json("lock.json") is None


def test_the_lock_of_a_process_that_is_gone_is_taken_over(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    held = HERE | {"pid": int(dead.stdout), "renewed": time.time(), "since": "", "token": "old"}
    store.write_json("lock.json", held)
    with study_lock(store) as token:
        assert store.read_json("lock.json")["token"] == token


def test_staleness_is_told_by_process_here_and_by_lease_elsewhere() -> None:
    now = time.time()
    assert not is_stale(HERE | {"renewed": 0}, now, 60)
    assert is_stale(HERE | {"process_started": 1.0, "renewed": now}, now, 60)  # the number was given to another process
    elsewhere = {"host": "another", "pid": 1, "process_started": 0}
    assert not is_stale(elsewhere | {"renewed": now - 59}, now, 60)
    assert is_stale(elsewhere | {"renewed": now - 61}, now, 60)


def test_a_lease_is_renewed_while_it_is_held(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with study_lock(store, lease_seconds=0.2):
        first = store.read_json("lock.json")["renewed"]
        deadline = time.monotonic() + 20
        while store.read_json("lock.json")["renewed"] == first and time.monotonic() < deadline:
            time.sleep(0.05)
        assert store.read_json("lock.json")["renewed"] > first


@pytest.mark.parametrize(("failures", "state"), [(0, State.PENDING), (1, State.FAILED), (3, State.QUARANTINED)])
def test_failures_lead_from_pending_to_quarantine(failures: int, state: State) -> None:
    assert next_state([{"reason": "x"}] * failures, max_attempts=3) is state
