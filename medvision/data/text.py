"""Reads small text files (lists of cases or of patients, specs), however an editor has saved
them.
"""

from __future__ import annotations

import codecs
from pathlib import Path

from medvision.errors import DataError
from medvision.placeholders import HEAD, placeholder

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path) -> str:
    """A file's text: UTF-8, or what its byte order mark says, as Windows' tools write it.

    Raises:
        OSError, UnicodeDecodeError: it cannot be read.
        DataError: it is a placeholder for another file.
    """
    content = path.read_bytes()
    if instead := placeholder(content[:HEAD]):
        raise DataError(f"{path}: {instead}")
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    return content.decode(encoding)
