"""Variance components of paired differences by restricted maximum likelihood (REML).

The model of `cells`, with normal effects. H. D. Patterson and R. Thompson, Biometrika 58 (1971);
the fit is that of R's `lme4::lmer(d ~ 1 + (1 | fold) + (1 | fold:training) + (1 | fold:case))`. The
covariance matrix is inverted by Woodbury's identity twice, for the cases and then for the
trainings, so that no matrix is larger than the number of trainings in a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import optimize

from reports.statistics.cells import EFFECTS, Cells
from reports.statistics.wilcoxon import Floats, Integers

Gradient = Callable[[Floats], tuple[float, Floats]]

_LARGEST = 20.0  # a log ratio: above it the rest is no more than rounding
_STEP = 1e-4  # of the differences that stand for second derivatives
_POLISH, _HALVINGS = 50, 12  # Newton steps at most, and times that one is halved


class _Inverse(NamedTuple):
    """V^-1 where V = I + the sum of ratio Z Z' over the three effects, as its products.

    Z: which values a cell holds; vectors: ones and the values.
    """

    growth: Floats  # [p] 1 + case ratio x values of one case
    effects: Floats  # [b, s, s] covariance of the cells by fold and training
    system: Floats  # [b, s, s] what Woodbury's identity inverts
    inner: Floats  # [b, s, s] Z' V^-1 Z
    vectors: Floats  # [2, b, s] Z' V^-1 vector
    gram: Floats  # [2, 2] vector' V^-1 vector


def _invert(cells: Cells, ratios: Floats) -> _Inverse:
    fold, training, case = ratios
    unit = np.eye(cells.seen.shape[1])
    growth = 1 + case * cells.size
    share = case / growth
    effects = training * unit + fold * cells.same_fold
    # Without fold and training every case stands for itself: Z' W Z and Z' W vector.
    within = cells.sums[0][:, :, None] * unit - _seen_twice(cells, share * cells.number)
    sides = cells.sums - cells.block @ ((share * cells.case_sums)[:, :, None] * cells.seen)
    system = unit + within @ effects
    solved = np.linalg.solve(system, np.concatenate([within, np.moveaxis(sides, 0, 2)], axis=2))
    vectors = np.moveaxis(solved[:, :, -2:], 2, 0)
    gram = cells.gram - cells.case_gram @ share - _products(sides, _applied(effects, vectors))
    return _Inverse(growth, effects, system, solved[:, :, :-2], vectors, gram)


@dataclass(frozen=True, eq=False)
class Likelihood:
    """The restricted likelihood at three ratios: variance of fold, training, case to the rest.

    P is V^-1 without its part along the mean, e the residuals of the mean.
    """

    mean: float  # generalised least squares
    information: float  # 1' V^-1 1; the variance of the mean is that of the rest divided by it
    squares: float  # e' V^-1 e
    log_determinants: float  # log |V| + log information
    trace: Floats  # [3] tr(P Z Z')
    explained: Floats  # [3] e' V^-1 Z Z' V^-1 e
    pull: Floats  # [3] 1' V^-1 Z Z' V^-1 1


def likelihood(cells: Cells, ratios: Floats) -> Likelihood:
    """At the ratios [3] of the variances of fold, training and case to that of the rest."""
    growth, effects, system, inner, vectors, gram = _invert(cells, ratios)
    mean, information = float(gram[0, 1] / gram[0, 0]), float(gram[0, 0])
    spread = _applied(effects, vectors)
    left = (cells.block.T @ spread * cells.seen).sum(axis=2)  # [2, p] what trainings explain
    cross = cells.case_sums[:, None] * left
    case_gram = cells.case_gram - cross - cross.swapaxes(0, 1) + cells.number * left[:, None] * left
    forms = np.stack(
        [
            _products(vectors, _applied(cells.same_fold, vectors)),
            _products(vectors, vectors),
            case_gram @ growth**-2.0,
        ]
    )
    residual = np.array([-mean, 1.0])
    pull = forms[:, 0, 0]
    taken = effects - effects @ inner @ effects
    trace = np.array(
        [
            (cells.same_fold * inner).sum(),
            np.trace(inner, axis1=1, axis2=2).sum(),
            cells.number @ (cells.size / growth)
            - (taken * _seen_twice(cells, cells.number / growth**2)).sum(),
        ]
    )
    logs = cells.number @ np.log(growth) + np.linalg.slogdet(system)[1].sum()
    return Likelihood(
        mean=mean,
        information=information,
        squares=float(residual @ gram @ residual),
        log_determinants=float(logs) + math.log(information),
        trace=trace - pull / information,
        explained=forms @ residual @ residual,
        pull=pull,
    )


def _applied(matrices: Floats, vectors: Floats) -> Floats:
    """Matrices [b, s, s] times vectors [2, b, s]."""
    return (matrices @ vectors[..., None])[..., 0]


def _seen_twice(cells: Cells, weights: Floats) -> Floats:
    """Sum over patterns of weights [p] times seen seen', in each block: [b, s, s]."""
    slots = cells.seen.shape[1]
    return (cells.block @ (weights[:, None] * cells.seen_pairs)).reshape(-1, slots, slots)


def _products(first: Floats, second: Floats) -> Floats:
    """Products [2, 2] of two pairs of vectors over all cells, [2, b, s] each."""
    return first.reshape(2, -1) @ second.reshape(2, -1).T


@dataclass(frozen=True)
class Components:
    """The fitted model: variances of fold, training, case and rest, NaN where not estimable.

    An effect that this design cannot tell from another one is part of that one: with one training a
    fold, `fold` holds both.
    """

    mean: float
    se: float
    df: float  # Satterthwaite's, of `se`, over the effects that are not 0
    fold: float
    training: float
    case: float
    rest: float
    fold_ratio: float  # squares between folds against what the fitted variances expect there
    fold_df: float  # degrees of freedom of these squares; both NaN with one fold


def fit(cells: Cells) -> Components:
    """Maximise the restricted likelihood of differences that are not all equal.

    Ratios are searched as log(1 + ratio x values of a level), which is the ratio itself near 0 and
    its logarithm far from it: L-BFGS-B finds the maximum, Newton's steps make it exact.
    """
    free = np.flatnonzero(cells.estimable)
    per_level = (cells.n / np.array(cells.levels, dtype=np.float64))[free]

    def ratios_of(logs: Floats) -> Floats:
        ratios = np.zeros(len(EFFECTS))
        ratios[free] = np.expm1(logs) / per_level
        return ratios

    def at(logs: Floats) -> tuple[float, Floats]:
        found = likelihood(cells, ratios_of(logs))
        gradient = found.trace - (cells.n - 1) * found.explained / found.squares
        deviance = (cells.n - 1) * math.log(found.squares) + found.log_determinants
        return deviance, gradient[free] * np.exp(logs) / per_level

    logs = np.ones(len(free))
    if len(free):
        bounds = [(0.0, _LARGEST)] * len(free)
        logs = optimize.minimize(at, logs, jac=True, bounds=bounds, method="L-BFGS-B").x.copy()
        logs = _polished(at, logs)
    ratios = ratios_of(logs)
    found = likelihood(cells, ratios)
    rest = found.squares / (cells.n - 1)
    several = cells.levels[0] > 1
    variances = np.where(cells.estimable, ratios, np.nan) * rest * cells.scale**2
    return Components(
        mean=cells.shift + cells.scale * found.mean,
        se=cells.scale * math.sqrt(rest / found.information),
        df=_satterthwaite(cells, ratios * rest, rest),
        fold=float(variances[0]),
        training=float(variances[1]),
        case=float(variances[2]),
        rest=rest * cells.scale**2,
        fold_ratio=float(found.explained[0] / (rest * found.trace[0])) if several else math.nan,
        fold_df=_between_folds(cells, ratios) if several else math.nan,
    )


def _polished(at: Gradient, logs: Floats) -> Floats:
    """Newton's steps on the coordinates that are not held at a bound, downhill all the way.

    Directions in which the deviance curves the wrong way are walked by the size of their curvature.
    """
    deviance, gradient = at(logs)
    for _ in range(_POLISH):
        inside = np.flatnonzero(
            ((logs > 0) | (gradient < 0)) & ((logs < _LARGEST) | (gradient > 0))
        )
        hessian = _derivative(lambda x: at(x)[1], logs, inside, least=0.01)[:, inside]
        sizes, directions = np.linalg.eigh((hessian + hessian.T) / 2)
        sizes = np.maximum(np.abs(sizes), 1e-9)
        step = np.zeros_like(logs)
        step[inside] = directions @ (directions.T @ gradient[inside] / sizes)
        step *= min(1.0, 2.0 / max(float(np.abs(step).max(initial=0.0)), 1e-300))
        for _ in range(_HALVINGS):
            moved = np.clip(logs - step, 0, _LARGEST)
            new_deviance, new_gradient = at(moved)
            if new_deviance <= deviance + 1e-10 * abs(deviance):
                break
            step /= 2
        else:
            return logs
        change = float(np.abs(moved - logs).max(initial=0.0))
        logs, deviance, gradient = moved, new_deviance, new_gradient
        if change < 1e-8:
            return logs
    return logs


def _satterthwaite(cells: Cells, variances: Floats, rest: float) -> float:
    """Degrees of freedom 2 v^2 / Var(v) of v = Var(mean), from the curvature of the likelihood.

    F. E. Satterthwaite, Biometrics Bulletin 2 (1946); as in R's lmerTest. Effects at 0 stay there.
    """
    parameters = np.append(variances, rest)
    inside = np.flatnonzero(parameters > 1e-8 * rest)

    def gradient(at: Floats) -> Floats:
        """Of -2 log likelihood by the four variances."""
        found = likelihood(cells, at[:3] / at[3])
        by_ratio = found.trace - found.explained / at[3]
        by_rest = (cells.n - 1) - found.squares / at[3] - by_ratio @ at[:3] / at[3]
        return np.append(by_ratio, by_rest) / at[3]

    curvature = _derivative(gradient, parameters, inside)[:, inside]
    found = likelihood(cells, variances / rest)
    variance = rest / found.information
    pull = found.pull / found.information**2
    slope = np.append(pull, (variance - pull @ variances) / rest)[inside]
    spread = 2 * slope @ np.linalg.solve(curvature, slope)
    return float(2 * variance**2 / spread) if spread > 0 else math.nan


def _between_folds(cells: Cells, ratios: Floats) -> float:
    """Degrees of freedom of the squares between folds: K - 1 where K folds weigh the same.

    The squares are e' V^-1 F F' V^-1 e, F: which values a fold holds. Their two first moments are
    those of a chi-square (R. M. Bell and D. F. McCaffrey, Survey Methodology 28 (2002)).
    """
    inverse = _invert(cells, ratios)
    members = cells.members
    between = np.einsum("bsk,bst,btl->kl", members, inverse.inner, members)
    weights = np.einsum("bsk,bs->k", members, inverse.vectors[0])
    between -= np.outer(weights, weights) / inverse.gram[0, 0]
    return float(np.trace(between) ** 2 / (between * between).sum())


def _derivative(
    of: Callable[[Floats], Floats], at: Floats, along: Integers, least: float = 0.0
) -> Floats:
    """Central differences [m, n] of a vector function along m coordinates, in steps relative to
    their size or to `least`."""
    rows = []
    for index in along:
        step = np.zeros_like(at)
        step[index] = _STEP * max(at[index], least)
        rows.append((of(at + step) - of(at - step)) / (2 * step[index]))
    return np.array(rows).reshape(len(rows), len(at))
