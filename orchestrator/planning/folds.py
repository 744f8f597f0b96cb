"""Who trains, validates and tests in a study, and who is kept for its search.

A study that has its folds keeps them when cases come or go, as long as the spec divides them in the
same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medvision.data.fingerprints import CaseIndex
from medvision.data.grouping import patients_of, read_patients
from medvision.data.kept_splits import changes
from medvision.data.readers.base import Task
from medvision.data.repeats import of_repeat, repeat_seed
from medvision.data.splits import (
    VALIDATION_EVERY,
    Fold,
    earlier_split,
    make_folds,
    reserve,
    study_order,
)
from medvision.errors import DataError
from orchestrator.spec.data import SplitsSpec
from orchestrator.spec.study import Spec
from record.schema import Split

Units = tuple[tuple[str, ...], ...]
# What divides the cases, by the scheme; the other keys of `splits` do nothing then.
_DECIDES = {
    "kfold": ("scheme", "seed", "folds", "group_file", "group_pattern"),
    "holdout": ("scheme", "seed", "test_fraction", "rounding", "group_file", "group_pattern"),
    "fixed": ("scheme", "seed", "group_file", "group_pattern"),
}


@dataclass(frozen=True)
class Divided:
    """The folds of a task, of all repeats, and the units of its search.

    Attributes:
        order: the study's, where it does not follow from the seed.
        repeated_orders: as `order`, of the repeats after the first.
        changes: what came, went and moved since the folds were made, in words.
    """

    folds: tuple[Fold, ...]
    reserved: Units = ()
    order: Units = ()
    repeated_orders: Mapping[int, Units] = field(default_factory=dict)
    changes: str = ""


def split_settings(spec: Spec) -> dict[str, Any]:
    """What a split file says of how it was made."""
    values = spec.splits.model_dump(mode="json") | {"folds": spec.folds}
    if spec.splits.repeats == 1:
        del values["repeats"]
    return values


def patients_in(spec: Spec, task: Task, cases: Iterable[str]) -> dict[str, str]:
    """Case id -> patient of the cases in use; empty without a grouping.

    Raises:
        DataError: the file or the pattern does not give the patient of a case.
    """
    named, pattern = spec.splits.group_file, spec.splits.group_pattern
    listed = read_patients(task.folder / Path(named).expanduser()) if named else None
    try:
        return patients_of(cases, group_pattern=pattern, patients=listed)
    except ValueError as error:
        raise DataError(f"task {task.name!r}: {error}") from error


def divided(
    spec: Spec,
    task: Task,
    cases: Sequence[CaseIndex],
    patients: Mapping[str, str],
    split: Split | None,
) -> Divided:
    """The folds of a task, and the units that a search has for itself.

    Args:
        cases: in use.
        patients: of `patients_in`.
        split: what the study's split file says, None of a new study.

    Raises:
        DataError: the cases cannot be divided in this way.
    """
    given = {case.id for case in task.test_cases}
    tested = (
        [case.id for case in cases if case.id in given] if spec.splits.scheme == "fixed" else []
    )
    volumes = {case.id: case.volume_mm3 for case in cases}
    seed, grouped = spec.splits.seed, patients or None
    if split is not None and not _goes_on(spec, split, volumes):
        split = None
    seeds = [repeat_seed(seed, repeat) for repeat in range(spec.splits.repeats)]
    before = [of_repeat(split, repeat) if split else None for repeat in range(len(seeds))]
    earlier = [
        earlier_split(one, own) if one else None for one, own in zip(before, seeds, strict=True)
    ]

    def divide(units: Mapping[str, float]) -> list[list[Fold]]:
        """The folds of each repeat."""
        return [
            make_folds(
                units,
                scheme=spec.splits.scheme,
                seed=own,
                folds=spec.folds,
                test_fraction=spec.splits.test_fraction,
                fixed_test=tested,
                patients=grouped,
                earlier=known,
                rounding=spec.splits.rounding,
                validation=spec.splits.validation,
            )
            for own, known in zip(seeds, earlier, strict=True)
        ]

    try:
        reserved: Units = ()
        folds = divide(volumes)
        if spec.search is not None and spec.search.cases == "nested":
            fewest = min(len(fold.order) for repeat in folds for fold in repeat)
            _enough(fewest, "cases: nested", "use more cases, or search.cases: reserved")
        elif spec.search is not None:
            share = spec.search.reserved_fraction
            untested = {case: size for case, size in volumes.items() if case not in set(tested)}
            reserved = reserve(
                untested, share=share, seed=seed, patients=grouped, earlier=earlier[0]
            )
            setting = f"reserved_fraction: {share:g}"
            _enough(len(reserved), setting, "raise it, or set search.cases: nested")
            taken = {case for unit in reserved for case in unit}
            volumes = {case: size for case, size in volumes.items() if case not in taken}
            folds = divide(volumes)
    except ValueError as error:
        raise DataError(f"task {task.name!r}: {error}") from error
    every = tuple(fold for repeat in folds for fold in repeat)
    if split is None:
        return Divided(every, reserved)
    others = [case for case in volumes if case not in set(tested)]
    orders: dict[int, Units] = {}
    for repeat, own in enumerate(seeds):
        order, plain = (
            study_order(others, seed=own, patients=grouped, earlier=known)
            for known in (earlier[repeat], None)
        )
        if order != plain:
            orders[repeat] = order
    moved = changes(before[0] or split, [fold.test for fold in folds[0]], volumes)
    if moved and len(seeds) > 1:
        moved = f"{moved}; likewise in the other repeats"
    return Divided(every, reserved, orders.pop(0, ()), orders, moved)


def _goes_on(spec: Spec, split: Split, cases: Iterable[str]) -> bool:
    """Whether a split was made as the spec divides, and contains any of these cases."""
    # An older study's file may lack what the spec can say today.
    then, now = SplitsSpec().model_dump(mode="json") | split.settings, split_settings(spec)
    if any(then.get(key) != now[key] for key in _DECIDES[spec.splits.scheme]):
        return False
    fold, reserved = split.folds[0], len(split.reserved_for_search)
    search = spec.search if spec.search and spec.search.cases == "reserved" else None
    if bool(reserved) != (search is not None):
        return False
    there = {*fold.test, *(case for unit in fold.order for case in unit)}
    if search is not None:
        patients = {split.patients.get(case, case) for case in there}
        tested = spec.splits.scheme == "fixed"
        if tested:
            patients -= {split.patients.get(case, case) for case in fold.test}
        if reserved != round(search.reserved_fraction * (len(patients) + reserved)):
            return False
    return not there.isdisjoint(cases)


def _enough(units: int, setting: str, remedy: str) -> None:
    if units < VALIDATION_EVERY:
        raise ValueError(
            f"search.{setting} leaves the search {units} cases (or patients); it needs "
            f"{VALIDATION_EVERY}, one to validate and the others to train: {remedy}"
        )
