"""Preprocessed cases on disk: one checksummed file each, memory-mapped, shared by all processes
of a node.

A file is a preamble of 64 bytes (magic number, sha256 of all that follows it, length of the
header), a header in JSON and the arrays, each at a multiple of 64 bytes. The checksum is
verified when a process first opens a file; a damaged one is made again. `MEDVISION_CACHE_LIMIT`
(GB, by default 50) bounds the folder: after a write the least recently used files are removed. Who
has mapped one keeps its content until it is closed, as POSIX promises, so eviction does no harm.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import math
import mmap
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from medvision.cache import alone, atomic_path, limit_bytes
from medvision.data.views.base import PreprocessedCase
from medvision.data.views.registry import from_json, to_json
from medvision.errors import DataError
from record.local_files import cache_root

_MAGIC = b"medvision prep 1"
_ALIGNED = 64
_DESCRIPTORS = 65536
_ABANDONED_SECONDS = 86400.0  # a temporary file of this age has no writer any more
_log = logging.getLogger(__name__)
_verified: set[tuple[int, int, int, bytes]] = (
    set()
)  # device, inode, size, checksum of what this process has checked


def cached(key: str, make: Callable[[], PreprocessedCase]) -> PreprocessedCase:
    """The prepared case of a key; `make` is called in one process of a node where the cache does
    not hold it.

    Raises:
        Exception: what `make` raises. A cache that cannot be written to is logged, and the run goes
            on without it.
    """
    _allow_many_files()
    path = cache_root() / "prepared" / key[:2] / f"{key}.prepared"
    if found := _open(path):
        return found
    with alone(path.parent):
        return _open(path) or _keep(path, make())


def _keep(path: Path, made: PreprocessedCase) -> PreprocessedCase:
    try:
        with atomic_path(path) as temporary:
            _write(temporary, made)
        _evict(path)
    except OSError as error:
        _log.warning("%s: cannot be kept, so it is made again every time: %s", path, error)
        return made
    return _open(path) or made


def _write(path: Path, made: PreprocessedCase) -> None:
    arrays = {"image": np.ascontiguousarray(made.image), "masks": np.ascontiguousarray(made.masks)}
    if made.points is not None:
        arrays["points"] = np.ascontiguousarray(made.points)
    about: dict[str, Any] = {"placement": to_json(made.placement), "arrays": {}}
    start = 0
    for name, array in arrays.items():
        about["arrays"][name] = {"dtype": array.dtype.str, "shape": array.shape, "start": start}
        start += _aligned(array.nbytes)
    header = json.dumps(about).encode()
    header = header.ljust(_aligned(len(header)))
    body = [
        header,
        *(array.tobytes().ljust(_aligned(array.nbytes), b"\0") for array in arrays.values()),
    ]
    digest = hashlib.sha256()
    for part in body:
        digest.update(part)
    with path.open("wb") as file:
        file.write(_MAGIC + digest.digest() + len(header).to_bytes(16, "little"))
        file.writelines(body)


def _open(path: Path) -> PreprocessedCase | None:
    """The file's arrays, mapped; None where there is none or where it is damaged, which is
    logged.
    """
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        checksum = content[16:48]
        if (identity := (stat.st_dev, stat.st_ino, stat.st_size, checksum)) not in _verified:
            if (
                content[:16] != _MAGIC
                or hashlib.sha256(memoryview(content)[64:]).digest() != checksum
            ):
                raise ValueError("its checksum is wrong")
            _verified.add(identity)
        end = 64 + int.from_bytes(content[48:64], "little")
        about = json.loads(content[64:end])
        with contextlib.suppress(OSError):  # another user's file
            os.utime(path)  # used just now
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        _log.warning("%s: cannot be used, so it is made again: %s", path, error)
        return None
    arrays = {}
    for name, array in about["arrays"].items():
        flat = np.frombuffer(
            content, array["dtype"], math.prod(array["shape"]), end + array["start"]
        )
        arrays[name] = flat.reshape(array["shape"])
    return PreprocessedCase(
        arrays["image"], arrays["masks"], from_json(about["placement"]), arrays.get("points")
    )


@functools.cache
def _allow_many_files() -> None:
    """A mapped file keeps a descriptor open; the usual soft limit of 1,024 is less than two MSD
    tasks have cases.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < _DESCRIPTORS:
        wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def _evict(newest: Path) -> None:
    """Remove the files that were used longest ago until the rest is within the limit; the newest
    stays.
    """
    try:
        limit = limit_bytes()
    except ValueError as error:
        raise DataError(str(error)) from error
    files, now = [], time.time()
    for folder in os.scandir(newest.parents[1]):
        for entry in os.scandir(folder.path) if folder.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):  # another process evicts, too
                stat = entry.stat()
                writing = entry.name.startswith(".") and now - stat.st_mtime < _ABANDONED_SECONDS
                if entry.name != ".lock" and not writing:
                    files.append((stat.st_mtime, stat.st_size, entry.path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total > limit and path != str(newest):
            Path(path).unlink(missing_ok=True)
            total -= size


def _aligned(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED
