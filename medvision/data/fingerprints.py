"""Content fingerprints of cases, hashed once and remembered by size and time of change.

The memory is one JSON file per task folder in the cache, so that a dry run knows every id without reading an image.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from medvision.cache import cache_root, read_json, write_json
from medvision.data.msd import Case, DataError, Task


@dataclass(frozen=True)
class CaseIndex:
    """What planning needs to know of a case: `fingerprint` is the sha256 of image and label content, `volume_mm3` the
    volume of everything labelled above 0."""

    id: str
    fingerprint: str
    volume_mm3: float


def index_cases(task: Task, workers: int = 4) -> list[CaseIndex]:
    """Fingerprint every case (training, then test cases), reading only files that changed since the last time.

    Raises:
        DataError: a label cannot be read as NIfTI.
    """
    memory = read_json(_memory_path(task), {})
    cases = [*task.cases, *task.test_cases]
    stale = [case for case in cases if _remembered(memory, case) is None]
    if stale:
        with ThreadPoolExecutor(workers) as pool:
            for case, entry in zip(stale, pool.map(_measure, stale), strict=True):
                memory[_key(case)] = entry
        write_json(_memory_path(task), memory)
    return [_index(memory, case) for case in cases]


def cached_index(task: Task) -> list[CaseIndex] | None:
    """The same from memory alone; None where a case was never hashed or has changed since."""
    memory = read_json(_memory_path(task), {})
    cases = [*task.cases, *task.test_cases]
    if any(_remembered(memory, case) is None for case in cases):
        return None
    return [_index(memory, case) for case in cases]


def _memory_path(task: Task) -> Path:
    folder = hashlib.sha256(str(task.folder.resolve()).encode()).hexdigest()[:24]
    return cache_root() / "fingerprints" / f"{folder}.json"


def _key(case: Case) -> str:
    return f"{case.image}\n{case.label}"


def _stamp(case: Case) -> list[int]:
    image, label = case.image.stat(), case.label.stat()
    return [image.st_size, image.st_mtime_ns, label.st_size, label.st_mtime_ns]


def _remembered(memory: dict, case: Case) -> dict | None:
    entry = memory.get(_key(case))
    return entry if entry and entry["stamp"] == _stamp(case) else None


def _index(memory: dict, case: Case) -> CaseIndex:
    entry = memory[_key(case)]
    return CaseIndex(case.id, entry["fingerprint"], entry["volume_mm3"])


def _measure(case: Case) -> dict:
    import nibabel
    import numpy as np

    stamp = _stamp(case)
    digest = hashlib.sha256()
    for path in (case.image, case.label):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    try:
        label = nibabel.load(case.label)
        voxel_mm3 = float(np.prod(label.header.get_zooms()[:3]))
        volume = float(np.count_nonzero(np.asanyarray(label.dataobj) > 0)) * voxel_mm3
    except Exception as error:  # nibabel raises many kinds for broken files
        raise DataError(f"{case.label}: cannot be read as NIfTI: {type(error).__name__}: {error}") from error
    return {"stamp": stamp, "fingerprint": digest.hexdigest(), "volume_mm3": volume}
