"""Terminals that cannot show every character: what a command says comes out all the same."""

from __future__ import annotations

import codecs
import contextlib
import sys
import unicodedata

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
