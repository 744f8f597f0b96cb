"""Content fingerprints of cases and what is wrong with them, found once and remembered by size and
time of change.

The memory is one JSON file per task folder in the cache, so that a dry run knows every id without
reading an image.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from medvision.cache import read_json, remember_json
from medvision.data.copies import find_copies
from medvision.data.readers.base import Case, Task
from medvision.data.validate import undeclared, validate
from medvision.errors import DataError
from record.local_files import cache_root

MEMORY_VERSION = 4  # raise it when an examination finds more, so that every case is examined again


@dataclass(frozen=True)
class CaseIndex:
    """What planning needs to know of a case: `fingerprint` is the sha256 of image and label
    content, `volume_mm3` the volume of everything labelled above 0, `channels` how many its image
    has, `errors` are the reasons why it cannot be used, `warnings` do not prevent that; `labels`
    are the values of its label, `volumes_mm3` the volume of each above 0; `shape` in voxels and
    `spacing` in mm are the image's."""

    id: str
    fingerprint: str
    volume_mm3: float
    channels: int = 1
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    volumes_mm3: Mapping[int, float] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()


def index_cases(
    task: Task, workers: int = 4, on_case: Callable[[], object] = lambda: None
) -> list[CaseIndex]:
    """Fingerprint and validate every case (training, then test cases), reading only files that
    changed since the last time; `on_case` is called after each that was read. A broken case has
    `errors` and raises nothing."""
    memory = read_json(_memory_path(task), {})
    cases = [*task.cases, *task.test_cases]
    if stale := [case for case in cases if _remembered(memory, case) is None]:
        try:
            with ThreadPoolExecutor(workers) as pool:
                for case, entry in zip(stale, pool.map(_measure, stale), strict=True):
                    memory[_key(case)] = entry
                    on_case()
        finally:
            remember_json(_memory_path(task), memory)
    return _index(task, cases, memory)


def cached_index(task: Task) -> list[CaseIndex] | None:
    """The same from memory alone; None where a case was never read or has changed since."""
    memory = read_json(_memory_path(task), {})
    cases = [*task.cases, *task.test_cases]
    if any(_remembered(memory, case) is None for case in cases):
        return None
    return _index(task, cases, memory)


def memory_name(task: Task) -> str:
    """What is remembered of a task's folder is called so."""
    return hashlib.sha256(str(task.folder.resolve()).encode()).hexdigest()[:24]


def _memory_path(task: Task) -> Path:
    return cache_root() / "fingerprints" / f"{memory_name(task)}.json"


def _key(case: Case) -> str:
    return "\n".join(map(str, case.files))


def _stamp(case: Case) -> list[int]:
    """Size and times of change of all files, -1 for a missing one; with the memory's version. A
    program can set the time of change of the content back, but not that of the file's entry."""
    stamp = [MEMORY_VERSION]
    for path in case.files:
        try:
            found = path.stat()
            stamp += [found.st_size, found.st_mtime_ns, found.st_ctime_ns]
        except OSError:
            stamp += [-1, -1, -1]
    return stamp


def _remembered(memory: dict, case: Case) -> dict | None:
    entry = memory.get(_key(case))
    return entry if entry and entry["stamp"] == _stamp(case) else None


def _measure(case: Case) -> dict:
    stamp, contents = _stamp(case), [_content(path) for path in case.files]
    fingerprint = hashlib.sha256(b"".join(contents)).hexdigest()
    found = validate(case)  # right after hashing, so that the files come out of the page cache
    return {"stamp": stamp, "fingerprint": fingerprint, **asdict(found)}


def content_fingerprint(case: Case) -> str:
    """The fingerprint of what the files hold now; a process reads them again when their size or
    times change.
    """
    return _fingerprint(case, tuple(_stamp(case)))


def require_unchanged(case: Case, fingerprint: str) -> None:
    """Raise DataError where the files no longer hold what the fingerprint says; asked after they
    were read.
    """
    if content_fingerprint(case) != fingerprint:
        raise DataError(
            f"{case.image}: it or its label changed since the study was planned; run the same "
            "command again"
        )


@functools.lru_cache(maxsize=100_000)
def _fingerprint(case: Case, stamp: tuple[int, ...]) -> str:
    return hashlib.sha256(b"".join(_content(path) for path in case.files)).hexdigest()


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return b""


def _index(task: Task, cases: Sequence[Case], memory: dict) -> list[CaseIndex]:
    """Adds to what each file showed what only the task shows: undeclared labels, copies, and a rare
    orientation.
    """
    entries = [memory[_key(case)] for case in cases]
    usual = {
        key: Counter(entry[key] for entry in entries if not entry["errors"]).most_common(1)
        for key in ("orientation", "channels")
    }
    own = [
        [*entry["errors"], *undeclared(case, entry["labels"], task.declared)]
        for case, entry in zip(cases, entries, strict=True)
    ]
    good = [place for place, errors in enumerate(own) if not errors]
    found = find_copies([cases[place] for place in good], [entries[place] for place in good])
    copies = dict(zip(good, found, strict=True))
    ignored = set(task.declared.ignored)
    made = []
    for place, (case, entry) in enumerate(zip(cases, entries, strict=True)):
        errors, warnings = own[place], list(entry["warnings"])
        if place in copies:
            errors += copies[place].errors
            for key, ((common, _),) in usual.items():
                if entry[key] != common:
                    warnings.append(f"{case.image}: {key} {entry[key]}, most cases have {common}")
            warnings += copies[place].warnings
            if ignored & set(entry["labels"]):
                warnings.append(
                    f"{case.label}: holds label {min(ignored & set(entry['labels']))}, which is "
                    "declared as to be ignored; here it counts as any other label"
                )
        made.append(
            CaseIndex(
                case.id,
                entry["fingerprint"],
                entry["volume_mm3"],
                entry["channels"],
                tuple(errors),
                tuple(warnings),
                tuple(entry["labels"]),
                {int(value): volume for value, volume in entry["volumes_mm3"].items()},
                tuple(entry["shape"]),
                tuple(entry["spacing"]),
            )
        )
    return made
