"""One driver per study: a lock that is recognised as stale when its process is gone or its lease ran out."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import psutil

from reports.store import Store

LEASE_SECONDS = 120.0
FILE = "lock.json"


class StudyLockedError(RuntimeError):
    """Another driver runs this study."""


@contextlib.contextmanager
def study_lock(store: Store, lease_seconds: float = LEASE_SECONDS) -> Iterator[str]:
    """Hold the study's lock, renewing its lease; gives the driver's token.

    Raises:
        StudyLockedError: a living driver holds it; the message names host and process.
    """
    held = store.read_json(FILE)
    if held and not is_stale(held, time.time(), lease_seconds):
        raise StudyLockedError(
            f"{store.uri} is being run by process {held['pid']} on {held['host']} since {held['since']}; wait for it, or "
            f"stop it first. If that machine is gone for good, the lock ends {lease_seconds:.0f} s after its last sign of life"
        )
    token = uuid.uuid4().hex[:12]
    mine = {
        "token": token,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_started": psutil.Process().create_time(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    store.write_json(FILE, mine | {"renewed": time.time()})
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(lease_seconds / 4):
            with contextlib.suppress(Exception):  # a short loss of the storage is not the end; the lease bridges it
                store.write_json(FILE, mine | {"renewed": time.time()})

    renewer = threading.Thread(target=renew, daemon=True)
    renewer.start()
    try:
        yield token
    finally:
        stop.set()
        renewer.join()
        with contextlib.suppress(Exception):
            if (store.read_json(FILE) or {}).get("token") == token:
                store.remove(FILE)


def is_stale(held: dict[str, Any], now: float, lease_seconds: float) -> bool:
    """Whether the lock's holder is gone: on this host by its process (id and start time), elsewhere by its lease."""
    if held["host"] == socket.gethostname():
        try:
            return abs(psutil.Process(held["pid"]).create_time() - held["process_started"]) > 1
        except psutil.NoSuchProcess:
            return True
    return now - float(held["renewed"]) > lease_seconds
