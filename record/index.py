"""index.jsonl: what the last report read of each finished trial, so that a look at a large study
asks the storage for what files there are and not for each of them.

It is a memory and no record: whatever it does not know, or knows otherwise, is read; without it
all is. A file counts as known while its size and its time (its ETag on an object store) are what
they were before it was read and found whole; on a storage without ETags every file is read. As git
does (racy-git), a file that is hardly older than the index is read again: it may have changed
within one tick of the clock.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from record import paths
from record.damage import committed_in, finished_of
from record.files import Stamp
from record.study import StoredStudy

FORMAT = 2  # 1 held trials without any stamp of their files
TICK_NANOSECONDS = 2 * 10**9  # of the coarsest clock of a file system in use (FAT)


@dataclass(frozen=True)
class Glance:
    """What is known of a study's finished trials without reading them all.

    Attributes:
        seconds, ended: what each took, and when it ended (UTC, ISO 8601), by evaluation id; of
            those that are whole.
        damaged: a line for each that is not.
        health: the lines of the last report, (whether a model has failed, text) each; None where
            other trials have finished since.
    """

    seconds: Mapping[str, float]
    ended: Mapping[str, str]
    damaged: Mapping[str, str]
    health: tuple[tuple[bool, str], ...] | None


def write_index(study: StoredStudy, health: Iterable[tuple[bool, str]]) -> None:
    """Note what was read of a study whose finished trials were all verified.

    Args:
        health: the lines of its report.
    """
    stamps, commits = study.finished.stamps, study.finished.commits
    trials = {
        name: [
            marker.cost.seconds,
            marker.finished,
            {place: stamps[place] for place in committed_in(marker)},
        ]
        for name, marker in commits.items()
        if all(place in stamps for place in committed_in(marker))
    }
    values = {
        "format": FORMAT,
        "plan": _plan_sha256(study),
        "health": [list(line) for line in health],
        "trials": trials,
    }
    content = json.dumps(values, sort_keys=True, separators=(",", ":"))
    head = json.dumps({"sha256": hashlib.sha256(content.encode()).hexdigest()})
    study.store.write(paths.INDEX, f"{head}\n{content}\n".encode())


def glance_at(study: StoredStudy) -> Glance:
    """A study's finished trials: what the index knows of them, and the others as they are read.

    Raises:
        StoreError: the storage is out of reach.
    """
    store, planned = study.store, {str(trial.eval_id) for trial in study.plan.trials}
    known = _read(study)
    if known is None:
        return _of(study, {}, {}, None)
    committed = store.committed() & planned
    trials = {name: about for name, about in known["trials"].items() if name in committed}
    wanted = [place for *_, files in trials.values() for place in files]
    now, limit = store.stamps(wanted), _limit(study)
    seconds, ended = {}, {}
    for name, (took, when, files) in trials.items():
        if files and all(_same(now.get(place), stamp, limit) for place, stamp in files.items()):
            seconds[name], ended[name] = took, when
    whole = len(seconds) == len(known["trials"])
    health = tuple((bool(failed), str(text)) for failed, text in known["health"])
    same_plan = known["plan"] == _plan_sha256(study)
    return _of(study, seconds, ended, health if whole and same_plan else None, committed)


def _of(
    study: StoredStudy,
    seconds: dict[str, float],
    ended: dict[str, str],
    health: tuple[tuple[bool, str], ...] | None,
    committed: Iterable[str] = (),
) -> Glance:
    """With what must be read: everything where nothing is known, which reports then share."""
    rest = [name for name in committed if name not in seconds]
    found = finished_of(study.store, sorted(rest)) if seconds else study.finished
    for name, marker in found.commits.items():
        seconds[name], ended[name] = marker.cost.seconds, marker.finished
        health = None
    return Glance(seconds, ended, found.damaged, health)


def _read(study: StoredStudy) -> dict[str, Any] | None:
    """What the index says; None where there is none that this version wrote whole."""
    content = study.store.read(paths.INDEX)
    head, _, rest = (content or b"").partition(b"\n")
    try:
        expected, body = json.loads(head)["sha256"], rest.removesuffix(b"\n")
        if hashlib.sha256(body).hexdigest() != expected:
            return None
        values: dict[str, Any] = json.loads(body)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return values if values.get("format") == FORMAT else None


def _plan_sha256(study: StoredStudy) -> str:
    return hashlib.sha256(study.store.read(paths.PLAN) or b"").hexdigest()


def _limit(study: StoredStudy) -> int | None:
    """Files must be older than this; None where their stamps change with their content."""
    if not study.store.local:
        return None
    return Path(study.store.path(paths.INDEX)).stat().st_mtime_ns - TICK_NANOSECONDS


def _same(now: Stamp | None, then: Sequence[Any], limit: int | None) -> bool:
    return now == list(then) and (limit is None or int(now[1]) < limit)
