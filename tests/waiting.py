"""Tests wait for events, not for a while; at a barrier, trials wait for the test."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psutil
import pytest

ON_WORKERS = Path(__file__).with_name("on_workers")
PATIENCE_SECONDS = 600.0  # for what takes seconds; only a test that fails waits so long

Answer = TypeVar("Answer")


def wait_for(
    what: str,
    holds: Callable[[], Answer],
    seconds: float = PATIENCE_SECONDS,
    *,
    more: Callable[[], str] = lambda: "",
) -> Answer:
    """Ask again and again until the answer is true, and give it back.

    Args:
        what: names the event in the failure.
        holds: cheap to ask.
        seconds: after which the test fails.
        more: what else the failure shows, a log for example.
    """
    end = time.monotonic() + seconds
    while not (answer := holds()):
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s\n{more()}"
        time.sleep(0.1)
    return answer


@contextlib.contextmanager
def ended_at_last(process: subprocess.Popen[Any]) -> Iterator[subprocess.Popen[Any]]:
    """A process that ends with the block, and its descendants: a driver's own Ray, for example."""
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[Any]) -> None:
    """Kill a process with its descendants, if it still runs, and reap it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [psutil.Process(process.pid)]
        family += family[0].children(recursive=True)
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def on_workers(wrapper: str, **variables: str) -> dict[str, str]:
    """Environment of workers whose `medvision.training.loop.train` a module's `wrapped` replaces.

    Whoever has a PYTHONPATH already puts this one before it.

    Args:
        wrapper: a module in `tests/on_workers`, or anywhere on PYTHONPATH.
        variables: what that module reads.
    """
    from medvision.training.loop import train

    return {
        "PYTHONPATH": str(ON_WORKERS),
        "MEDVISION_TEST_TRAIN": train.__module__,
        "MEDVISION_TEST_WRAPPER": wrapper,
        **variables,
    }


def put(monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> None:
    """Give every process that is started after this what `on_workers` gave."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value, prepend=os.pathsep if name == "PYTHONPATH" else None)


class Waiting(NamedTuple):
    """A living process, rank 0 of a trial, that waits at a barrier after this epoch."""

    host: str
    pid: int
    epoch: int


class Barrier:
    """Trainings wait here, each in its own process, until the test lets them pass.

    Workers come to it that were started with `environment`, on any machine that sees the folder.
    One that is told to stop goes on; one that waits gives signs of life, so that it does not hang.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("waiting", "passes"):
            (folder / name).mkdir(parents=True)
        self.environment = on_workers("barrier", MEDVISION_TEST_BARRIER=str(folder))
        self._passes = 0

    def hold(self, first: int, last: int | None = None) -> None:
        """Hold whoever ends an epoch from `first` to `last`; 0 is before the first epoch.

        Args:
            first: an epoch.
            last: an epoch; without it, the same one.
        """
        new = self.folder / "holds.new"
        new.write_text(json.dumps([first, first if last is None else last]))
        new.rename(self.folder / "holds")

    def lift(self) -> None:
        """Let everybody pass, from now on."""
        (self.folder / "holds").unlink(missing_ok=True)

    def let_pass(self, host: str = "anyone") -> None:
        """Let one pass: who waits now or who comes next, on any machine or on one."""
        self._passes += 1
        (self.folder / "passes" / f"{host}.{self._passes}").touch()

    def passes(self) -> int:
        """How many passes nobody has used yet."""
        return len(list((self.folder / "passes").iterdir()))

    def waiting(self, host: str | None = None) -> list[Waiting]:
        """Who waits now, on any machine or on one."""
        found = [self._living(file) for file in (self.folder / "waiting").glob("[!.]*")]
        return [one for one in found if one is not None and host in (None, one.host)]

    def _living(self, file: Path) -> Waiting | None:
        """The process that holds a lock on this file; None when it has gone on, or is dead."""
        try:
            with file.open() as place:
                fcntl.flock(place, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
        except FileNotFoundError:
            return None
        except BlockingIOError:
            with contextlib.suppress(FileNotFoundError):
                return Waiting(**json.loads(file.read_text()))
        return None
