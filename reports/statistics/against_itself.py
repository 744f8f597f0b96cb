"""A model compared with itself: every two of its seeds, as if they were two models."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reports.statistics.adjustment import ALPHA
from reports.statistics.arrays import as_floats
from reports.statistics.methods import method_difference
from reports.statistics.pairing import told_apart
from reports.statistics.single_trainings import single_trainings
from reports.statistics.wilcoxon import Floats, Integers, near_level, paired_differences, rounded


@dataclass(frozen=True)
class SelfComparison:
    """One model's trainings compared pair by pair, as if two seeds were two models.

    Shares are of the pairs that can be tested, NaN if none can. Under a right test about 5 % of
    many independent pairs have p < 0.05; pairs of one study share their seeds and cases, so that
    its share scatters far more.
    """

    possible: int  # pairs of seeds
    seeds: tuple[tuple[object, object], ...]  # the pairs that were compared, the first minus
    cases_share: float  # p < 0.05 in the exact test over cases
    methods_share: float  # p < 0.05 in `method_difference`
    typical: float  # median size of the mean differences
    largest: float
    differences: tuple[float, ...]  # mean difference of every pair
    p_cases: tuple[float, ...]  # NaN: not testable, here and below
    p_methods: tuple[float, ...]

    @property
    def pairs(self) -> int:
        return len(self.seeds)


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Where n scores of one model stand in a table of seeds and cases."""

    seeds: tuple[object, ...]
    row: Integers  # [n] the seed of each score
    column: Integers  # [n] its case
    fold: Integers  # [cases] number of the fold of each case
    training_set: Integers  # [cases] number of its training set
    repeat: Integers  # [cases] number of its cross-validation
    unit: Integers  # [cases] number of the case itself, which has a place in every cross-validation

    def table(self, scores: Floats) -> Floats:
        """Scores [n] as [seeds, cases], NaN where there is none."""
        table = np.full((len(self.seeds), len(self.fold)), np.nan)
        table[self.row, self.column] = scores
        return table


def arrange(
    fold: Sequence[object],
    seed: Sequence[object],
    case: Sequence[object],
    training_set: Sequence[object] | None = None,
    repeat: Sequence[object] | None = None,
) -> Arrangement:
    """Sort n scores by seed and case; arguments and errors as of `self_comparison`."""
    seeds, row = _codes(seed)
    places, column = _codes(list(zip(fold, case, strict=True)))
    first = np.unique(row * max(len(places), 1) + column, return_index=True)[1]
    if len(first) < len(row):
        at = int(np.setdiff1d(np.arange(len(row)), first)[0])
        raise ValueError(
            f"case {case[at]!r} of fold {fold[at]!r} has two scores from seed {seed[at]!r}; "
            "average the label groups of a case and the cases of a patient first"
        )
    of_place = np.unique(column, return_index=True)[1].tolist()
    sets = fold if training_set is None else training_set
    units = list(range(len(places))) if repeat is None else [case[index] for index in of_place]
    names = [
        [of[index] for index in of_place]
        for of in (fold, sets, [0] * len(row) if repeat is None else repeat)
    ]
    labels = [_codes(of)[1] for of in (*names, units)]
    return Arrangement(tuple(seeds), row, column, *labels)


def self_comparison(
    values: ArrayLike,
    *,
    fold: Sequence[object],
    seed: Sequence[object],
    case: Sequence[object],
    capped: ArrayLike | None = None,
    training_set: Sequence[object] | None = None,
    repeat: Sequence[object] | None = None,
    most: int | None = None,
) -> SelfComparison:
    """Compare the seeds of one model, two by two, over the cases that both have tested.

    Args:
        values: [n] scores of one model; infinite distances stay as they are, NaN does not apply.
        fold: of each.
        seed: of each; a seed is the same one in all folds.
        case: the test case or patient, within its fold.
        capped: [n] the scores with infinite distances capped, if there are any.
        training_set: of each, where folds share one; by default every fold has its own.
        repeat: which cross-validation, if several were made of the same cases.
        most: pairs to compare; of more, so many are drawn, always the same ones.

    Returns:
        Of pairs with more than 50 cases that differ, p_cases is exact near 0.05 only
        (`near_level`).

    Raises:
        ValueError: two scores of one case and seed, or infinite values without `capped`.
    """
    raw = as_floats(values)
    finite = raw if capped is None else as_floats(capped)
    of = arrange(fold, seed, case, training_set, repeat)
    return compare_seeds(of, raw, finite, most=most)


def compare_seeds(
    of: Arrangement, raw: Floats, capped: Floats, *, most: int | None = None
) -> SelfComparison:
    """`self_comparison` of scores [n] whose places are known, for several metrics of one model."""
    tables = np.stack([of.table(raw), of.table(capped)])
    if np.isinf(tables[1]).any():
        raise ValueError("scores hold infinite values: give them with distances capped, too")
    possible = list(itertools.combinations(range(len(of.seeds)), 2))
    chosen = possible
    if most is not None and most < len(possible):
        drawn = np.random.default_rng(0).choice(len(possible), most, replace=False)
        chosen = [possible[index] for index in sorted(drawn.tolist())]
    differences, p_cases, p_methods = _compared(tables, chosen, of)
    sizes = np.abs(differences[~np.isnan(differences)])
    return SelfComparison(
        possible=len(possible),
        seeds=tuple((of.seeds[one], of.seeds[other]) for one, other in chosen),
        cases_share=_share(p_cases),
        methods_share=_share(p_methods),
        typical=float(np.median(sizes)) if len(sizes) else math.nan,
        largest=float(sizes.max()) if len(sizes) else math.nan,
        differences=tuple(differences.tolist()),
        p_cases=tuple(p_cases.tolist()),
        p_methods=tuple(p_methods.tolist()),
    )


def _compared(tables: Floats, pairs: list[tuple[int, int]], of: Arrangement) -> Floats:
    """Mean difference, p over cases and p of methods of pairs of rows: [3, pairs], NaN where one
    cannot be had.

    tables: [2, seeds, cases], raw and capped; pairs that have the same cases go together.
    """
    found = np.full((3, len(pairs)), np.nan)
    seen = ~np.isnan(tables[0])
    together: dict[bytes, list[int]] = {}
    for place, (one, other) in enumerate(pairs):
        together.setdefault((seen[one] & seen[other]).tobytes(), []).append(place)
    for shared, members in together.items():
        kept = np.frombuffer(shared, dtype=bool)
        if not kept.any():
            continue
        ones, others = np.array([pairs[place] for place in members]).T
        mine, theirs = (tables[:, rows][:, :, kept] for rows in (ones, others))
        differences = rounded(mine[1] - theirs[1])
        told = told_apart(mine[0], theirs[0], mine[1], theirs[1])
        once = [_of_cases(scores, of.unit[kept]) for scores in told]
        found[0, members] = differences.mean(axis=1)
        found[1, members] = [
            near_level(paired_differences(x, y)[0], level=ALPHA) for x, y in zip(*once, strict=True)
        ]
        found[2, members] = _p_methods(differences, kept, of)
    return found


def _of_cases(scores: Floats, unit: Integers) -> Floats:
    """Scores [p, n] with the cross-validations of a case averaged."""
    numbers, place = np.unique(unit, return_inverse=True)
    if len(numbers) == len(unit):
        return scores
    with np.errstate(invalid="ignore"):
        return np.array([[row[place == k].mean() for k in range(len(numbers))] for row in scores])


def _p_methods(differences: Floats, kept: NDArray[np.bool_], of: Arrangement) -> Floats:
    """Of pairs [p, n] over the same cases: at once where each training set has one training."""
    fold, training_set, repeat = of.fold[kept], of.training_set[kept], of.repeat[kept]
    repeated = len(np.unique(repeat)) > 1
    own = len(np.unique(fold)) == len(np.unique(training_set)) and not repeated
    p = single_trainings(differences, fold).p if own else np.full(len(differences), np.nan)
    if len(np.unique(training_set)) > 1:
        for place in np.flatnonzero(np.isnan(p) & (np.ptp(differences, axis=1) > 0)):
            p[place] = method_difference(
                differences[place],
                fold=training_set.tolist(),
                training=fold.tolist(),
                case=of.unit[kept].tolist(),
                repeat=repeat.tolist() if repeated else None,
            ).p
    return p


def _codes(labels: Sequence[object]) -> tuple[list[object], Integers]:
    """The distinct labels in their order, and the number of each label [n]."""
    numbers: dict[object, int] = {}
    codes = [numbers.setdefault(label, len(numbers)) for label in labels]
    return list(numbers), np.array(codes, dtype=np.int64)


def _share(p: NDArray[np.float64]) -> float:
    tested = p[~np.isnan(p)]
    return float((tested < ALPHA).mean()) if len(tested) else math.nan
