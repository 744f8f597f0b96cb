"""Names that people choose, of models, tasks, cases, structures and metrics: checked once, where
they come in, and written so that nothing in them acts, wherever they go.

This is the check, and what terminals and spreadsheets need; `reports.render` has HTML, LaTeX,
Markdown and names of files, `orchestrator.tracking.server` MLflow's keys.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator

LONGEST = 200  # characters of a name
# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE | re.ASCII)
# What a spreadsheet takes for the beginning of a formula (OWASP, "CSV Injection"), the wide forms
# of East Asian keyboards included; and such a text once it is quoted.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+\-]?(\d[\d,]*\.?\d*|\.\d+)([eE][+\-]?\d+)?%?|[+\-]?(inf|nan)")


def checked(name: str) -> str:
    """A name, as it is.

    Raises:
        ValueError: it is empty or too long, or holds what cannot be printed: control characters,
            marks that turn the direction of writing, spaces that are not seen.
    """
    if not name.strip():
        raise ValueError("a name is empty: write one")
    if not name.isprintable():
        raise ValueError(
            f"the name {name[:60]!r} holds a character that cannot be printed: leave it out"
        )
    if len(name) > LONGEST:
        raise ValueError(
            f"the name {name[:60]!r}... has {len(name)} characters: at most {LONGEST} are read"
        )
    return name


def checked_folder(name: str) -> str:
    """The name of a folder, as it is.

    Raises:
        ValueError: Windows, which a shared storage may be on, cannot have it.
    """
    if _DEVICE.match(name):
        raise ValueError(f"{name} is the name of a device on Windows: choose another")
    if name.endswith("."):
        raise ValueError(f"{name} ends in a dot, which Windows drops: leave it out")
    return name


Name = Annotated[str, AfterValidator(checked)]
NameOrNothing = Annotated[str, AfterValidator(lambda name: name and checked(name))]
FolderName = Annotated[str, AfterValidator(checked_folder)]


def visible(text: str) -> str:
    """A text for a terminal or a log: what would move the cursor, colour, or turn the direction of
    writing is written out (`\\x1b`, `\\u202e`). Lines and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if _shows(character) else _spelt(character) for character in text)


def _shows(character: str) -> bool:
    return character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs")


def _spelt(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def spreadsheet_text(text: str) -> str:
    """A text for a cell of a CSV file: one that a spreadsheet would take for a formula begins with
    `'`, which makes it a text. Numbers stay. `read_back` undoes it.
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def read_back(text: str) -> str:
    """What `spreadsheet_text` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
