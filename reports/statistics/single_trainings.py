"""`method_difference` of many lists of differences at once, where each fold was trained once.

With one training a fold its effect is part of the fold's, and a case's part of the rest: the model
of `cells` becomes d_fc = delta + T_f + E_fc, whose restricted likelihood needs the means, sizes and
inner squares of the folds alone. So it is where each training has one number. That this is what
`method_difference` computes one by one is a test
(tests/reports/statistics/test_single_trainings.py).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit

from reports.statistics.methods import relaxation
from reports.statistics.wilcoxon import Floats, rounded

TAIL = 0.025  # on either side of the intervals
_LARGEST = 20.0  # log(1 + ratio x values of a fold), as in `components`
_POINTS = 101  # of the grid on which the highest likelihood is bracketed
_HALVINGS = 60  # of that bracket
_NOTHING = 1e-18  # inner squares that are rounding only, relative to all squares


class Differences(NamedTuple):
    """The means with their 95 % intervals and tests, [p] each; NaN where there is none."""

    estimate: Floats
    low: Floats
    high: Floats
    p: Floats
    df: Floats


def single_trainings(differences: ArrayLike, fold: ArrayLike) -> Differences:
    """`method_difference` of p lists of n differences with the same folds.

    Of a row without any difference p is 1. There is no test with one fold, of equal differences
    that are not 0, and of rows that do not vary within folds of several values, for which this is
    not the model: ask `method_difference`.

    Args:
        differences: [p, n], finite; a value a case, or a training, of each fold.
        fold: [n] of each.
    """
    d = rounded(np.asarray(differences, dtype=np.float64))
    _, of, sizes = np.unique(np.asarray(fold), return_inverse=True, return_counts=True)
    member = (of == np.arange(len(sizes))[:, None]).astype(np.float64)
    n = sizes.astype(np.float64)
    means = d @ member.T / n
    inner = ((d - means[:, of]) ** 2).sum(axis=1)
    found = Differences(d.mean(axis=1), *np.full((4, len(d)), np.nan))
    if len(n) == 1:
        return found
    for column, nothing in zip(found[1:], (0.0, 0.0, 1.0, len(n) - 1.0), strict=True):
        column[(d == 0).all(axis=1)] = nothing
    scale = d.var(axis=1)
    once = bool((n == 1).all())
    usable = (scale > 0) & (once | (inner > _NOTHING * d.shape[1] * scale))
    if usable.any():
        unit = np.sqrt(scale[usable])
        rows = means[usable] / unit[:, None]
        of_rows = _of_folds(rows) if once else _of_cases(rows, inner[usable] / scale[usable], n)
        for column, values in zip(found, of_rows, strict=True):
            column[usable] = values
        for column in found[:3]:
            column[usable] *= unit
    return found


def _of_folds(means: Floats) -> Differences:
    """One value a fold: Student's t."""
    folds = means.shape[1]
    error = means.std(axis=1, ddof=1) / np.sqrt(folds)
    df = np.full(len(means), folds - 1.0)
    mean = means.mean(axis=1)
    half = -stdtrit(df, TAIL) * error
    return Differences(mean, mean - half, mean + half, 2 * stdtr(df, -np.abs(mean) / error), df)


def _of_cases(means: Floats, inner: Floats, n: Floats) -> Differences:
    """Of rows that vary: means [p, folds], inner squares [p], sizes of the folds [folds]."""
    folds, total = len(n), n.sum()
    x = _highest(means, inner, n)
    ratio = np.expm1(x) * folds / total
    weight = n / (1 + n * ratio[:, None])
    information = weight.sum(axis=1)
    mean = (weight * means).sum(axis=1) / information
    residual = means - mean[:, None]
    rest = (inner + (weight * residual**2).sum(axis=1)) / (total - 1)
    error = np.sqrt(rest / information)

    trace = information - (weight**2).sum(axis=1) / information
    scatter = error * np.sqrt((weight**2 * residual**2).sum(axis=1) / (rest * trace))
    cross = (weight**3).sum(axis=1) / information
    squared = (weight**2).sum(axis=1) - 2 * cross + ((weight**2).sum(axis=1) / information) ** 2
    fold_df = trace**2 / squared

    pooled = x == 0
    df = np.where(
        pooled, total - 1, _satterthwaite(weight / rest[:, None], residual, inner, rest, n)
    )
    relaxed = np.where(pooled, relaxation(folds), 1.0)
    with np.errstate(divide="ignore"):
        by_folds = 2 * stdtr(fold_df, -np.abs(mean) / scatter) / relaxed
    p = np.maximum(2 * stdtr(df, -np.abs(mean) / error), by_folds)
    halves = np.stack([-error * stdtrit(df, TAIL), -scatter * stdtrit(fold_df, TAIL * relaxed)])
    half = halves.max(axis=0)
    wider = np.where(halves[0] > halves[1], df, fold_df)
    return Differences(mean, mean - half, mean + half, np.where(mean == 0, 1.0, p), wider)


def _deviance(x: Floats, means: Floats, inner: Floats, n: Floats) -> Floats:
    """-2 log restricted likelihood at x [p, g], up to a constant."""
    ratio = np.expm1(x) * len(n) / n.sum()
    grown = 1 + n * ratio[..., None]
    weight = n / grown
    information = weight.sum(axis=-1)
    mean = (weight * means[:, None, :]).sum(axis=-1) / information
    squares = inner[:, None] + (weight * (means[:, None, :] - mean[..., None]) ** 2).sum(axis=-1)
    deviance: Floats = (n.sum() - 1) * np.log(squares)
    return deviance + np.log(grown).sum(axis=-1) + np.log(information)


def _slope(x: Floats, means: Floats, inner: Floats, n: Floats) -> Floats:
    """Derivative of `_deviance` by the ratio, at x [p]."""
    weight = n / (1 + n * (np.expm1(x) * len(n) / n.sum())[:, None])
    information = weight.sum(axis=1)
    mean = (weight * means).sum(axis=1) / information
    residual = means - mean[:, None]
    squares = inner + (weight * residual**2).sum(axis=1)
    trace = information - (weight**2).sum(axis=1) / information
    slope: Floats = trace - (n.sum() - 1) * (weight**2 * residual**2).sum(axis=1) / squares
    return slope


def _highest(means: Floats, inner: Floats, n: Floats) -> Floats:
    """Where the restricted likelihood is highest [p], 0 where it falls from the start."""
    grid = np.linspace(0, _LARGEST, _POINTS)
    best = _deviance(np.broadcast_to(grid, (len(means), _POINTS)), means, inner, n).argmin(axis=1)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, _POINTS - 1)]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        falls = _slope(middle, means, inner, n) < 0
        low, high = np.where(falls, middle, low), np.where(falls, high, middle)
    at_zero = (best == 0) | (low == 0)
    ends = _slope(np.zeros(len(means)), means, inner, n) >= 0
    return np.where(at_zero & ends, 0.0, (low + high) / 2)


def _satterthwaite(u: Floats, residual: Floats, inner: Floats, rest: Floats, n: Floats) -> Floats:
    """Degrees of freedom 2 v^2 / Var(v) of v = 1 / sum(u), from the curvature of the likelihood.

    u: [p, folds] n / (rest + n x fold), what the folds' means weigh. Second derivatives are by the
    variances of fold (t) and rest (e): of u, its logarithms, and the squares of the residuals.
    """
    by_e = u**2 / n  # -du/de; -du/dt is u^2
    square, cube = residual**2, u**3
    whole, in_t, in_e = (part.sum(axis=1) for part in (u, u**2, by_e))
    moved_t, moved_e = (u**2 * residual).sum(axis=1), (by_e * residual).sum(axis=1)

    def curvature(third: Floats, second: Floats, slopes: Floats, moved: Floats) -> Floats:
        total: Floats = 2 * (third * square).sum(axis=1) - 2 * moved / whole
        return total - second + 2 * third.sum(axis=1) / whole - slopes / whole**2

    tt = curvature(cube, in_t, in_t**2, moved_t**2)
    te = curvature(u * by_e, in_e, in_t * in_e, moved_t * moved_e)
    ee = curvature(cube / n**2, (u**2 / n**2).sum(axis=1), in_e**2, moved_e**2)
    ee += 2 * inner / rest**3 - (n.sum() - len(n)) / rest**2
    determinant = tt * ee - te**2
    spread = 2 * (ee * in_t**2 - 2 * te * in_t * in_e + tt * in_e**2) / determinant / whole**4
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0, 2 / (whole**2 * spread), np.nan)
