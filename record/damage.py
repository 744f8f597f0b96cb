"""Which finished trials are what was committed: every file is held against the checksum of its
commit before anything is read out of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from record import paths
from record.schema import Commit, StudyPlan
from record.store import DamagedError, Store


@dataclass(frozen=True)
class FinishedTrials:
    """The finished trials of a plan: `commits` of those that are whole, and what is wrong with the
    others in `damaged`, a line each; both by evaluation id.
    """

    commits: dict[str, Commit]
    damaged: dict[str, str]


def finished_trials(store: Store, plan: StudyPlan) -> FinishedTrials:
    """Look at the marker of every finished trial, and at what reports read of it: scores, history,
    and the pictures with their masks where it has any.

    Raises:
        StoreError: the storage is out of reach.
    """
    commits, damaged = dict[str, Commit](), dict[str, str]()
    committed = store.committed()
    for eval_id in dict.fromkeys(trial.eval_id for trial in plan.trials):
        if eval_id not in committed or eval_id is None:
            continue
        try:
            marker = store.load(paths.commit(eval_id), Commit)
        except DamagedError as error:
            damaged[eval_id] = str(error)
        else:
            commits |= {eval_id: marker} if marker else {}
    files: list[tuple[str, str, str]] = []
    for name, marker in commits.items():
        try:
            files += [(name, kind, _named(store, marker, kind)) for kind in _read_kinds(marker)]
        except DamagedError as error:
            damaged[name] = str(error)
    contents = store.read_many([file for *_, file in files])
    for (name, kind, _), content in zip(files, contents, strict=True):
        try:
            _verified(store, commits[name], kind, content)
        except DamagedError as error:
            damaged.setdefault(name, str(error))
    whole = {name: marker for name, marker in commits.items() if name not in damaged}
    return FinishedTrials(whole, damaged)


def _read_kinds(marker: Commit) -> tuple[str, ...]:
    pictures = (paths.ARRAYS, paths.MASKS) if paths.ARRAYS in marker.files else ()
    return (paths.CASES, paths.HISTORY, *pictures)


def read_committed(store: Store, marker: Commit, kind: str) -> bytes:
    """A file of a finished trial.

    Raises:
        DamagedError: it is missing, or not what was committed; with the file and what to do.
    """
    return _verified(store, marker, kind, store.read(_named(store, marker, kind)))


def read_all_committed(store: Store, markers: Sequence[Commit], kind: str) -> Iterator[bytes]:
    """The file of one kind of many finished trials, in their order; as `read_committed`."""
    contents = store.read_many([_named(store, marker, kind) for marker in markers])
    for marker, content in zip(markers, contents, strict=True):
        yield _verified(store, marker, kind, content)


def _named(store: Store, marker: Commit, kind: str) -> str:
    """The file's path, of a marker that holds its checksum, too."""
    if kind not in marker.files or kind not in marker.sha256:
        raise _damaged(
            marker, store.path(paths.commit(marker.eval_id)), f"names no {kind} with a checksum"
        )
    return marker.files[kind]


def _verified(store: Store, marker: Commit, kind: str, content: bytes | None) -> bytes:
    place = store.path(marker.files[kind])
    if content is None:
        raise _damaged(marker, place, "is missing, though its commit names it")
    if hashlib.sha256(content).hexdigest() != marker.sha256[kind]:
        raise _damaged(marker, place, "has changed since it was committed")
    return content


def _damaged(marker: Commit, place: str, wrong: str) -> DamagedError:
    return DamagedError(
        f"{place}: {wrong}; put back the file as it was, or run the trial anew: python -m "
        f"orchestrator.run SPEC --rerun {marker.train_id[:12]}"
    )
