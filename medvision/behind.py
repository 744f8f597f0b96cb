"""Work that goes on behind its caller, in other threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Behind(Generic[T]):
    """Calls in threads of their own, in their order, while the caller goes on.

    As if the caller had made them: each result is handed out once, in the order of the calls, and
    what a call raises is raised to the caller, before what any later one gives, at the latest when
    the `with` block ends.

    Args:
        at_once: how many calls may be under way.
    """

    def __init__(self, at_once: int = 1) -> None:
        self._pool = ThreadPoolExecutor(at_once, "behind")
        self._at_once, self._running = at_once, deque[Future[T]]()

    def start(self, work: Callable[[], T]) -> T | None:
        """Begin with `work`; where as many calls as may are under way, the first of them is waited
        for, and what it gives is returned.
        """
        before = self.wait() if len(self._running) == self._at_once else None
        self._running.append(self._pool.submit(work))
        return before

    def wait(self) -> T | None:
        """What the first of the calls under way gives; None where there is none."""
        return self._running.popleft().result() if self._running else None

    def __enter__(self) -> Behind[T]:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            while self._running:
                self.wait()
        finally:
            self._pool.shutdown()
