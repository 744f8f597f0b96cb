"""Figures as files, as vector (PDF) and PNG. Those of a large study are printed by a process beside
the one that computes its tables: they take a quarter of such a report's time.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from pickle import PicklingError
from typing import TYPE_CHECKING

from reports.figures.canvas import as_written, import_matplotlib
from reports.render.html import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

SUFFIXES = ("png", "pdf")
LARGE = 1_000  # trials, from which a second process (about a second of its own) saves time
_beside: ContextVar[_Printer | None] = ContextVar("beside", default=None)


def finish(drawing: Drawing, name: str, caption: str, dpi: int = 150) -> Figure:
    """A figure with its files; inside `printed_beside` they are there when they are asked for."""
    printer = _beside.get()
    files = printer.take(drawing, dpi) if printer else _saved(drawing, dpi)
    return Figure(name, caption, files, drawing.get_size_inches()[0])


@contextmanager
def printed_beside(trials: int) -> Iterator[None]:
    """Figures that are finished inside are printed by another process, where the study has so many
    trials; their files can be read until the end.
    """
    if trials < LARGE:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        printer = _Printer(Path(folder))
        token = _beside.set(printer)
        try:
            yield
        finally:
            _beside.reset(token)
            printer.wait()


class _Printer:
    """The other process: takes figures through a pipe, leaves files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.taken = folder, 0
        there, self.entrance = Pipe(duplex=False)
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from reports.figures import printing; printing.serve()",
                folder,
                str(there.fileno()),
            ],
            pass_fds=[there.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        there.close()  # so that writing fails, and does not wait, once the process has ended

    def take(self, drawing: Drawing, dpi: int) -> Mapping[str, bytes]:
        """Have a figure printed, or print it here where it cannot be sent or the process has
        ended.
        """
        try:
            self.entrance.send((drawing, dpi))
        except (PicklingError, AttributeError, TypeError, OSError, ValueError):
            return _saved(drawing, dpi)
        self.taken += 1
        return _Taken(self, self.taken - 1, drawing, dpi)

    def wait(self) -> None:
        """Until every figure is printed, or the process is dead."""
        self.entrance.close()
        self.process.wait()


class _Taken(Mapping[str, bytes]):
    """The files of a figure that the other process has; printed here if it died before."""

    def __init__(self, printer: _Printer, number: int, drawing: Drawing, dpi: int) -> None:
        self.printer, self.number, self.drawing, self.dpi = printer, number, drawing, dpi

    def __getitem__(self, suffix: str) -> bytes:
        self.printer.wait()
        place = self.printer.folder / str(self.number)
        if not place.is_dir():
            return _saved(self.drawing, self.dpi)[suffix]
        return (place / suffix).read_bytes()

    def __iter__(self) -> Iterator[str]:
        return iter(SUFFIXES)

    def __len__(self) -> int:
        return len(SUFFIXES)


def _saved(drawing: Drawing, dpi: int) -> dict[str, bytes]:
    """Files without dates, so that the same results give the same bytes."""
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


def serve() -> None:
    """Print the figures that come through the pipe, each into a folder that appears whole."""
    import_matplotlib()
    folder, number = Path(sys.argv[1]), 0
    entrance = Connection(int(sys.argv[2]), writable=False)
    while True:
        try:
            drawing, dpi = entrance.recv()
        except EOFError:
            return
        begun = folder / f"{number}.begun"
        begun.mkdir()
        for suffix, content in _saved(drawing, dpi).items():
            (begun / suffix).write_bytes(content)
        begun.rename(folder / str(number))
        number += 1
