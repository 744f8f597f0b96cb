"""Which cases train, validate and test. Pure functions: nothing is read, drawn from a clock or from
a global state.

Order is decided by sha256(seed, unit), so it is the same on every machine and library version, and
a new case does not reshuffle the others. A unit is a patient where a grouping is given, otherwise a
case; units never divide.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from record.schema import Split, SplitFold

VALIDATION_EVERY = 5
RULE = (
    "A fold's `order` lists the cases that are not its test cases, in the study's one order "
    "(sha256 of splits.seed and patient). A fraction f takes the first max(1, round(f * n)) "
    "patients of it; every fifth patient of the order validates, the others train. Smaller "
    "fractions are therefore contained in larger ones, in both roles."
)


@dataclass(frozen=True)
class Roles:
    """Case ids of one trial, in the study's order; `notes` says in words what was rounded or is
    missing.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fold:
    """`order`: units (tuples of case ids) that are not tested, in the study's order."""

    test: tuple[str, ...]
    order: tuple[tuple[str, ...], ...]

    def roles(self, fraction: float) -> Roles:
        """Training and validation cases at a fraction in (0, 1]; the test cases are the same at
        every fraction.

        Raises:
            ValueError: the fraction is outside (0, 1].
        """
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must lie in (0, 1], got {fraction}")
        exact = fraction * len(self.order)
        taken = max(1, round(exact))
        train: list[str] = []
        validation: list[str] = []
        for position, unit in enumerate(self.order[:taken], start=1):
            (train if position % VALIDATION_EVERY else validation).extend(unit)
        notes = []
        if abs(taken - exact) > 1e-9:
            notes.append(
                f"fraction {fraction:g} of {len(self.order)} is {exact:g}, rounded to {taken}"
            )
        if not validation:
            notes.append("no validation case is left, so the last epoch is taken")
        return Roles(tuple(train), tuple(validation), self.test, tuple(notes))


def make_folds(
    volumes: Mapping[str, float],
    *,
    scheme: str,
    seed: int,
    folds: int = 5,
    test_fraction: float = 0.1,
    fixed_test: Sequence[str] = (),
    patients: Mapping[str, str] | None = None,
) -> list[Fold]:
    """The folds of one task.

    Args:
        volumes: case id -> foreground volume; k-fold and hold-out are stratified by it.
        scheme: `kfold` (every case is tested in exactly one fold), `holdout` (one fold,
            `test_fraction` of the cases) or `fixed` (one fold whose test cases are `fixed_test`).
        seed: decides the folds and the order.
        patients: case id -> patient (`patients_of`), None where every case is a patient of its own.

    Raises:
        ValueError: fewer units than folds, no training unit would be left, or a case id that has no
            patient.
    """
    training = {case: volume for case, volume in volumes.items() if case not in set(fixed_test)}
    units = _units(training, patients)
    order = sorted(units, key=lambda name: _rank(seed, "order", name))
    if scheme == "fixed":
        if not fixed_test:
            raise ValueError(
                "scheme `fixed` needs test cases (imagesTs with labelsTs); the task has none"
            )
        test_patients = set(_units(fixed_test, patients))
        if patients is not None and (shared := sorted(test_patients & set(units))):
            raise ValueError(f"patients in both training and test cases: {', '.join(shared)}")
        return [Fold(tuple(fixed_test), tuple(units[name] for name in order))]
    if scheme == "holdout":
        if test_fraction > 0.5:
            raise ValueError(
                f"splits.test_fraction {test_fraction} leaves fewer training than test cases; use "
                "at most 0.5"
            )
        if len(units) < 2:
            raise ValueError("one case (or patient) cannot be divided into training and test cases")
        test_sets = [
            _spread(units, training, max(1, round(test_fraction * len(units))), seed, "test")
        ]
    else:
        if len(units) < folds:
            raise ValueError(
                f"{len(units)} cases (or patients) cannot be divided into {folds} test sets"
            )
        assigned = _stratified(units, training, folds, seed)
        test_sets = [{name for name in units if assigned[name] == fold} for fold in range(folds)]
    return [
        Fold(
            test=tuple(case for name in order if name in tested for case in units[name]),
            order=tuple(units[name] for name in order if name not in tested),
        )
        for tested in test_sets
    ]


def reserve(
    volumes: Mapping[str, float],
    *,
    share: float,
    seed: int,
    patients: Mapping[str, str] | None = None,
) -> tuple[tuple[str, ...], ...]:
    """Units set aside for a search of hyperparameters, in the study's order: the caller leaves them
    out of every fold.

    Args:
        share: of the units, in (0, 1). The others as for `make_folds`.

    Raises:
        ValueError: a case id that has no patient.
    """
    units = _units(volumes, patients)
    chosen = _spread(units, volumes, round(share * len(units)), seed, "reserve")
    return tuple(
        units[name] for name in sorted(chosen, key=lambda name: _rank(seed, "order", name))
    )


def patients_of(
    cases: Iterable[str],
    *,
    group_pattern: str | None = None,
    patients: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Case id -> patient of these cases; empty where neither grouping is given.

    Args:
        group_pattern: regular expression whose one group is the patient of a case id.
        patients: case id -> patient (`medvision.data.grouping`), instead of a pattern.

    Raises:
        ValueError: a case id that the pattern does not fit or that has no patient.
    """
    if group_pattern is not None:
        return {case: _matched(group_pattern, case) for case in cases}
    if patients is None:
        return {}
    return {case: name for name, members in _units(cases, patients).items() for case in members}


def to_split(
    folds: Sequence[Fold],
    settings: Mapping[str, Any],
    fingerprints: Mapping[str, str],
    patients: Mapping[str, str] | None = None,
) -> Split:
    """The split file that a reviewer can read: the rule, the settings, every case's content
    fingerprint, its patient where a grouping is given, and every fold."""
    split = Split(
        rule=RULE,
        settings=dict(settings),
        cases=dict(fingerprints),
        folds=[
            SplitFold(test=list(fold.test), order=[list(unit) for unit in fold.order])
            for fold in folds
        ],
    )
    grouped = {"patients": dict(sorted((patients or {}).items()))}
    return split.model_copy(update=grouped) if patients else split


def from_split(split: Split) -> list[Fold]:
    """The folds of a split file."""
    return [Fold(tuple(fold.test), tuple(map(tuple, fold.order))) for fold in split.folds]


def _matched(pattern: str, case: str) -> str:
    match = re.search(pattern, case)
    if match is None or match[1] is None:
        raise ValueError(f"splits.group_pattern {pattern!r} does not match the case {case!r}")
    if not match[1]:
        raise ValueError(
            f"splits.group_pattern {pattern!r} matches empty text in the case {case!r}: cases "
            "without a patient in their name would all be of one"
        )
    return match[1]


def _units(cases: Iterable[str], patients: Mapping[str, str] | None) -> dict[str, tuple[str, ...]]:
    """Patient, or case where none are given -> its cases."""
    cases = sorted(cases)
    if patients is not None and (unknown := [case for case in cases if case not in patients]):
        shown = ", ".join(unknown[:5]) + (
            f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        )
        raise ValueError(f"splits.group_file names no patient of {len(unknown)} cases: {shown}")
    units: dict[str, list[str]] = {}
    for case in cases:
        units.setdefault(case if patients is None else patients[case], []).append(case)
    return {name: tuple(members) for name, members in units.items()}


def _stratified(
    units: Mapping[str, tuple[str, ...]], volumes: Mapping[str, float], parts: int, seed: int
) -> dict[str, int]:
    """Unit -> part. Units sorted by mean volume are dealt in blocks of `parts`, each block in its
    own hashed order.
    """
    by_size = _by_size(units, volumes, seed)
    assigned: dict[str, int] = {}
    for start in range(0, len(by_size), parts):
        block = by_size[start : start + parts]
        hands = sorted(range(parts), key=lambda part: _rank(seed, f"block {start}", str(part)))
        assigned |= dict(zip(block, hands, strict=False))
    return assigned


def _spread(
    units: Mapping[str, tuple[str, ...]],
    volumes: Mapping[str, float],
    wanted: int,
    seed: int,
    purpose: str,
) -> set[str]:
    """So many units, of all sizes: sorted by volume they are cut into equal runs, and a hash
    chooses one of each.
    """
    by_size = _by_size(units, volumes, seed)
    runs = [
        by_size[run * len(units) // wanted : (run + 1) * len(units) // wanted]
        for run in range(wanted)
    ]
    return {min(run, key=lambda name: _rank(seed, purpose, name)) for run in runs}


def _by_size(
    units: Mapping[str, tuple[str, ...]], volumes: Mapping[str, float], seed: int
) -> list[str]:
    """Units from the smallest mean volume to the largest."""

    def size(name: str) -> float:
        return sum(volumes[case] for case in units[name]) / len(units[name])

    return sorted(units, key=lambda name: (size(name), _rank(seed, "tie", name)))


def _rank(seed: int, purpose: str, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{purpose}\n{name}".encode()).digest()
