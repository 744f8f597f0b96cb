"""Where this machine keeps what can be made again: downloaded assets, extracted blocks,
preprocessed volumes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LIMIT_VARIABLE = "MEDVISION_CACHE_LIMIT"
DEFAULT_LIMIT_GB = 50.0
_log = logging.getLogger(__name__)


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Give a temporary path next to `target` and move it there when the block succeeds; otherwise
    remove it.

    Readers see the old file or the whole new one, and several writers of the same content do no
    harm.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not mkstemp, whose files nobody else may read: a cache and masks may be a group's.
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one process of this machine at a time make what this folder holds; the lock ends with its
    process.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(
            OSError
        ):  # a folder without locks: each process makes its own, which does no harm
            folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((folder / ".lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read_json(path: Path, default: Any) -> Any:
    """The file's JSON, or `default` where it is missing or unreadable: a cache is never a reason to
    stop.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return default


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, sort_keys=True))


def remember_json(path: Path, value: Any) -> None:
    """The same of what can be found out again: where it cannot be written, that is logged."""
    try:
        write_json(path, value)
    except OSError as error:
        _log.warning("%s: cannot be kept, so it is found out every time: %s", path, error)


def limit_bytes() -> float:
    """The size limit of the prepared cases.

    Raises:
        ValueError: MEDVISION_CACHE_LIMIT is no number from 0 upward.
    """
    text = os.environ.get(LIMIT_VARIABLE) or str(DEFAULT_LIMIT_GB)
    try:
        limit = float(text) * 1e9
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise ValueError(
            f"{LIMIT_VARIABLE}={text}: give the size of the cache in GB, for example 50"
        )
    return limit
