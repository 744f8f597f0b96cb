"""What the report says of the frozen analysis, and of trainings that were added after a look at
results.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import pandas as pd

from record.frozen import Frozen, PlannedTrainings, Trainings
from reports.sections.exploratory import Exploratory

LISTED = 20


def frozen_notes(
    frozen: Frozen | None, against: Exploratory | None, table: pd.DataFrame
) -> list[str]:
    """The freeze with its hash, how many rows are not in it, and what has changed since.

    Args:
        frozen: of the study, if it has one.
        against: it, against the report's analysis.
        table: the significance table.
    """
    if frozen is None or against is None:
        return []
    before = (
        f"after {frozen.finished} trials had finished, so that it may follow their results"
        if frozen.finished
        else "before the first result"
    )
    found = [f"Analysis frozen at {frozen.time}, {before} (sha256 {frozen.sha256})."]
    if rows := int(table["exploratory"].eq(True).sum()):
        found.append(
            f"{rows} of {len(table)} rows are not in the frozen analysis: they are marked "
            "exploratory; tests that were not frozen are corrected apart from the others."
        )
    changed = against.differences()
    found += [f"Changed since the freeze: {line}." for line in changed[:LISTED]]
    if len(changed) > LISTED:
        found.append(f"Changed since the freeze: {len(changed) - LISTED} more.")
    return found


def added_notes(planned: Sequence[PlannedTrainings], frozen: Frozen | None) -> list[str]:
    """Seeds, folds and repeats that came into the plan when there were results.

    Args:
        planned: what was planned when (`record.frozen.planned_trainings`).
        frozen: what it had planned is no decision after a look, if it came before the first
            result.
    """
    if not planned:
        return []
    now = planned[-1].trainings
    ahead = [frozen.analysis.trainings] if frozen and not frozen.finished else []
    later: dict[tuple[str, int], list[str]] = {}
    as_frozen: list[str] = []
    for name, values in _parts(now).items():
        for value in values:
            first = next(one for one in planned if value in _parts(one.trainings)[name])
            if first is planned[0] or not first.finished:
                continue
            if any(value in _parts(one)[name] for one in ahead):
                as_frozen.append(f"{name} {value}")
            else:
                later.setdefault((first.time, first.finished), []).append(f"{name} {value}")
    found = [
        f"{', '.join(names)}: added at {time}, when {finished} trials had finished. The decision "
        "to add came after a look at results, or could have; p-values and intervals do not allow "
        "for that."
        for (time, finished), names in later.items()
    ]
    if as_frozen:
        found.append(f"{', '.join(as_frozen)}: run later, as the frozen analysis had planned.")
    return found


def dropped_notes(
    planned: Sequence[PlannedTrainings], frozen: Frozen | None, now: Trainings
) -> list[str]:
    """Seeds, folds and repeats that were frozen, or planned until there were results, and that the
    report does not have.

    Args:
        planned: what was planned when (`record.frozen.planned_trainings`).
        frozen: of the study, if it has one.
        now: of the report's plan.
    """
    kept = _parts(now)
    before = _parts(frozen.analysis.trainings) if frozen else {}
    found = _listed("Frozen", {name: _without(before[name], kept[name]) for name in before})
    dropped: dict[tuple[str, int], dict[str, list[str]]] = {}
    for one, after in itertools.pairwise(planned):
        if after.finished:
            for name, values in _parts(one.trainings).items():
                gone = _without(values, [*kept[name], *_parts(after.trainings)[name]])
                gone = _without(gone, before.get(name, []))
                dropped.setdefault((after.time, after.finished), {})[name] = gone
    for (time, finished), parts in dropped.items():
        found += _listed(
            "Planned", parts, f", dropped at {time}, when {finished} trials had finished"
        )
    return found


def _listed(what: str, parts: Mapping[str, Sequence[str]], when: str = "") -> list[str]:
    """The note on what is missing; none where nothing is."""
    names = [f"{name} {value}" for name, values in parts.items() for value in values]
    if not names:
        return []
    return [
        f"{what}, but not in this report: {', '.join(names)}{when}. A choice of trainings that "
        "follows their results makes p-values and intervals invalid."
    ]


def _without(values: Sequence[str], others: Sequence[str]) -> list[str]:
    return [value for value in values if value not in others]


def _parts(trainings: Trainings) -> dict[str, list[str]]:
    """What can be added, each as it is named."""
    return {
        "seed": [str(seed) for seed in trainings.seeds],
        "folds": [str(trainings.folds)],
        "repeat": [str(repeat) for repeat in range(2, trainings.repeats + 1)],
    }
