"""Trainings as units: a signed-rank test over runs, and a model compared with itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reports.statistics.arrays import as_floats
from reports.statistics.methods import method_difference
from reports.statistics.wilcoxon import (
    Floats,
    PairedWilcoxon,
    Zeros,
    paired_differences,
    paired_wilcoxon,
)

ALPHA = 0.05
Scores = dict[tuple[object, object], tuple[float, float]]  # (fold, case) -> raw and capped score


def wilcoxon_over_runs(
    differences: ArrayLike,
    *,
    fold: Sequence[object],
    training: Sequence[object],
    zeros: Zeros = "pratt",
) -> PairedWilcoxon:
    """The exact signed-rank test of the mean differences of runs, one for each fold and training.

    It takes runs for independent. The runs of one fold share their test cases and their training
    set, so p is too small wherever these matter (docs/statistics.md): a detail, not a verdict.

    Args:
        differences: [n] of all cases, infinite distances capped.
        fold: of each.
        training: the seed of each within its fold.
        zeros: as in `paired_wilcoxon`.
    """
    of_run: dict[object, list[float]] = {}
    values = as_floats(differences).tolist()
    for value, *run in zip(values, fold, training, strict=True):
        of_run.setdefault(tuple(run), []).append(value)
    means = [math.fsum(of) / len(of) for of in of_run.values()]
    return paired_wilcoxon(means, np.zeros(len(means)), zeros=zeros)


@dataclass(frozen=True)
class SelfComparison:
    """One model's trainings compared pair by pair, as if two seeds were two models.

    Shares are of the pairs that can be tested, NaN if none can. Under a right test about 5 % of
    many independent pairs have p < 0.05; pairs of one study share their seeds and cases, so that
    its share scatters far more.
    """

    pairs: int
    cases_share: float  # p < 0.05 in the exact test over cases
    methods_share: float  # p < 0.05 in `method_difference`
    typical: float  # median size of the mean differences
    largest: float
    differences: tuple[float, ...]  # mean difference of every pair
    p_cases: tuple[float, ...]  # NaN: not testable, here and below
    p_methods: tuple[float, ...]


def self_comparison(
    values: ArrayLike,
    *,
    fold: Sequence[object],
    seed: Sequence[object],
    case: Sequence[object],
    capped: ArrayLike | None = None,
) -> SelfComparison:
    """Compare every two seeds of one model over the cases that both have tested.

    Args:
        values: [n] scores of one model; infinite distances stay as they are, NaN does not apply.
        fold: of each.
        seed: of each; a seed is the same one in all folds.
        case: the test case or patient, within its fold.
        capped: [n] the scores with infinite distances capped, if there are any.

    Raises:
        ValueError: two scores of one case and seed, or infinite values without `capped`.
    """
    raw = as_floats(values)
    finite = raw if capped is None else as_floats(capped)
    cells: dict[object, Scores] = {}
    rows = zip(raw.tolist(), finite.tolist(), fold, case, seed, strict=True)
    for score, used, in_fold, of_case, of_seed in rows:
        scores = cells.setdefault(of_seed, {})
        if (in_fold, of_case) in scores:
            raise ValueError(
                f"case {of_case!r} of fold {in_fold!r} has two scores from seed {of_seed!r}; "
                "average the label groups of a case and the cases of a patient first"
            )
        if not math.isnan(score):
            scores[in_fold, of_case] = (score, used)
    found = [_pair(cells[one], cells[other]) for one, other in itertools.combinations(cells, 2)]
    differences, p_cases, p_methods = map(tuple, zip(*found, strict=True)) if found else ((),) * 3
    sizes = np.abs([size for size in differences if not math.isnan(size)])
    return SelfComparison(
        pairs=len(found),
        cases_share=_share(p_cases),
        methods_share=_share(p_methods),
        typical=float(np.median(sizes)) if len(sizes) else math.nan,
        largest=float(sizes.max()) if len(sizes) else math.nan,
        differences=differences,
        p_cases=p_cases,
        p_methods=p_methods,
    )


def _pair(one: Scores, other: Scores) -> tuple[float, float, float]:
    """Mean difference, p over cases and p of methods of two seeds; NaN where it cannot be had."""
    shared = [key for key in one if key in other]
    if not shared:
        return math.nan, math.nan, math.nan
    first, second = (np.array([scores[key] for key in shared]) for scores in (one, other))
    test = paired_wilcoxon(first[:, 0], second[:, 0])
    capped, _ = paired_differences(first[:, 1], second[:, 1])
    result = method_difference(
        capped,
        fold=[fold for fold, _ in shared],
        training=[0] * len(shared),
        case=[case for _, case in shared],
    )
    p_cases = test.p if test.p_floor < ALPHA else math.nan
    return float(capped.mean()), p_cases, result.p


def _share(p: tuple[float, ...]) -> float:
    tested: Floats = np.array([value for value in p if not math.isnan(value)])
    return float((tested < ALPHA).mean()) if len(tested) else math.nan
