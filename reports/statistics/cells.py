"""Paired differences by fold, training and case, reduced to what their likelihood needs.

A difference d_fsc of case c in fold f, from the training with seed s, is modelled as

    d_fsc = delta + T_f + R_fs + C_fc + E_fsc        (training set, training, case, rest)

The likelihood of this model needs no list of cases: cases of one fold that were seen by the same
trainings (a pattern) enter by their number, the sum and the sum of squares of their totals. So its
cost does not grow with the number of cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reports.statistics.arrays import as_floats
from reports.statistics.wilcoxon import Floats, Integers, positions, rounded

LONGEST = 40  # columns of 0 and 1 that are counted as one number
EFFECTS = (
    "fold",
    "training",
    "case",
)  # the random effects beside the rest, in this order everywhere


@dataclass(frozen=True, eq=False)
class Cells:
    """What the likelihood of n differences needs; b blocks of up to s cells, p patterns.

    A cell is one training (fold and seed). A block holds the cells of folds that share cases: one
    fold, or all folds where a cross-validation was repeated. Sums are those of two vectors, ones
    and the values (d - shift) / scale, so that their first axis has 2 entries.
    """

    n: int
    levels: tuple[int, int, int]  # of EFFECTS
    counts: Mapping[str, int]  # differences (n), folds, trainings, cases and repeats as given
    shift: float
    scale: float  # 0 where all differences are equal
    estimable: NDArray[np.bool_]  # [3] which of EFFECTS this design can tell from the others
    idle: str  # "training" or "case" where it changes no difference; it then has one level a fold
    gram: Floats  # [2, 2] products of the vectors
    sums: Floats  # [2, b, s] over each cell, 0 where a block has fewer cells
    members: Floats  # [b, s, folds] 1 where a cell belongs to a fold
    same_fold: Floats  # [b, s, s] 1 where two cells belong to one fold
    block: Floats  # [b, p] 1 where a pattern belongs to a block
    seen: Floats  # [p, s] 1 where the pattern's cases have a value in the cell
    seen_pairs: Floats  # [p, s * s] 1 where they have one in both of two cells
    size: Floats  # [p] values of one case
    number: Floats  # [p] cases
    case_sums: Floats  # [2, p] over all cases of the pattern
    case_gram: Floats  # [2, 2, p] products of a case's two sums, over all cases of the pattern


def cells(
    differences: ArrayLike,
    fold: Sequence[object],
    training: Sequence[object],
    case: Sequence[object],
    repeat: Sequence[object] | None = None,
) -> Cells:
    """Reduce n differences; fold, training, case (and repeat) name the levels of each, [n].

    Args:
        differences: [n], finite; rounded to 1e-9, as the tests over cases do.
        fold: which training set.
        training: the seed within its fold.
        case: the test case or patient, within its fold.
        repeat: the cross-validation that a fold belongs to, where several were made. Folds are then
            named within their repeat, and a case is the same one in every repeat.

    Raises:
        ValueError: lengths differ, nothing is left, a value is not finite, or a case has two values
            from one training.
    """
    d = _finite(differences)
    labelled = {"fold": fold, "training": training, "case": case, "repeat": repeat}
    for name, labels in labelled.items():
        if labels is not None and len(labels) != len(d):
            raise ValueError(
                f"differences and their labels must be equally long, but there are {len(d)} "
                f"differences and {len(labels)} labels of {name}"
            )
    repeats = len(set(repeat)) if repeat is not None else 1
    fold_of = _codes(fold) if repeat is None else _codes(_codes(repeat), _codes(fold))
    cell_of = _codes(fold_of, _codes(training))
    case_of = _codes(case) if repeats > 1 else _codes(fold_of, _codes(case))
    width = int(case_of.max()) + 1
    once, times = np.unique(cell_of * width + case_of, return_counts=True)
    if len(times) < len(d):
        cell, twice = divmod(int(once[times.argmax()]), width)
        at = np.flatnonzero((cell_of == cell) & (case_of == twice))
        raise ValueError(
            f"a case has {times.max()} differences from one training (positions {at.tolist()} from "
            "0); average the label groups of a case and the cases of a patient first"
        )
    design = {
        name: len(set(of.tolist()))
        for name, of in (("folds", fold_of), ("trainings", cell_of), ("cases", case_of))
    }
    counts = {"n": len(d)} | design | {"repeats": repeats}
    by_case = _codes(fold_of, case_of)
    if _changes_nothing(d, by_case):
        first = np.unique(by_case, return_index=True)[1]
        return _reduced(
            d[first], fold_of[first], fold_of[first], case_of[first], counts, "training"
        )
    if _changes_nothing(d, cell_of):
        first = np.unique(cell_of, return_index=True)[1]
        return _reduced(d[first], fold_of[first], cell_of[first], fold_of[first], counts, "case")
    return _reduced(d, fold_of, cell_of, case_of, counts)


def _changes_nothing(d: Floats, group: Integers) -> bool:
    """Whether some groups have several values and all values of each are equal."""
    _, first, of = np.unique(group, return_index=True, return_inverse=True)
    return len(first) < len(d) and bool((d == d[first][of]).all())


def _reduced(
    d: Floats,
    fold_of: Integers,
    cell_of: Integers,
    case_of: Integers,
    counts: dict[str, int],
    idle: str = "",
) -> Cells:
    varies = np.ptp(d) > 0
    shift, scale = (float(d.mean()), float(d.std())) if varies else (float(d[0]), 0.0)
    y = (d - shift) / scale if varies else np.zeros_like(d)
    fold_of_cell = np.zeros(cell_of.max() + 1, dtype=np.int64)
    fold_of_cell[cell_of] = fold_of
    block_of_fold = (
        np.zeros(fold_of.max() + 1, int) if counts["repeats"] > 1 else np.arange(fold_of.max() + 1)
    )
    block_of_cell = block_of_fold[fold_of_cell]
    slot_of_cell = _within(block_of_cell)
    b, s = block_of_fold.max() + 1, slot_of_cell.max() + 1

    def per_cell(weights: Floats) -> Floats:
        placed = np.zeros((b, s))
        placed[block_of_cell, slot_of_cell] = np.bincount(cell_of, weights)
        return placed

    members = np.zeros((b, s, len(block_of_fold)))
    members[block_of_cell, slot_of_cell, fold_of_cell] = 1

    cases = case_of.max() + 1
    seen = np.zeros((cases, s))
    seen[case_of, slot_of_cell[cell_of]] = 1
    block_of_case = np.zeros(cases, int)
    block_of_case[case_of] = block_of_cell[cell_of]
    patterns, pattern_of = _distinct(np.column_stack([block_of_case, seen]))
    seen, size = patterns[:, 1:], patterns[:, 1:].sum(axis=1)
    number = np.bincount(pattern_of).astype(np.float64)
    per_case = np.bincount(case_of, y)
    totals, squares = (np.bincount(pattern_of, per_case**power) for power in (1, 2))
    return Cells(
        n=len(d),
        levels=(len(block_of_fold), len(fold_of_cell), cases),
        counts=counts,
        shift=shift,
        scale=scale,
        estimable=_estimable(fold_of, cell_of, case_of),
        idle=idle,
        gram=np.array([[len(d), y.sum()], [y.sum(), y @ y]]),
        sums=np.stack([per_cell(np.ones_like(y)), per_cell(y)]),
        members=members,
        same_fold=members @ members.swapaxes(1, 2),
        block=(np.arange(b)[:, None] == patterns[:, 0]).astype(np.float64),
        seen=seen,
        seen_pairs=(seen[:, :, None] * seen[:, None, :]).reshape(len(seen), -1),
        size=size,
        number=number,
        case_sums=np.stack([number * size, totals]),
        case_gram=np.array([[number * size**2, size * totals], [size * totals, squares]]),
    )


def _estimable(fold_of: Integers, cell_of: Integers, case_of: Integers) -> NDArray[np.bool_]:
    """Which effects are not the same split of the values as another one.

    With one training a fold its effect is the fold's; with one value a case, the case's effect is
    the rest; with one case a fold, the case's is the fold's and the training's is the rest. One
    fold is one training set, and from one nothing can be said about others.
    """
    n = len(fold_of)
    folds, trainings, cases = (len(np.unique(of)) for of in (fold_of, cell_of, case_of))
    fold = 1 < folds < n
    training = folds < trainings < n
    case = cases < n and not (folds == cases and len(_pairs(fold_of, case_of)) == cases)
    return np.array([fold, training, case])


def _pairs(first: Integers, second: Integers) -> Integers:
    """The distinct pairs, as one number each."""
    return np.unique(first * (int(second.max()) + 1) + second)


def _distinct(rows: Floats) -> tuple[Floats, Integers]:
    """The distinct rows [p, k] in lexical order, and which each is [n]; all but the first column
    are 0 or 1. As `np.unique` along an axis, which takes ten times as long.
    """
    number, bits = rows[:, 0].astype(np.int64), rows.shape[1] - 1
    if bits > LONGEST or number.max() >= 2 ** (62 - bits):
        distinct, of = np.unique(rows, axis=0, return_inverse=True)
        return distinct, of.ravel()
    for column in rows[:, 1:].T.astype(np.int64):
        number = 2 * number + column
    _, first, of = np.unique(number, return_index=True, return_inverse=True)
    return rows[first], of


def _codes(*labels: Sequence[object] | Integers) -> Integers:
    """0, 1, ... for the distinct values, or distinct pairs of values, of labels [n]."""
    numbers: dict[object, int] = {}
    rows = zip(*labels, strict=True) if len(labels) > 1 else iter(labels[0])
    return np.array([numbers.setdefault(row, len(numbers)) for row in rows], dtype=np.int64)


def _within(group: Integers) -> Integers:
    """The position of each element among those of its group [n]."""
    order = np.argsort(group, kind="stable")
    place = np.empty_like(group)
    counts = np.bincount(group)
    place[order] = np.concatenate([np.arange(count) for count in counts])
    return place


def _finite(differences: ArrayLike) -> Floats:
    d = as_floats(differences)
    if d.ndim != 1 or not d.size:
        raise ValueError(f"differences must be a list of at least one number, but have {d.shape}")
    wrong: NDArray[np.bool_] = ~np.isfinite(d)
    if wrong.any():
        raise ValueError(
            f"differences must be finite, but are not at {positions(wrong)} (positions from 0); "
            "cap infinite distances and leave out cases that do not apply first"
        )
    return rounded(d)
