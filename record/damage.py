"""Which finished trials are what was committed: every file is compared with the checksum of its
commit before anything is read from it. What is not is set aside, so that its trial is run again.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from record import paths
from record.files import Stamp
from record.schema import Claim, Commit, StudyPlan
from record.store import DamagedError, Store


@dataclass(frozen=True)
class FinishedTrials:
    """Finished trials: `commits` of those that are whole, and what is wrong with the
    others in `damaged`, a line each; both by evaluation id. `stamps`: of every file, from before it
    was read.
    """

    commits: dict[str, Commit]
    damaged: dict[str, str]
    stamps: dict[str, Stamp] = field(default_factory=dict)


def finished_trials(store: Store, plan: StudyPlan) -> FinishedTrials:
    """Check the marker of every finished trial and the files that reports read: scores, history,
    and the saved arrays with their masks where there are any.

    Raises:
        StoreError: the storage is out of reach.
    """
    planned = dict.fromkeys(trial.eval_id for trial in plan.trials if trial.eval_id)
    committed = store.committed()
    return finished_of(store, [eval_id for eval_id in planned if eval_id in committed])


def finished_of(store: Store, names: Sequence[str]) -> FinishedTrials:
    """The same of these evaluations."""
    return _checked(store, names)


def readable_commits(store: Store) -> dict[str, Commit]:
    """Commit markers by evaluation id, without those that are damaged; their files are not looked
    at.
    """
    return _markers(store, sorted(store.committed())).commits


def set_aside(store: Store, only: Collection[str] | None = None) -> list[str]:
    """Move what is left of damaged results to `damaged/`, so that their trials count as not done.

    Files come first and the marker last: who is killed between the two does it again.

    Args:
        only: the evaluations that are looked at; None: all.

    Returns:
        A line for each: what is wrong, and where it lies now.

    Raises:
        DamagedError: nothing says which training an unreadable marker is of.
        StoreError: the storage is out of reach.
    """
    names, lines = sorted(store.committed()), []
    markers = _markers(store, names)
    found = (
        _checked(store, names, markers)
        if only is None
        else _checked(store, [name for name in names if name in only])
    )
    others = [marker for name, marker in markers.commits.items() if name not in found.damaged]
    kept = {file for marker in others for file in marker.files.values()}
    trained = _trainings(store, markers.commits) if found.damaged else {}
    for eval_id, wrong in found.damaged.items():
        taken, number = set(store.names(paths.DAMAGED)), 1
        while paths.damaged(eval_id, number).rpartition("/")[2] in taken:
            number += 1
        place = paths.damaged(eval_id, number)
        if eval_id not in trained:  # its files would be swept away as nobody's
            raise DamagedError(
                f"{wrong.rpartition('; ')[0]}; nothing else says which training it is of: put back "
                "the file as it was, or remove it and what lies in trials/ for it"
            )
        folder = paths.trial(trained[eval_id])
        for file in store.below(folder):
            if file not in kept:
                store.move(file, f"{place}/{file.removeprefix(folder).lstrip('/')}")
        store.move(paths.commit(eval_id), f"{place}/{paths.commit(eval_id)}")
        lines.append(
            f"{wrong.rpartition('; ')[0]}: its trial is run again, and what is left of it lies in "
            f"{store.path(place)}"
        )
    return lines


def _trainings(store: Store, markers: Mapping[str, Commit]) -> dict[str, str]:
    """The training of every evaluation, as claims, the plan or a marker that can be read says."""
    found: dict[str, str] = {}
    for name in store.names(paths.CLAIMS):
        with contextlib.suppress(DamagedError):
            claim = store.load(f"{paths.CLAIMS}/{name}", Claim)
            found |= {claim.eval_id: paths.stem(name)} if claim and claim.eval_id else {}
    with contextlib.suppress(DamagedError):
        plan = store.load(paths.PLAN, StudyPlan)
        for trial in plan.trials if plan else []:
            found |= {trial.eval_id: trial.train_id} if trial.eval_id and trial.train_id else {}
    return found | {name: one.train_id for name, one in markers.items()}


def _markers(store: Store, names: Iterable[str]) -> FinishedTrials:
    commits, damaged = dict[str, Commit](), dict[str, str]()
    every = list(names)
    places = [paths.commit(eval_id) for eval_id in every]
    contents = store.read_many(places)
    for eval_id, place, content in zip(every, places, contents, strict=True):
        try:
            marker = store.parsed(place, content, Commit)
            if marker is not None and marker.eval_id != eval_id:
                raise _damaged(store.path(place), f"is the marker of {marker.eval_id[:12]}")
        except DamagedError as error:
            damaged[eval_id] = str(error)
        else:
            commits |= {eval_id: marker} if marker else {}
    return FinishedTrials(commits, damaged)


def _checked(
    store: Store, names: Iterable[str], markers: FinishedTrials | None = None
) -> FinishedTrials:
    """Markers, unless they have been read, and the files that reports read."""
    names = list(names)
    stamps = store.stamps([paths.commit(name) for name in names])
    found = markers or _markers(store, names)
    commits, damaged = found.commits, found.damaged
    files: list[tuple[str, str, str]] = []
    for name, marker in commits.items():
        try:
            files += [(name, kind, _named(store, marker, kind)) for kind in _read_kinds(marker)]
        except DamagedError as error:
            damaged[name] = str(error)
    stamps |= store.stamps([file for *_, file in files])
    contents = store.read_many([file for *_, file in files])
    for (name, kind, _), content in zip(files, contents, strict=True):
        try:
            _verified(store, commits[name], kind, content)
        except DamagedError as error:
            damaged.setdefault(name, str(error))
    whole = {name: marker for name, marker in commits.items() if name not in damaged}
    return FinishedTrials(whole, damaged, stamps)


def committed_in(marker: Commit) -> list[str]:
    """The marker of a whole trial and its files that reports read."""
    return [paths.commit(marker.eval_id), *(marker.files[kind] for kind in _read_kinds(marker))]


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
    """The file's path; the marker must hold its checksum, too."""
    if kind not in marker.files or kind not in marker.sha256:
        place = store.path(paths.commit(marker.eval_id))
        raise _damaged(place, f"names no {kind} with a checksum")
    store.path(marker.files[kind])  # which refuses what lies elsewhere
    return marker.files[kind]


def _verified(store: Store, marker: Commit, kind: str, content: bytes | None) -> bytes:
    place = store.path(marker.files[kind])
    if content is None:
        raise _damaged(place, "is missing, though its commit names it")
    if hashlib.sha256(content).hexdigest() != marker.sha256[kind]:
        raise _damaged(place, "has changed since it was committed")
    return content


def _damaged(place: str, wrong: str) -> DamagedError:
    return DamagedError(f"{place}: {wrong}; put back the file as it was, or {Commit.remedy}")
