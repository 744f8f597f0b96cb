"""Work behind its caller: results and errors come in the order of the calls."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable

import pytest

from medvision.behind import Behind


def test_a_call_runs_while_the_caller_goes_on_and_results_keep_their_order() -> None:
    go_on, found = threading.Event(), []
    with Behind[int]() as behind:

        def first() -> int:
            assert go_on.wait(30)
            return 1

        found.append(behind.start(first))
        go_on.set()  # the caller came here while `first` waited
        found.append(behind.start(lambda: 2))
        found.append(behind.wait())
        found.append(behind.wait())
    assert found == [None, 1, 2, None]


def test_one_call_at_a_time_is_under_way() -> None:
    running, most = [0], [0]

    def work() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        running[0] -= 1

    with Behind[None]() as behind:
        for _ in range(50):
            behind.start(work)
    assert most == [1]


def test_as_many_calls_as_may_are_under_way_and_the_first_is_waited_for() -> None:
    together = threading.Barrier(3)
    found: list[int | None] = []

    def work(number: int) -> int:
        together.wait(30)  # three at once, or it breaks
        return number

    with Behind[int](3) as behind:
        found += [behind.start(functools.partial(work, number)) for number in range(6)]
        found += [behind.wait() for _ in range(3)]
    assert found == [None, None, None, 0, 1, 2, 3, 4, 5]


def failing(message: str) -> None:
    raise ValueError(message)


def test_an_error_is_raised_before_anything_later() -> None:
    started = []

    def call(own: Exception | None, *works: Callable[[], None]) -> None:
        with Behind[None]() as behind:
            for work in works:
                behind.start(work)
            if own:
                raise own

    def breaks() -> None:
        failing("first")

    with pytest.raises(ValueError, match="first"):
        call(None, breaks, lambda: started.append("second"))
    assert not started
    with pytest.raises(ValueError, match="first"):
        call(RuntimeError("of the caller, later"), breaks)
    with pytest.raises(RuntimeError, match="of the caller"):
        call(RuntimeError("of the caller"), lambda: started.append("done"))
    assert started == ["done"]  # what was begun ends before the caller goes on
