"""Files of a local folder, written whole or not at all."""

from __future__ import annotations

import os
import re
import uuid
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
    name = str(target.with_name(f".{target.name}.{uuid.uuid4().hex}"))
    try:
        with Path(name).open("xb") as file:  # with the rights that the umask gives, unlike mkstemp
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        place(name, target)
    finally:
        Path(name).unlink(missing_ok=True)


def is_half_written(name: str) -> bool:
    """Whether a file of this name is one that `write_local` had not put in its place yet."""
    return re.fullmatch(r"\..+\.[0-9a-f]{32}", name) is not None


def link(source: str, target: Path) -> None:
    """A hard link fails where its name is taken; a file system without them gets an exclusive
    open.
    """
    try:
        os.link(source, target)
    except OSError:  # an existing name raises this, too
        with target.open("xb") as file:
            file.write(Path(source).read_bytes())
