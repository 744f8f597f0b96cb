"""The head of a GGUF file: its settings and its table of tensors. No torch here, and no tensor is
read.

The layout is that of the GGUF specification (ggml, docs/gguf.md): magic, version, counts, key-value
pairs, tensor infos, padding, data. The gguf package's own reader makes several objects for every
token of the vocabulary, hundreds of megabytes for a large one; here arrays are stepped over. Its
tables of types and its dequantisation are used.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from medvision.llm.bytefile import ByteFile, other_kind
from medvision.llm.errors import BlockError

_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
_WINDOW = 1 << 20
_MOST_AXES = 4
_KEPT = 64  # longer arrays (the vocabulary) are stepped over


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: shape as in PyTorch (GGUF lists it reversed), ggml type number, offset in the
    file.
    """

    shape: tuple[int, ...]
    type: int
    offset: int


@dataclass(frozen=True)
class Header:
    """Settings by key (long arrays as None), tensors by name."""

    settings: dict[str, Any]
    tensors: dict[str, TensorInfo]


class _Cursor:
    """Reads forward in windows, so that a header costs few reads however many strings it has."""

    def __init__(self, file: ByteFile) -> None:
        self._file = file
        self._buffer = bytearray()
        self._start = 0
        self.at = 0

    def take(self, length: int) -> memoryview:
        index = self.at - self._start
        if index < 0 or index + length > len(self._buffer):
            # At the end of the file ask for the plain length: the file then says what is missing.
            window = max(length, min(_WINDOW, self._file.size - self.at))
            self._buffer, self._start, index = self._file.read(self.at, window), self.at, 0
        self.at += length
        return memoryview(self._buffer)[index : index + length]

    def scalar(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def string(self) -> str:
        return bytes(self.take(self.scalar("Q"))).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self._array()
        raise BlockError(
            f"{self._file.name}: unknown GGUF value type {kind} at byte {self.at}; the file is "
            "damaged"
        )

    def _array(self) -> list[Any] | None:
        kind, count = self.scalar("I"), self.scalar("Q")
        if count <= _KEPT:
            return [self.value(kind) for _ in range(count)]
        if kind in _SCALARS:
            self.at += count * struct.calcsize("<" + _SCALARS[kind])
        elif kind == _STRING:
            for _ in range(count):
                length = self.scalar("Q")
                self.at += length
        else:
            raise BlockError(
                f"{self._file.name}: unexpected array of type {kind} at byte {self.at} in the GGUF "
                "header"
            )
        return None


def read_header(file: ByteFile) -> Header:
    """Settings and table of tensors of a GGUF file (version 2 or 3, little-endian).

    Raises:
        BlockError: no GGUF file, another version or byte order, or a damaged header.
    """
    try:
        return _read_header(file)
    except BlockError:
        raise
    except (ValueError, TypeError, ArithmeticError, RecursionError, struct.error) as error:
        raise BlockError(f"{file.name}: the GGUF header is damaged ({error!r})") from error


def _read_header(file: ByteFile) -> Header:
    cursor = _Cursor(file)
    if file.size < 24 or bytes(cursor.take(4)) != b"GGUF":
        raise BlockError(
            f"{file.name} is no GGUF file (it does not start with 'GGUF' and a header)"
            f"{other_kind(file, b'GGUF')}"
        )
    version = cursor.scalar("I")
    if version not in (2, 3):
        raise BlockError(
            f"{file.name}: GGUF version {version} is not supported; 2 and 3, little-endian, are"
        )
    n_tensors, n_settings = cursor.scalar("Q"), cursor.scalar("Q")
    settings: dict[str, Any] = {}
    for _ in range(n_settings):
        key = cursor.string()
        settings[key] = cursor.value(cursor.scalar("I"))
    table = {}
    for _ in range(n_tensors):
        name, axes = cursor.string(), cursor.scalar("I")
        if not 1 <= axes <= _MOST_AXES:
            raise BlockError(f"{file.name}: {name!r} has {axes} axes; the GGUF header is damaged")
        shape = tuple(cursor.scalar("Q") for _ in range(axes))
        table[name] = TensorInfo(shape[::-1], cursor.scalar("I"), cursor.scalar("Q"))
    alignment = int(settings.get("general.alignment", 32))
    start = -(-cursor.at // alignment) * alignment
    return Header(
        settings, {n: TensorInfo(t.shape, t.type, start + t.offset) for n, t in table.items()}
    )
