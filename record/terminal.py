"""Terminals that cannot show every character: what a command prints gets through all the same."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import stat
import sys
import unicodedata
from typing import Any, TextIO

from record.names import visible

HANDLER = "medvision.plain"
_PLAIN = {
    "±": "+-",
    "×": "x",
    "≤": "<=",
    "≥": ">=",
    "∞": "inf",
    "−": "-",
    "–": "-",
    "—": "-",
    "…": "...",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
}


def plain_output() -> None:
    """Let stdout and stderr write what their encoding lacks in plain characters: a scheduler's log
    or `LC_ALL=C` knows ASCII only, and a table holds `±`. Every command calls this first.
    """
    codecs.register_error(HANDLER, _plain)
    for stream in (sys.stdout, sys.stderr):
        # A notebook's streams, and others that know no encoding, take everything.
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors=HANDLER)  # type: ignore[union-attr]


def patient_output() -> None:
    """Let stdout and stderr outlive their reader: `medvision run ... | head` shows what it was
    asked for, and the study goes on.

    Only of a process's own streams, where they are pipes; those of tests and notebooks stay.
    """
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        if isinstance(getattr(stream.buffer, "raw", None), _Pipe):
            continue
        with contextlib.suppress(OSError, ValueError):  # closed, or without a file
            if stream.fileno() != number or not stat.S_ISFIFO(os.fstat(number).st_mode):
                continue
            stream.flush()
            made = io.TextIOWrapper(
                io.BufferedWriter(_Pipe(number, "w", closefd=False)),
                stream.encoding,
                stream.errors,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, made)


class _Pipe(io.FileIO):
    """Forgets what nobody reads any more."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self.fileno())
            return len(data)


def say(*texts: object, file: TextIO | None = None, flush: bool = False) -> None:
    """Print texts of whatever origin: names, messages of libraries, what another program wrote.
    Control characters in them are seen, and do nothing (`record.names.visible`).

    Args:
        texts: joined by spaces.
        file: stdout without one.
        flush: at once.
    """
    print(*(visible(str(text)) for text in texts), file=file, flush=flush)


def plain(text: str) -> str:
    """Text in ASCII: signs as people type them, letters without accents, `?` for the rest."""
    return "".join(map(_ascii, text))


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return plain(error.object[error.start : error.end]), error.end


def _ascii(character: str) -> str:
    if character.isascii():
        return character
    found = _PLAIN.get(character)
    return (
        found or unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"
    )
