"""A second process works for a report of a large study: the same files, whatever becomes of it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from record.store import DamagedError, Store
from record.study import StoredStudy
from reports import beside
from reports.build import build_report
from reports.figures import printing
from reports.figures.canvas import new_figure
from tests.reports.studies import plan, rows, study


def files(store: Store) -> dict[str, bytes | None]:
    report = build_report(StoredStudy.opened(store))
    return {name: store.read(f"report/{name}") for name in report.files}


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[beside._Helper]:
    """The processes that are begun, for studies of any size."""
    processes: list[beside._Helper] = []

    class Known(beside._Helper):
        def __init__(self) -> None:
            super().__init__()
            processes.append(self)

    monkeypatch.setattr(beside, "LARGE", 0)
    monkeypatch.setattr(beside, "_Helper", Known)
    return processes


def test_a_report_is_the_same_with_and_without(
    tmp_path: Path, begun: list[beside._Helper], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = study(tmp_path, rows(), plan())
    helped = files(store)
    assert begun[0].process.poll() is not None  # it has ended with the report
    monkeypatch.setattr(beside, "LARGE", 10_000)
    assert files(store) == helped
    assert len(begun) == 1


def test_a_damaged_file_is_told_as_without(tmp_path: Path, begun: list[beside._Helper]) -> None:
    store = study(tmp_path, rows(), plan())
    opened = StoredStudy.opened(store)
    marker = next(iter(opened.finished.commits.values()))
    store.write(marker.files["history"], b"changed since it was looked at")
    with pytest.raises(DamagedError, match="history"):
        build_report(opened)
    assert len(begun) == 1


def test_the_other_process_does_what_it_is_given(begun: list[beside._Helper]) -> None:
    with beside.second_process(1):
        asked = beside.later(os.getpid)
        assert asked() == asked() == begun[0].process.pid
    assert beside.later(os.getpid)() == os.getpid()


@pytest.mark.usefixtures("begun")
def test_an_error_is_met_here_again() -> None:
    with beside.second_process(1):
        asked, after = beside.later(int, "no number"), beside.later(int, "2")
        with pytest.raises(ValueError, match="no number"):
            asked()
        assert after() == 2


def drawn(number: int) -> tuple[Any, Any]:
    drawing, axes = new_figure(2, 1)
    axes[0, 0].plot([0, number])
    return drawing, axes[0, 0]


@pytest.mark.usefixtures("begun")
def test_what_cannot_be_sent_is_done_here() -> None:
    def formatted(value: float, place: int | None) -> str:  # of no module, so not to be pickled
        return f"{value:.1f}"

    def with_formatter() -> Any:
        drawing, axis = drawn(1)
        axis.xaxis.set_major_formatter(formatted)
        return drawing

    figures = with_formatter, lambda: drawn(2)[0]
    here = [dict(printing.finish(figure(), "", "").files) for figure in figures]
    with beside.second_process(1):
        made = [printing.finish(figure(), "", "") for figure in figures]
        assert [dict(figure.files) for figure in made] == here


@pytest.mark.parametrize("after", [0, 1, 2])  # figures: none, the first, both are taken
def test_what_a_dead_process_owes_is_done_here(begun: list[beside._Helper], after: int) -> None:
    def finished(number: int) -> printing.Figure:
        return printing.finish(drawn(number)[0], f"figure {number}", "")

    here = [dict(finished(number).files) for number in range(2)]
    with beside.second_process(1):
        made = []
        for number in range(3):
            if number == after:
                begun[0].process.kill()
                begun[0].process.wait()
            if number < 2:
                made.append(finished(number))
        assert [dict(figure.files) for figure in made] == here


def test_a_report_that_fails_does_not_wait_for_it(begun: list[beside._Helper]) -> None:
    def report() -> None:
        with beside.second_process(1):
            beside.later(time.sleep, 3_600)
            raise KeyError

    with pytest.raises(KeyError):
        report()
    assert begun[0].process.returncode is not None
