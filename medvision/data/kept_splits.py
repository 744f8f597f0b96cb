"""The split of a study whose cases have changed: a case that was there keeps its part.

A new unit comes to the end of the study's order, and to the smallest test set. No other unit
moves unless units are gone, and then only as many as make the test sets equal again. Pure
functions.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from record.schema import Split

Units = Mapping[str, tuple[str, ...]]
Rank = Callable[[str, str], bytes]  # of a purpose and a name, from the seed of the splits
SHOWN = 5  # cases that are named in a line


@dataclass(frozen=True)
class EarlierSplit:
    """Of each case that was there: its `position` in the study's order, the `fold` that tests it;
    `reserved`: cases of the search.
    """

    position: Mapping[str, int]
    fold: Mapping[str, int]
    reserved: frozenset[str]

    @classmethod
    def of(cls, split: Split, rank: Rank) -> EarlierSplit:
        """What a split file says."""
        fold = {case: number for number, one in enumerate(split.folds) for case in one.test}
        cases = {*fold, *(case for one in split.folds for unit in one.order for case in unit)}
        ordered: Iterable[str] = (case for unit in split.order for case in unit)
        if not split.order:  # it follows from the seed alone
            ordered = sorted(
                cases, key=lambda case: (rank("order", split.patients.get(case) or case), case)
            )
        reserved = frozenset(case for unit in split.reserved_for_search for case in unit)
        return cls({case: place for place, case in enumerate(ordered)}, fold, reserved)

    def knows(self, unit: Iterable[str]) -> bool:
        """Whether any case of a unit was there."""
        return any(case in self.position or case in self.reserved for case in unit)

    def place(self, unit: Iterable[str]) -> int | None:
        """A unit's place in the order; None of a new one."""
        return min((self.position[case] for case in unit if case in self.position), default=None)


def kept_folds(
    units: Units, volumes: Mapping[str, float], parts: int, rank: Rank, earlier: EarlierSplit
) -> dict[str, int]:
    """Unit -> part, of k-fold: sizes differ by one unit at most."""
    assigned: dict[str, int] = {}
    for name, members in units.items():
        known = {earlier.fold[case] for case in members if case in earlier.fold}
        if len(known) == 1 and max(known) < parts:
            assigned[name] = known.pop()

    def sizes() -> list[int]:
        counts = Counter(assigned.values())
        return [counts[part] for part in range(parts)]

    size = {name: statistics.fmean(volumes[case] for case in units[name]) for name in units}
    new = [name for name in units if name not in assigned]
    for name in sorted(new, key=lambda name: rank("added", name)):
        assigned[name] = _place_for(name, assigned, sizes(), size, rank)
    while max(now := sizes()) - min(now) > 1:
        largest = [name for name in assigned if assigned[name] == now.index(max(now))]
        moved = min(largest, key=lambda name: rank("moved", name))
        assigned[moved] = now.index(min(now))
    return assigned


def _place_for(
    name: str,
    assigned: Mapping[str, int],
    sizes: Sequence[int],
    size: Mapping[str, float],
    rank: Rank,
) -> int:
    """Of the smallest parts the one whose mean volume comes nearest to that of all with this
    unit.
    """
    overall = statistics.fmean(size.values())

    def distance(part: int) -> float:
        there = [size[other] for other, place in assigned.items() if place == part]
        return abs(statistics.fmean([*there, size[name]]) - overall)

    smallest = [part for part, count in enumerate(sizes) if count == min(sizes)]
    return min(smallest, key=lambda part: (distance(part), rank(f"added {name}", str(part))))


def kept_set(
    units: Units, before: Collection[str], wanted: int, rank: Rank, earlier: EarlierSplit
) -> set[str]:
    """This many units of a test set or a reserve: those that were in it, then new ones.

    Args:
        before: cases that were in it.
    """
    known = {name for name, members in units.items() if earlier.knows(members)}
    kept = [
        name
        for name in known
        if all(case in before for case in units[name] if earlier.knows([case]))
    ]
    chosen = set(sorted(kept, key=lambda name: rank("moved", name))[-wanted:] if wanted else [])
    others = sorted(
        (name for name in units if name not in chosen),
        key=lambda name: (name in known, rank("added", name)),
    )
    return chosen | set(others[: wanted - len(chosen)])


def changes(split: Split, tests: Sequence[Sequence[str]], cases: Iterable[str]) -> str:
    """What became of a study's folds, in a line; empty where nothing did.

    Args:
        split: as it was.
        tests: the test cases of each fold now.
        cases: every case that a fold has now.
    """
    earlier = EarlierSplit.of(split, lambda purpose, name: b"")
    now = {case: number for number, test in enumerate(tests) for case in test}
    new = sorted(set(cases) - earlier.position.keys())
    gone = sorted(earlier.position.keys() - set(cases))
    moved = sorted(
        case
        for case in earlier.position.keys() - set(gone)
        if earlier.fold.get(case) != now.get(case)
    )
    if not (new or gone or moved):
        return ""
    one = len(tests) == 1

    def tested(case: str) -> str:
        if case not in now:
            return f"{case} (trains)"
        return f"{case} (tested)" if one else f"{case} (fold {now[case]})"

    parts = []
    if new:
        parts.append(f"{len(new)} new: {_listed(map(tested, new))}")
    if gone:
        parts.append(f"{len(gone)} gone: {_listed(gone)}")
    others = (
        f"{len(moved)} others move: {_listed(map(tested, moved))}" if moved else "no other moves"
    )
    old = [set(fold.test) for fold in split.folds]
    other = [number for number, test in enumerate(tests) if set(test) != old[number]]
    words = ", ".join(map(str, other)) or "none"
    tail = "" if one else f"; folds with other test cases: {words}"
    return f"{'; '.join([*parts, others])}{tail}"


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more
