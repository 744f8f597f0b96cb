"""Work that goes on behind its caller, in another thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Behind(Generic[T]):
    """Calls in a thread of their own, one at a time and in their order, while the caller goes on.

    As if the caller had made them: each result is handed out once, and what a call raises is raised
    to the caller, before anything that came later, at the latest when the `with` block ends.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "behind")
        self._running: Future[T] | None = None

    def start(self, work: Callable[[], T]) -> T | None:
        """Begin with `work`; what the call before gave, which is waited for."""
        before = self.wait()
        self._running = self._pool.submit(work)
        return before

    def wait(self) -> T | None:
        """What the call under way gives; None where there is none."""
        running, self._running = self._running, None
        return running.result() if running else None

    def __enter__(self) -> Behind[T]:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.wait()
        finally:
            self._pool.shutdown()
