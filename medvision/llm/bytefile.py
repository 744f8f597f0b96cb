"""Files read by byte range, so that one layer costs one layer's bytes. No torch here."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Protocol

from medvision.llm.errors import BlockError
from medvision.placeholders import HEAD, placeholder


class ByteFile(Protocol):
    """A file whose bytes can be read from anywhere: on disk, or behind HTTP."""

    name: str
    size: int

    def read(self, offset: int, length: int) -> bytearray:
        """Exactly `length` bytes from `offset`; BlockError where the file ends before."""
        ...

    def local(self) -> Path:
        """The whole file on this machine, downloaded if need be."""
        ...


def check_range(file: ByteFile, offset: int, length: int) -> None:
    """Refuse a range that leaves the file.

    Raises:
        BlockError: the file is shorter than its own table of contents says.
    """
    if offset < 0 or length < 0 or offset + length > file.size:
        raise BlockError(
            f"{file.name}: bytes {offset} to {offset + length} are asked for, but the file ends at "
            f"{file.size}; it is truncated or no checkpoint: copy or download it again"
        )


# First bytes of files that come under a wrong ending.
_KINDS = (
    (b"GGUF", "a GGUF file"),
    (b"PK\x03\x04", "a zip archive, as torch.save writes"),
    (b"\x80\x02", "a pickle, as torch.save wrote before PyTorch 1.6"),
    (b"\x89HDF", "an HDF5 file, as Keras writes"),
    (b"\x93NUMPY", "a NumPy file"),
    (b"\x1f\x8b", "a gzip file"),
)


def other_kind(file: ByteFile, *expected: bytes) -> str:
    """What to add to `is no such file`: `; by its first bytes it is a GGUF file`, where that is
    known and none of the `expected` beginnings.
    """
    head = bytes(file.read(0, min(file.size, 9)))
    kinds = [name for magic, name in _KINDS if magic not in expected and head.startswith(magic)]
    if head[8:] == b"{" not in expected and int.from_bytes(head[:8], "little") < file.size:
        kinds = ["a safetensors file"]
    return f"; by its first bytes it is {kinds[0]}" if kinds else ""


def unreadable(path: Path, error: OSError) -> str:
    """What to say of a file that cannot be opened; links into git-annex or a cache often dangle."""
    if path.is_symlink() and not path.exists():
        return (
            f"{path} is a link to {path.readlink()}, which is not there: run `git annex get` or "
            "`datalad get` where it is one of git-annex, or copy or download it again"
        )
    return f"{path} cannot be read: {error}"


class LocalFile:
    """A file on disk. It is not mapped into memory, so nothing that was read stays there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        try:
            self.size = path.stat().st_size
            with path.open("rb") as file:
                head = file.read(HEAD)
        except OSError as error:
            raise BlockError(unreadable(path, error)) from error
        if instead := placeholder(head):
            raise BlockError(f"{path} {instead}")

    def read(self, offset: int, length: int) -> bytearray:
        """Exactly `length` bytes from `offset`.

        Raises:
            BlockError: the range leaves the file, or the disk fails.
        """
        check_range(self, offset, length)
        buffer = bytearray(length)
        view, done = memoryview(buffer), 0
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(offset)
                while done < length and (got := file.readinto(view[done:])):
                    done += got
        except OSError as error:
            raise BlockError(
                f"{self.name} cannot be read at byte {offset + done}: {error}"
            ) from error
        if done < length:
            raise BlockError(
                f"{self.name} became shorter while it was read: is something else writing it?"
            )
        return buffer

    def local(self) -> Path:
        """Its path."""
        return self.path


class Stream(io.RawIOBase):
    """A ByteFile as a seekable stream, for libraries that want one."""

    def __init__(self, file: ByteFile) -> None:
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to `offset` from the start, the position or the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` as far as the file goes."""
        length = min(len(buffer), max(0, self._file.size - self._at))
        buffer[:length] = self._file.read(self._at, length)
        self._at += length
        return length
