"""Files of a local folder, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_local(
    target: Path, content: bytes, place: Callable[[str, Path], None] = os.replace
) -> None:
    """Write a file beside its place and put it there, by default over the old one.

    Raises:
        OSError: nothing half-written is left.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        place(name, target)
    finally:
        Path(name).unlink(missing_ok=True)


def link(source: str, target: Path) -> None:
    """A hard link fails where its name is taken; a file system without them gets an exclusive
    open.
    """
    try:
        os.link(source, target)
    except OSError:  # also of a taken name, where this fails, too
        with target.open("xb") as file:
            file.write(Path(source).read_bytes())
