"""Text for LaTeX: what must be escaped, where it may break, and about how wide it is."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable

from reports.render.layout import Cell

_TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "−": "$-$",
    "×": r"$\times$",
    "∞": r"$\infty$",
    "–": "--",
    "…": r"\dots{}",
    "µ": r"$\mu$",
    "μ": r"$\mu$",
    "\N{FRACTION SLASH}": "/",
    "\n": " ",
}
_MINUS = re.compile(r"(?<![\w.)\]])-(?=\d)")  # of a number; not of a range, a date or an exponent
# How a figure of two widths is named, and one with a hash.
_TAKEN = re.compile(r"_page$|_column$|-[0-9a-f]{12}$")
_FILE = 120  # characters of a file's name that come from names of models
_LONGEST = 16  # characters of a word that are kept together where a text may break

# Of Computer Modern, in widths of a digit: wide and narrow letters and signs; others are about one.
_WIDTHS = {
    **dict.fromkeys("ijl.,:;'|![]", 0.56),
    **dict.fromkeys("frst()I- ", 0.72),
    **dict.fromkeys("bdhknpquvxy", 1.1),
    **dict.fromkeys("ABCDEFGHKLNOPQRTUVXYZ&", 1.48),
    **dict.fromkeys("mw+±−<>%=×≥≤", 1.62),
    **dict.fromkeys("MW∞", 2.0),
}
_BOLD = 1.16


def width_of(text: str, *, bold: bool = False) -> float:
    """About how wide a text is, in widths of a digit."""
    shown = _MINUS.sub("−", text)
    return sum(_WIDTHS.get(character, 1.0) for character in shown) * (_BOLD if bold else 1.0)


def tex(text: str) -> str:
    """Text for LaTeX; what pdflatex's default encoding lacks becomes its plain form, or `?`."""
    shown = _MINUS.sub("−", text)
    return "".join(_TEX.get(character) or _plain(character) for character in shown)


def breakable(text: str) -> str:
    """`tex` of a text whose long words (names, fingerprints) may break."""
    words = re.split(r"(\s+)", text)
    return "".join(tex(word) if len(word) <= _LONGEST else _pieces(word) for word in words)


def _pieces(word: str) -> str:
    """A long word that may break after signs, and every so many letters."""
    found = []
    for piece in re.split(r"(?<=[_/=,;:.\-])(?=\w)", word):
        found += [piece[start : start + _LONGEST] for start in range(0, len(piece), _LONGEST)]
    return r"\allowbreak{}".join(tex(piece) for piece in found)


def tex_cell(cell: Cell, *, wrap: bool = False) -> str:
    """A table's cell; in a column that wraps, with room to break."""
    body = breakable(cell.text) if wrap else tex(cell.text)
    if cell.best and cell.text:
        body = rf"\textbf{{{body}}}"
    body += "$^{*}$" if cell.star else ""
    body = f"{{}}{body}" if body.startswith(("[", "*")) else body  # no argument of the row before
    return rf"{{\raggedright {body}\par}}" if wrap else body


def slug(text: str) -> str:
    """A text as a part of a label: letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def file_part(*names: str, among: Iterable[str] = ()) -> str:
    """Names of models (or whatever a user chose) as a part of a file's name, for every file system
    and for LaTeX: letters, digits, `_` and `-`. Names that are such keep their form; others carry
    a hash of what they were, so that no two of them share a file.

    Args:
        names: one, or two that are compared.
        among: all names of their kind. One that differs from another in upper and lower case alone
            carries a hash, because many file systems take both for one.
    """
    joined = "_vs_".join(names)
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", joined)[:_FILE]
    twins = {other.lower() for other in among if other not in names}
    alike = any(name.lower() in twins for name in names) or (
        len({name.lower() for name in names}) < len(names)
    )
    taken = _TAKEN.search(joined) or any("_vs_" in name for name in names)
    if safe and safe == joined and not alike and not taken:
        return safe
    return f"{safe}-{hashlib.sha256(json.dumps(names).encode()).hexdigest()[:12]}"


def _plain(character: str) -> str:
    """A character by what it is made of (`½` of 1, a slash and 2), each part escaped in its turn:
    a full-width `%` is one to TeX, too.
    """
    if character.isascii():
        return character if character.isprintable() else " "
    parts = unicodedata.normalize("NFKD", character)
    plain = "".join(_TEX.get(part, part) for part in parts if part in _TEX or part.isascii())
    if unicodedata.decomposition(character).startswith("<super>") and plain:
        return rf"\textsuperscript{{{plain}}}"
    return plain or "?"
