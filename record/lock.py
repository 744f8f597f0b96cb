"""One driver per study: a lock that is recognised as stale when its process is gone or its lease
ran out.

The lock is made by an exclusive write, so that of two drivers that start at once one is refused.
Where that cannot be trusted (a stale lock that two may take over, an object store that may not know
conditional writes), it is read back after a moment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import psutil

from record import paths
from record.store import Store, StoreError
from record.stored import Stored, sealed

LEASE_SECONDS = 120.0
SETTLE_SECONDS = 1.0  # until everyone who saw the same stale lock has written theirs


class Lock(Stored):
    """lock.json: the driver that runs the study. `machine`: this start of it, `process_started`:
    seconds after that, `renewed`: seconds since 1970.
    """

    remedy: ClassVar[str] = "remove it when no driver runs, and run the study's command again"
    token: str
    host: str = ""
    machine: str = ""
    pid: int
    process_started: float
    since: str = ""
    renewed: float

    def now(self) -> Lock:
        """The same, with a new lease."""
        return self.model_copy(update={"renewed": time.time()})


class StudyLockedError(RuntimeError):
    """Another driver runs this study."""


@contextlib.contextmanager
def study_lock(store: Store, lease_seconds: float = LEASE_SECONDS) -> Iterator[str]:
    """Hold the study's lock, renewing its lease; gives the driver's token.

    A driver that finds its lock taken over, because it gave no sign of life for too long, is
    interrupted as by Ctrl-C.

    Raises:
        StudyLockedError: a living driver holds it, or has taken it over; the message names host and
            process.
    """
    token = uuid.uuid4().hex[:12]
    mine = Lock(
        token=token,
        host=socket.gethostname(),
        machine=machine(),
        pid=os.getpid(),
        process_started=seconds_up(os.getpid()),
        since=time.strftime("%Y-%m-%d %H:%M:%S"),
        renewed=time.time(),
    )
    _acquire(store, mine, lease_seconds)
    stop = threading.Event()
    usurpers: list[Lock] = []
    interruptible = threading.current_thread() is threading.main_thread()

    def renew() -> None:
        while not stop.wait(lease_seconds / 4):
            with contextlib.suppress(
                StoreError
            ):  # a short loss of the storage is not the end; the lease bridges it
                held = store.load(paths.LOCK, Lock)
                if held and held.token != token:
                    usurpers.append(held)
                    break
                store.save(paths.LOCK, mine.now())
        if usurpers and interruptible and not stop.is_set():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    renewer = threading.Thread(target=renew, daemon=True)
    renewer.start()
    try:
        yield token
    except KeyboardInterrupt:
        if usurpers:
            raise StudyLockedError(
                f"{store.uri} was taken over by {holder(usurpers[0])}, because this driver gave no "
                f"sign of life for more than {lease_seconds:.0f} s; it has stopped, and the other "
                "goes on with the study"
            ) from None
        raise
    finally:
        stop.set()
        renewer.join()
        with contextlib.suppress(StoreError):
            held = store.load(paths.LOCK, Lock)
            if held and held.token == token:
                store.remove(paths.LOCK)


def _acquire(store: Store, mine: Lock, lease_seconds: float) -> None:
    now = None
    while now is None:  # it is when the holder ends between this driver's try and its look
        held = store.load(paths.LOCK, Lock)
        if (
            held
            and is_stale(held, time.time(), lease_seconds)
            and store.load(paths.LOCK, Lock) == held
        ):
            store.remove(paths.LOCK)
        store.create(paths.LOCK, sealed(mine.now().to_json(), paths.LOCK))
        if held or not store.local:
            time.sleep(SETTLE_SECONDS)
        now = store.load(paths.LOCK, Lock)
    if now.token != mine.token:
        raise StudyLockedError(
            f"{store.uri} is being run by {holder(now)}; wait for it, or stop it first. If that "
            f"machine is gone for good, the lock ends {lease_seconds:.0f} s after its last sign of "
            "life"
        )


def living(store: Store, now: float) -> Lock | None:
    """The lock of the driver that runs a study now; None where none does."""
    held = store.load(paths.LOCK, Lock)
    return held if held and not is_stale(held, now, LEASE_SECONDS) else None


def holder(held: Lock) -> str:
    """The driver that a lock belongs to, in words."""
    return f"process {held.pid} on {held.host} since {held.since}"


def is_stale(held: Lock, now: float, lease_seconds: float) -> bool:
    """Whether the lock's holder is gone: on this machine by its process (id and start), elsewhere
    by its lease.
    """
    if held.machine == machine():
        try:
            return abs(seconds_up(held.pid) - held.process_started) > 2  # Linux rounds both
        except psutil.NoSuchProcess:
            return True
    return now - held.renewed > lease_seconds


def machine() -> str:
    """This start of this machine, and where its process ids hold: neither host names nor ids in
    containers are unique.
    """
    try:
        return (
            f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} "
            f"{os.readlink('/proc/self/ns/pid')}"
        )
    except OSError:  # not Linux
        return f"{uuid.getnode():x}"


def seconds_up(pid: int) -> float:
    """How long the machine was up when this process started; unlike the time of day, no correction
    of the clock moves it.

    Raises:
        psutil.NoSuchProcess: there is none.
    """
    return psutil.Process(pid).create_time() - psutil.boot_time()
