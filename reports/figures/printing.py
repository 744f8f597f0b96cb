"""Figures as files, as vector (PDF) and PNG. Those of a large study, which take a quarter of its
report's time, are printed by the process beside the one that computes tables (`reports.beside`).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from reports.beside import later
from reports.figures.canvas import as_written
from reports.render.html import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

SUFFIXES = ("png", "pdf")


def finish(drawing: Drawing, name: str, caption: str, dpi: int = 150) -> Figure:
    """A figure with its files, which are waited for when they are asked for."""
    printed = _Printed(later(printed_files, drawing, dpi))
    return Figure(name, caption, printed, drawing.get_size_inches()[0])


class _Printed(Mapping[str, bytes]):
    """The files of a figure by suffix, as soon as they are printed."""

    def __init__(self, files: Callable[[], dict[str, bytes]]) -> None:
        self.files = files

    def __getitem__(self, suffix: str) -> bytes:
        return self.files()[suffix]

    def __iter__(self) -> Iterator[str]:
        return iter(SUFFIXES)

    def __len__(self) -> int:
        return len(SUFFIXES)


def printed_files(drawing: Drawing, dpi: int) -> dict[str, bytes]:
    """A drawing's files by suffix, without dates, so that the same results give the same bytes."""
    as_written(drawing)
    if layout := drawing.get_layout_engine():  # once, instead of for each file
        drawing.set_dpi(dpi)
        layout.execute(drawing)
        drawing.set_layout_engine("none")
    files = {}
    for suffix in SUFFIXES:
        buffer = io.BytesIO()
        drawing.savefig(
            buffer,
            format=suffix,
            dpi=dpi,
            metadata={"CreationDate": None} if suffix == "pdf" else None,
        )
        files[suffix] = buffer.getvalue()
    return files
