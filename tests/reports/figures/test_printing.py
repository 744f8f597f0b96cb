"""A second process prints the figures of a large study: the same files, whatever becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from record.store import Store
from record.study import StoredStudy
from reports.build import build_report
from reports.figures import printing
from reports.figures.canvas import new_figure
from tests.reports.studies import plan, rows, study


def files(store: Store) -> dict[str, bytes | None]:
    report = build_report(StoredStudy.opened(store))
    return {name: store.read(f"report/{name}") for name in report.files}


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[printing._Printer]:
    """The processes that are begun, for studies of any size."""
    processes: list[printing._Printer] = []

    class Known(printing._Printer):
        def __init__(self, folder: Path) -> None:
            super().__init__(folder)
            processes.append(self)

    monkeypatch.setattr(printing, "LARGE", 0)
    monkeypatch.setattr(printing, "_Printer", Known)
    return processes


def test_a_report_is_the_same_whoever_prints_its_figures(
    tmp_path: Path, begun: list[printing._Printer], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = study(tmp_path, rows(), plan())
    beside = files(store)
    assert begun[0].process.returncode == 0
    assert not begun[0].folder.exists()
    monkeypatch.setattr(printing, "LARGE", 10_000)
    assert files(store) == beside
    assert len(begun) == 1


def drawn(number: int) -> tuple[Any, Any]:
    drawing, axes = new_figure(2, 1)
    axes[0, 0].plot([0, number])
    return drawing, axes[0, 0]


@pytest.mark.usefixtures("begun")
def test_figures_are_printed_here_where_they_cannot_be_sent() -> None:
    def formatted(value: float, place: int | None) -> str:  # of no module, so not to be pickled
        return f"{value:.1f}"

    def with_formatter() -> Any:
        drawing, axis = drawn(1)
        axis.xaxis.set_major_formatter(formatted)
        return drawing

    figures = with_formatter, lambda: drawn(2)[0], lambda: drawn(3)[0]
    here = [printing.finish(figure(), "", "").files for figure in figures]
    with printing.printed_beside(1):
        made = [dict(printing.finish(figure(), "", "").files) for figure in figures[:2]]
        made.append(dict(printing.finish(figures[2](), "", "").files))  # it has ended, as asked for
    assert made == here


@pytest.mark.parametrize("after", [0, 1, 2])  # figures: none, the first, both are taken
def test_figures_are_printed_here_when_the_process_dies(
    begun: list[printing._Printer], after: int
) -> None:
    def finished(number: int) -> printing.Figure:
        return printing.finish(drawn(number)[0], f"figure {number}", "")

    here = [finished(number).files for number in range(2)]
    with printing.printed_beside(1):
        made = []
        for number in range(3):
            if number == after:
                begun[0].process.kill()
                begun[0].process.wait()
            if number < 2:
                made.append(finished(number))
        assert [dict(figure.files) for figure in made] == here
