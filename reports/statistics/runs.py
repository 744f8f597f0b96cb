"""Trainings as units: the signed-rank test over runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from reports.statistics.arrays import as_floats
from reports.statistics.wilcoxon import PairedWilcoxon, Zeros, paired_wilcoxon


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
