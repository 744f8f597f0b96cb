"""A second process that takes work from the one that builds a report of a large study, which then
takes two thirds of the time. It is given functions of this package and values, through a pipe of
its own, and whatever becomes of it the report is the same: what it does not do is done here.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pickle import PicklingError
from threading import Thread
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
LARGE = 1_000  # trials, from which a second process (two seconds of its own) saves time
_helper: ContextVar[_Helper | None] = ContextVar("helper", default=None)


@contextmanager
def second_process(trials: int) -> Iterator[None]:
    """Work that is named inside (`later`) is another process's, where the study has so many trials;
    results can be asked for until the end.
    """
    if trials < LARGE:
        yield
        return
    helper = _Helper()
    token = _helper.set(helper)
    try:
        yield
    finally:
        _helper.reset(token)
        helper.end()


def later(work: Callable[P, T], *given: P.args, **named: P.kwargs) -> Callable[[], T]:
    """A function that returns what `work` does, and waits for it where it is not done yet.

    Inside `second_process` the other process works while this one goes on; elsewhere it is done at
    once. What the other one cannot do is done here when it is asked for, so that errors are those
    of `work`.

    Args:
        work: a function of a module, which changes nothing.
        given, named: its arguments, copied.
    """
    here = functools.partial(work, *given, **named)
    helper = _helper.get()
    asked = helper.ask(here) if helper else None
    if asked is None:
        made = here()
        return lambda: made

    @functools.cache
    def result() -> T:
        done, value = asked.result()
        return value if done else here()

    return result


class _Helper:
    """The other process, and the answers that it owes, in the order of the questions."""

    def __init__(self) -> None:
        theirs, self.questions = Pipe(duplex=False)
        self.answers, ours = Pipe(duplex=False)
        handles = [theirs.fileno(), ours.fileno()]
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from reports import beside; beside.serve()",
                *map(str, handles),
            ],
            pass_fds=handles,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ
            | {
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "MPLBACKEND": "agg",  # a notebook's is not there
            },
        )
        for handle in (theirs, ours):
            handle.close()  # so that both ends learn of the other's end
        self.owed: deque[Future[tuple[bool, Any]]] = deque()
        self.reader = Thread(target=self._read, daemon=True)
        self.reader.start()

    def ask(self, work: Callable[[], Any]) -> Future[tuple[bool, Any]] | None:
        """Whether it was done, and what came of it; None where it cannot be sent."""
        asked: Future[tuple[bool, Any]] = Future()
        self.owed.append(asked)  # before its answer can come
        try:
            self.questions.send(work)
        except (PicklingError, AttributeError, TypeError, OSError, ValueError):
            with suppress(ValueError):  # the reader has given it up
                self.owed.remove(asked)
            return None
        return asked

    def end(self) -> None:
        """Nothing more is wanted of it."""
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.questions.close()
        self.answers.close()

    def _read(self) -> None:
        """Answers as they come, so that the other process never waits; at its end, or after an
        answer that cannot be read, all that it owes is given up.
        """
        with suppress(Exception):
            while True:
                answer = self.answers.recv()
                self.owed.popleft().set_result(answer)
        self.process.kill()  # before that, so that nothing more can be asked
        self.process.wait()
        while self.owed:
            self.owed.popleft().set_result((False, None))


def serve() -> None:
    """Do what comes through the one pipe and answer through the other."""
    questions, answers = (Connection(int(handle)) for handle in sys.argv[1:3])
    while True:
        try:
            work = questions.recv()
        except EOFError:
            return
        try:
            answer = True, work()
        except Exception:  # the other process meets it too, and says it
            answer = False, None
        answers.send(answer)
