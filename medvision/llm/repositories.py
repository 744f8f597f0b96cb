"""Sets of named files that a checkpoint can lie in: the interface, and a folder on disk (the hub's
is in `hub`). No torch here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from medvision.llm.bytefile import ByteFile, LocalFile


class Repository(Protocol):
    """A flat set of named files, on disk or on the hub."""

    where: str
    names: tuple[str, ...]

    def open(self, name: str) -> ByteFile:
        """The file, to be read by ranges."""
        ...


class Folder:
    """A folder on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = str(path)
        # Dangling links stay: opening them says what they are.
        files = (entry for entry in path.iterdir() if entry.is_file() or entry.is_symlink())
        self.names = tuple(sorted(entry.name for entry in files if not entry.is_dir()))

    def open(self, name: str) -> ByteFile:
        """The file, to be read by ranges."""
        return LocalFile(self.path / name)
