"""Which cases train, validate and test. Pure functions: nothing is read, drawn from a clock or from
a global state.

Order is decided by sha256(seed, unit), so it is the same on every machine and library version. A
unit is a patient where a grouping is given, otherwise a case; units never divide. In a study that
has its folds already, a case that was there keeps its part (`medvision.data.kept_splits`).
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from medvision.data.grouping import units_of
from medvision.data.kept_splits import EarlierSplit, Rank, Units, kept_folds, kept_set
from record.schema import Split

Rounding = Literal["nearest", "down"]
Validation = Literal["fraction", "fold"]
VALIDATION_EVERY = 5
_NO_VALIDATION = "no validation case is left"


@dataclass(frozen=True)
class Roles:
    """Case ids of one trial, in the study's order; `notes` says in words what was rounded or is
    missing.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def notes_for(self, select: str) -> tuple[str, ...]:
        """The notes, with what follows for a training whose `training.select` is this."""
        taken = ", so the last epoch is taken" if select in ("best", "smoothed") else ""
        return tuple(note + taken * (note == _NO_VALIDATION) for note in self.notes)


@dataclass(frozen=True)
class Fold:
    """`order`: units (tuples of case ids) that are not tested, in the study's order; `rounding` and
    `validation`: as of the spec's `splits`.
    """

    test: tuple[str, ...]
    order: tuple[tuple[str, ...], ...]
    rounding: Rounding = "nearest"
    validation: Validation = "fraction"

    def roles(self, fraction: float) -> Roles:
        """Training and validation cases at a fraction in (0, 1]; the test cases are the same at
        every fraction.

        Raises:
            ValueError: the fraction is outside (0, 1].
        """
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must lie in (0, 1], got {fraction}")
        exact = fraction * len(self.order)
        taken = whole(exact, self.rounding)
        train: list[str] = []
        validation: list[str] = []
        beyond = 0
        for position, unit in enumerate(self.order, start=1):
            if position % VALIDATION_EVERY == 0 and (
                position <= taken or self.validation == "fold"
            ):
                validation.extend(unit)
                beyond += len(unit) * (position > taken)
            elif position <= taken:
                train.extend(unit)
        notes = []
        if abs(taken - exact) > 1e-9:
            notes.append(
                f"fraction {fraction:g} of {len(self.order)} is {exact:g}, rounded to {taken}"
            )
        if beyond:
            notes.append(
                f"validates on {len(validation)} cases of the fold, {beyond} of them beyond the "
                "fraction (splits.validation: fold)"
            )
        if not validation:
            notes.append(_NO_VALIDATION)
        return Roles(tuple(train), tuple(validation), self.test, tuple(notes))


def whole(exact: float, rounding: Rounding) -> int:
    """A number of cases out of a share of them, at least 1."""
    return max(1, round(exact) if rounding == "nearest" else math.floor(exact))


def make_folds(
    volumes: Mapping[str, float],
    *,
    scheme: str,
    seed: int,
    folds: int = 5,
    test_fraction: float = 0.1,
    fixed_test: Sequence[str] = (),
    patients: Mapping[str, str] | None = None,
    earlier: EarlierSplit | None = None,
    rounding: Rounding = "nearest",
    validation: Validation = "fraction",
) -> list[Fold]:
    """The folds of one task.

    Args:
        volumes: case id -> foreground volume; k-fold and hold-out are stratified by it.
        scheme: `kfold` (every case is tested in exactly one fold), `holdout` (one fold,
            `test_fraction` of the cases) or `fixed` (one fold whose test cases are `fixed_test`).
        seed: decides the folds and the order.
        patients: case id -> patient (`patients_of`), None where every case is a patient of its own.
        earlier: of a study that has folds by the same scheme, seed and numbers; None of a new one.
        rounding: of the number of test cases of a hold-out, and of a fraction's.
        validation: which cases validate at a fraction, its own or the fold's.

    Raises:
        ValueError: fewer units than folds, no training unit would be left, or a case id that has no
            patient.
    """
    training = {case: volume for case, volume in volumes.items() if case not in set(fixed_test)}
    units = units_of(training, patients)
    order = _ordered(units, seed, earlier)
    if scheme == "fixed":
        if not fixed_test:
            raise ValueError(
                "scheme `fixed` needs test cases (imagesTs with labelsTs); the task has none"
            )
        test_patients = set(units_of(fixed_test, patients))
        if patients is not None and (shared := sorted(test_patients & set(units))):
            raise ValueError(f"patients in both training and test cases: {', '.join(shared)}")
        units_left = tuple(units[name] for name in order)
        return [Fold(tuple(fixed_test), units_left, rounding, validation)]
    if scheme == "holdout":
        if test_fraction > 0.5:
            raise ValueError(
                f"splits.test_fraction {test_fraction} leaves fewer training than test cases; use "
                "at most 0.5"
            )
        if len(units) < 2:
            raise ValueError("one case (or patient) cannot be divided into training and test cases")
        wanted = whole(test_fraction * len(units), rounding)
        test_sets = [
            _spread(units, training, wanted, seed, "test")
            if earlier is None
            else kept_set(units, earlier.fold.keys(), wanted, _ranks(seed), earlier)
        ]
    else:
        if len(units) < folds:
            raise ValueError(
                f"{len(units)} cases (or patients) cannot be divided into {folds} test sets"
            )
        assigned = (
            _stratified(units, training, folds, seed)
            if earlier is None
            else kept_folds(units, training, folds, _ranks(seed), earlier)
        )
        test_sets = [{name for name in units if assigned[name] == fold} for fold in range(folds)]
    return [
        Fold(
            test=tuple(case for name in order if name in tested for case in units[name]),
            order=tuple(units[name] for name in order if name not in tested),
            rounding=rounding,
            validation=validation,
        )
        for tested in test_sets
    ]


def study_order(
    cases: Iterable[str],
    *,
    seed: int,
    patients: Mapping[str, str] | None = None,
    earlier: EarlierSplit | None = None,
) -> tuple[tuple[str, ...], ...]:
    """Every unit in the order that fractions are prefixes of; arguments as for `make_folds`."""
    units = units_of(cases, patients)
    return tuple(units[name] for name in _ordered(units, seed, earlier))


def earlier_split(split: Split, seed: int) -> EarlierSplit:
    """What `make_folds` keeps of a study's split file."""
    return EarlierSplit.of(split, _ranks(seed))


def reserve(
    volumes: Mapping[str, float],
    *,
    share: float,
    seed: int,
    patients: Mapping[str, str] | None = None,
    earlier: EarlierSplit | None = None,
) -> tuple[tuple[str, ...], ...]:
    """Units set aside for a search of hyperparameters, in the study's order: the caller leaves them
    out of every fold.

    Args:
        share: of the units, in (0, 1). The others as for `make_folds`.

    Raises:
        ValueError: a case id that has no patient.
    """
    units = units_of(volumes, patients)
    wanted = round(share * len(units))
    chosen = (
        _spread(units, volumes, wanted, seed, "reserve")
        if earlier is None
        else kept_set(units, earlier.reserved, wanted, _ranks(seed), earlier)
    )
    return tuple(
        units[name] for name in sorted(chosen, key=lambda name: _rank(seed, "order", name))
    )


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
    """This many units, of all sizes: sorted by volume they are cut into equal runs, and a hash
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


def _ordered(units: Units, seed: int, earlier: EarlierSplit | None) -> list[str]:
    """Names of units in the study's order: those that were there, then new ones."""

    def key(name: str) -> tuple[bool, int, bytes]:
        place = earlier.place(units[name]) if earlier else None
        return place is None, place or 0, _rank(seed, "order", name)

    return sorted(units, key=key)


def _ranks(seed: int) -> Rank:
    return functools.partial(_rank, seed)


def _rank(seed: int, purpose: str, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{purpose}\n{name}".encode()).digest()
