"""The split file of a task: folds as a reviewer can read them, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from medvision.data.repeats import REPEATED
from medvision.data.splits import Fold
from record.schema import Split, SplitFold

RULE = (
    "A fold's `order` lists the cases that are not its test cases, in the study's one order "
    "(sha256 of splits.seed and patient). A fraction f takes the first max(1, round(f * n)) "
    "patients of it; every fifth patient of the order validates, the others train. Smaller "
    "fractions are therefore contained in larger ones, in both roles. With rounding `down`, int() "
    "stands in the place of round(); with validation `fold`, all that validate at fraction 1 do at "
    "every fraction. Where cases came or went "
    "since the folds were made, `order` of the file is the study's order: new ones are at its end."
)


def to_split(
    folds: Sequence[Fold],
    settings: Mapping[str, Any],
    fingerprints: Mapping[str, str],
    patients: Mapping[str, str] | None = None,
    order: Sequence[Sequence[str]] = (),
    *,
    in_repeat: int | None = None,
    repeated_orders: Mapping[int, Sequence[Sequence[str]]] = MappingProxyType({}),
) -> Split:
    """The split file that a reviewer can read: the rule, the settings, every case's content
    fingerprint, its patient where a grouping is given, and every fold.

    Args:
        order: the study's order, where it does not follow from the seed alone.
        in_repeat: folds of each repeat, where there are several.
        repeated_orders: as `order`, of the repeats after the first.
    """
    split = Split(
        rule=f"{RULE} {REPEATED}" if in_repeat else RULE,
        settings=dict(settings),
        cases=dict(fingerprints),
        folds=[
            SplitFold(
                test=list(fold.test),
                order=[list(unit) for unit in fold.order],
                **({"repeat": number // in_repeat} if in_repeat else {}),
            )
            for number, fold in enumerate(folds)
        ],
    )
    more: dict[str, Any] = {"order": [list(unit) for unit in order]} if order else {}
    if repeated_orders:
        more["repeated_orders"] = {
            str(repeat): [list(unit) for unit in own] for repeat, own in repeated_orders.items()
        }
    if patients:
        more["patients"] = dict(sorted(patients.items()))
    return split.model_copy(update=more)


def from_split(split: Split) -> list[Fold]:
    """The folds of a split file."""
    how = {key: split.settings[key] for key in ("rounding", "validation") if key in split.settings}
    return [Fold(tuple(fold.test), tuple(map(tuple, fold.order)), **how) for fold in split.folds]
