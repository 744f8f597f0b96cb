"""Several cross-validations of the same cases, each with a shuffle of its own."""

from __future__ import annotations

from medvision.seeds import derive_seed
from record.schema import Split

REPEATED = (
    "A fold's `repeat` is the cross-validation that it belongs to. Each has a shuffle and an order "
    "of its own (in place of splits.seed a number drawn from it and from the repeat), and tests "
    "every case once."
)


def repeat_seed(seed: int, repeat: int) -> int:
    """The seed of one cross-validation of several: the study's of the first, which is the only one
    where nothing is repeated.
    """
    return derive_seed("repeat", seed, repeat) if repeat else seed


def of_repeat(split: Split, repeat: int) -> Split | None:
    """What a split file says of one cross-validation; None where it has no such repeat."""
    folds = [fold for fold in split.folds if fold.repeat == repeat]
    if not folds:
        return None
    order = split.repeated_orders.get(str(repeat), []) if repeat else split.order
    return split.model_copy(update={"folds": folds, "order": order})
