"""The study's lock: held by the living, given up by the dead."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.planning.retry import State, next_state
from record.lock import Lock, StudyLockedError, is_stale, machine, seconds_up, study_lock
from record.schema import Failure
from record.store import Store
from tests.waiting import PATIENCE_SECONDS, ended_at_last, wait_for

HERE = {
    "host": socket.gethostname(),
    "machine": machine(),
    "pid": os.getpid(),
    "process_started": seconds_up(os.getpid()),
    "token": "own",
}
OTHER = {
    "host": "another",
    "machine": "another",
    "pid": 1,
    "process_started": 0.0,
    "since": "then",
    "token": "successor",
}


def lock(values: dict[str, Any], **more: Any) -> Lock:
    return Lock.model_validate(values | more)


def test_a_held_lock_refuses_and_a_released_one_is_gone(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with (
        study_lock(store),
        pytest.raises(StudyLockedError, match=f"process {os.getpid()}"),
        study_lock(store),
    ):
        pass
    assert store.read_json("lock.json") is None


def test_the_lock_of_a_process_that_is_gone_is_taken_over(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    )
    held = HERE | {"pid": int(dead.stdout), "renewed": time.time(), "since": "", "token": "old"}
    store.write_json("lock.json", held)
    with study_lock(store) as token:
        assert store.read_json("lock.json")["token"] == token


def test_staleness_is_told_by_process_here_and_by_lease_elsewhere() -> None:
    now = time.time()
    assert not is_stale(lock(HERE, renewed=0), now, 60)
    assert is_stale(
        lock(HERE, process_started=-10.0, renewed=now), now, 60
    )  # its number went to another
    elsewhere = HERE | {"machine": "another of the same name"}
    assert not is_stale(lock(elsewhere, renewed=now - 59), now, 60)
    assert is_stale(lock(elsewhere, renewed=now - 61), now, 60)


def test_a_corrected_clock_makes_no_living_driver_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux tells when a process started by the time of day of the machine's start, which a
    correction of the clock moves.
    """
    before, now = psutil.Process().create_time(), psutil.boot_time() + 3600
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: now)
    assert psutil.Process().create_time() - before == pytest.approx(3600)
    assert not is_stale(lock(HERE, renewed=0), time.time(), 60)


def test_a_lease_is_renewed_while_it_is_held(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with study_lock(store, lease_seconds=0.2):
        first = store.read_json("lock.json")["renewed"]
        wait_for("a renewal", lambda: store.read_json("lock.json")["renewed"] > first)


def test_of_drivers_that_start_at_once_one_holds_the_lock(tmp_path: Path) -> None:
    """Each is a process, as in life: threads would share a process id, and starts that overlap are
    wanted.
    """
    code = f"""
import sys, time
from record.lock import Lock, StudyLockedError, study_lock
from record.store import Store
print("ready", flush=True)
sys.stdin.readline()
try:
    with study_lock(Store({str(tmp_path)!r})):
        print("held", flush=True)
        sys.stdin.readline()
except StudyLockedError:
    print("refused", flush=True)
"""
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with contextlib.ExitStack() as stack:
        drivers = [
            stack.enter_context(ended_at_last(subprocess.Popen(command, **pipes))) for _ in range(4)
        ]
        for expected in (["ready"] * 4, ["held", "refused", "refused", "refused"]):
            told = [driver.stdout.readline().strip() for driver in drivers]
            assert sorted(told) == expected
            for driver, word in zip(drivers, told, strict=True):
                if word != "refused":  # who was refused ends by itself
                    driver.stdin.write("\n")
                    driver.stdin.flush()
        assert [driver.wait(PATIENCE_SECONDS) for driver in drivers] == [0] * 4
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("first", ["reads", "is stale"])
def test_a_lock_that_is_written_between_reading_and_writing_refuses(
    first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another driver takes the lock right after this one has seen none, or a stale one."""
    monkeypatch.setattr("record.lock.SETTLE_SECONDS", 0.0)
    store = Store(str(tmp_path))
    if first == "is stale":
        store.write_json("lock.json", OTHER | {"renewed": 0.0})
    create = Store.create

    def overtaken(self: Store, relative: str, content: bytes) -> bool:
        store.write_json("lock.json", OTHER | {"renewed": time.time()})
        return create(self, relative, content)

    monkeypatch.setattr(Store, "create", overtaken)
    with pytest.raises(StudyLockedError, match="process 1 on another"), study_lock(store):
        pytest.fail("two drivers")
    assert store.read_json("lock.json")["host"] == "another"


def test_a_holder_that_ends_while_another_looks_leaves_it_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, create, tries = Store(str(tmp_path)), Store.create, []

    def ending(self: Store, relative: str, content: bytes) -> bool:
        tries.append(relative)
        return (
            False if len(tries) == 1 else create(self, relative, content)
        )  # it was there, and is gone at the next look

    monkeypatch.setattr(Store, "create", ending)
    with study_lock(store) as token:
        assert store.read_json("lock.json")["token"] == token
    assert len(tries) == 2


def test_a_stale_lock_that_another_has_renewed_meanwhile_is_left_to_him(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))
    store.write_json("lock.json", OTHER | {"renewed": 0.0})

    def slow(held: Lock, now: float, lease_seconds: float) -> bool:
        stale = is_stale(held, now, lease_seconds)
        store.write_json("lock.json", OTHER | {"since": "now", "renewed": time.time()})
        return stale

    monkeypatch.setattr("record.lock.is_stale", slow)
    monkeypatch.setattr("record.lock.SETTLE_SECONDS", 0.0)
    with pytest.raises(StudyLockedError, match="process 1 on another"), study_lock(store):
        pytest.fail("two drivers")
    assert store.read_json("lock.json")["since"] == "now"


def test_a_driver_whose_lock_was_taken_over_stops_and_leaves_it_alone(tmp_path: Path) -> None:
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell in the background has it ignored
    store = Store(str(tmp_path))
    successor = OTHER | {"renewed": time.time()}

    def run() -> None:
        with study_lock(store, lease_seconds=0.4):
            store.write_json("lock.json", successor)
            time.sleep(PATIENCE_SECONDS)  # ends with the interrupt
            pytest.fail("was not interrupted")

    try:
        with pytest.raises(
            StudyLockedError, match="was taken over by process 1 on another since then"
        ):
            run()
    finally:
        signal.signal(signal.SIGINT, before)
    assert store.read_json("lock.json") == successor


def test_a_file_is_created_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, store in enumerate((Store(str(tmp_path)), Store("memory://create"))):
        assert store.create("a/b", b"1")
        assert not store.create("a/b", b"2")
        assert store.read("a/b") == b"1", number
        store.remove("a")
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no hard links here")))
    store = Store(str(tmp_path))
    assert store.create("a/b", b"1")
    assert not store.create("a/b", b"2")
    assert os.listdir(tmp_path / "a") == ["b"]


def test_a_storage_without_conditional_writes_gets_a_plain_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store("memory://plain")
    plain = store.filesystem.pipe_file

    def pipe_file(path: str, value: bytes, mode: str = "overwrite") -> None:
        if mode == "create":
            raise NotImplementedError("501")
        plain(path, value)

    monkeypatch.setattr(store.filesystem, "pipe_file", pipe_file)
    assert store.create("lock.json", b"1")
    assert not store.create("lock.json", b"2")
    assert store.read("lock.json") == b"1"
    store.remove("lock.json")


@pytest.mark.parametrize(
    ("failures", "state"), [(0, State.PENDING), (1, State.FAILED), (3, State.QUARANTINED)]
)
def test_failures_lead_from_pending_to_quarantine(failures: int, state: State) -> None:
    assert next_state([Failure(reason="x")] * failures, max_attempts=3) is state


def test_s3_creates_a_file_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "ENDPOINT_URL": f"http://{host}:{port}",
        "DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"AWS_{name}", "testing")
    try:
        boto3.client("s3").create_bucket(Bucket="locks")
        store = Store("s3://locks/study")
        monkeypatch.setattr(
            store.filesystem,
            "exists",
            lambda *_: pytest.fail("S3 itself refuses, nobody looks first"),
        )
        assert store.create("lock.json", b"1")
        assert not store.create("lock.json", b"2")
        assert store.read("lock.json") == b"1"
    finally:
        store.filesystem.clear_instance_cache()
        server.stop()
