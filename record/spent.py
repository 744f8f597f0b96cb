"""What the attempts of several studies cost, united: what each place spent counts once, however
often and by whichever way it is merged.

`spent.json` has the sum, by which limits go. `spent_at.json` says which part of it was spent where,
so that a place that is merged again adds what it spent since, and no more.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from record import paths
from record.frozen import planned_trainings
from record.schema import SpentFile
from record.store import Store
from record.stored import Stored

Seconds = Mapping[str, float]  # GPU-seconds by evaluation


class SpentAtFile(Stored):
    """spent_at.json: of a merged study, GPU-seconds by place and evaluation, without its own."""

    remedy: ClassVar[str] = "remove it: what was merged counts as spent in this study then"
    places: dict[str, dict[str, float]] = {}


def united_spent(stores: Sequence[Store], into: Store) -> tuple[SpentFile, SpentAtFile] | None:
    """What all of these studies and the merged one spent, and where; None where it is nothing.

    Raises:
        DamagedError: what one of them wrote down is damaged.
    """
    places: dict[str, dict[str, float]] = {}
    for store in (into, *stores):
        for place, seconds in _places(store).items():
            known = places.setdefault(place, {})
            for name, value in seconds.items():  # what a place spent only grows
                known[name] = max(value, known.get(name, 0.0))
    if not any(places.values()):
        return None
    names = sorted({name for seconds in places.values() for name in seconds})
    total = {name: _sum(name, places.values()) for name in names}
    places.pop(_place(into), None)  # what is left of the sum without the others
    return SpentFile(gpu_seconds=total), SpentAtFile(places=places)


def save_spent(into: Store, spent: tuple[SpentFile, SpentAtFile] | None) -> None:
    """Write both down."""
    if spent is not None:
        into.save(paths.SPENT_AT, spent[1])
        into.save(paths.SPENT, spent[0])


def _places(store: Store) -> dict[str, dict[str, float]]:
    """By place, the study itself among them."""
    total = store.load(paths.SPENT, SpentFile) or SpentFile()
    at = store.load(paths.SPENT_AT, SpentAtFile) or SpentAtFile()
    own = {
        name: rest
        for name, seconds in total.gpu_seconds.items()
        if (rest := seconds - _sum(name, at.places.values())) > 0
    }
    return {**at.places, _place(store): own}


def _sum(name: str, places: Iterable[Seconds]) -> float:
    """Of an evaluation at all places; the same number twice is one attempt, of a study that was
    copied.
    """
    return math.fsum({seconds[name] for seconds in places if name in seconds})


def _place(store: Store) -> str:
    """What stays the same of a study wherever it is copied to: what it planned first, and when."""
    first = [one.model_dump(mode="json") for one in planned_trainings(store)[:1]]
    return hashlib.sha256(json.dumps(first or store.uri, sort_keys=True).encode()).hexdigest()[:16]
