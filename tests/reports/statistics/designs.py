"""Paired differences by fold, training and case for tests: fixed ones, and random ones."""

from typing import NamedTuple

import numpy as np
from scipy import stats


class Design(NamedTuple):
    differences: np.ndarray
    fold: np.ndarray
    training: np.ndarray
    case: np.ndarray

    def labels(self):
        return {"fold": self.fold, "training": self.training, "case": self.case}

    def __getitem__(self, rows):
        return Design(*(column[rows] for column in tuple(self)))


def crossed(cases_of_fold, seeds):
    """Labels of every case of every fold with every seed; cases are named within their fold."""
    rows = [
        (fold, seed, case)
        for fold, cases in enumerate(cases_of_fold)
        for seed in range(seeds)
        for case in range(cases)
    ]
    return (np.array(column) for column in zip(*rows, strict=True))


def effects(fold, training, case, variances, draw, mean=0.0):
    """The sum of effects with variances of fold, training, case and rest; draw(n) draws n."""
    total = np.full(len(fold), float(mean))
    keys = (fold, fold * 1000 + training, fold * 1000 + case, np.arange(len(fold)))
    for key, variance in zip(keys, variances, strict=True):
        levels, of = np.unique(key, return_inverse=True)
        total += np.sqrt(variance) * draw(len(levels))[of]
    return total


def fixed(cases_of_fold, seeds, variances, mean=0.2, keep=lambda rows: rows >= 0):
    """Differences that are the same everywhere: normal quantiles of an irrational rotation."""
    fold, training, case = crossed(cases_of_fold, seeds)
    step = iter(np.sqrt([2, 3, 5, 7]))

    def draw(n):
        return stats.norm.ppf(np.clip((np.arange(1, n + 1) * next(step)) % 1, 0.001, 0.999))

    values = np.round(effects(fold, training, case, variances, draw, mean), 6)
    return Design(values, fold, training, case)[keep(np.arange(len(fold)))]


def random(rng, cases_of_fold, seeds, variances, mean=0.0):
    fold, training, case = crossed(cases_of_fold, seeds)
    values = effects(fold, training, case, variances, rng.standard_normal, mean)
    return Design(values, fold, training, case)
