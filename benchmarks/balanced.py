"""`method_difference` of thousands of balanced studies at once, for simulations of its errors.

A study of K folds with n cases each and S seeds enters by its mean and four mean squares. Arrays
have one entry a study. That this is what the report computes study by study is a test
(tests/reports/statistics/test_simulation.py).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import stdtr

from reports.statistics.methods import relaxation, shared_training_factor


class Design(NamedTuple):
    folds: int
    seeds: int
    each: int  # cases of a fold

    @property
    def values(self):
        return self.folds * self.seeds * self.each


class Variances(NamedTuple):
    fold: float
    training: float
    case: float = 1.0
    rest: float = 0.3


class Squares(NamedTuple):
    """Means and mean squares [studies]; with one seed, those of training and rest do not exist."""

    mean: np.ndarray
    fold: np.ndarray
    training: np.ndarray | None
    case: np.ndarray
    rest: np.ndarray | None


def draw(rng, shape, size):
    """Standardised numbers: "normal", or "skewed" (exponential, skewness 2)."""
    return rng.standard_normal(size) if shape == "normal" else rng.standard_exponential(size) - 1


def differences(rng, studies, design, variances, *, shape="normal", all_skewed=False, shared=0.0):
    """Simulated differences [studies, folds, seeds, cases].

    Args:
        rng: of numpy.
        studies: how many.
        design: of each.
        variances: of the effects.
        shape: of the effects of cases and of the rest.
        all_skewed: whether folds and trainings have that shape, too; otherwise they are normal.
        shared: correlation of the folds' effects.
    """
    folds, seeds, each = design
    others = shape if all_skewed else "normal"
    own = draw(rng, others, (studies, folds, 1, 1))
    common = draw(rng, others, (studies, 1, 1, 1))
    d = np.sqrt(variances.rest) * draw(rng, shape, (studies, folds, seeds, each))
    d += np.sqrt(variances.case) * draw(rng, shape, (studies, folds, 1, each))
    d += np.sqrt(variances.training) * draw(rng, others, (studies, folds, seeds, 1))
    d += np.sqrt(variances.fold) * (np.sqrt(1 - shared) * own + np.sqrt(shared) * common)
    return d


def squares(d):
    """The mean squares of differences [studies, folds, seeds, cases]."""
    _, folds, seeds, each = d.shape
    cell, case, fold, mean = d.mean(3), d.mean(2), d.mean((2, 3)), d.mean((1, 2, 3))
    between = seeds * each * ((fold - mean[:, None]) ** 2).sum(1) / (folds - 1)
    by_case = seeds * ((case - fold[:, :, None]) ** 2).sum((1, 2))
    case_square = by_case / (folds * (each - 1))
    if seeds == 1:
        return Squares(mean, between, None, case_square, None)
    by_training = each * ((cell - fold[:, :, None]) ** 2).sum((1, 2))
    total = ((d - fold[:, :, None, None]) ** 2).sum((1, 2, 3))
    rest = (total - by_case - by_training) / (folds * (seeds - 1) * (each - 1))
    return Squares(mean, between, by_training / (folds * (seeds - 1)), case_square, rest)


def normal_squares(rng, studies, design, variances):
    """The same for normal effects, drawn as what they are: a normal and four chi-squares."""
    folds, seeds, each = design
    fold, training, case, rest = variances
    by_case, by_training = rest + seeds * case, rest + each * training
    between = by_case + by_training - rest + seeds * each * fold

    def mean_square(expected, df):
        return expected * rng.chisquare(df, studies) / df

    mean = np.sqrt(between / design.values) * rng.standard_normal(studies)
    fold_square = mean_square(between, folds - 1)
    if seeds == 1:
        inside = by_case + by_training - rest - each * training  # trainings are part of the folds
        return Squares(mean, fold_square, None, mean_square(inside, folds * (each - 1)), None)
    return Squares(
        mean,
        fold_square,
        mean_square(by_training, folds * (seeds - 1)),
        mean_square(by_case, folds * (each - 1)),
        mean_square(rest, folds * (seeds - 1) * (each - 1)),
    )


class Restricted(NamedTuple):
    """REML of every study: the mean's variance, whether the fold component is 0, Satterthwaite's
    degrees of freedom."""

    variance: np.ndarray
    no_fold: np.ndarray
    df: np.ndarray


def restricted(found, design):
    """The best of all models in which some components are 0; all but one have a closed form."""
    folds, seeds, each = design
    df = {"fold": folds - 1, "case": folds * (each - 1)}
    if seeds == 1:
        pooled = _pool((df["fold"], found.fold), (df["case"], found.case))
        no_fold = found.fold <= found.case
        return Restricted(
            np.where(no_fold, pooled, found.fold) / design.values,
            no_fold,
            np.where(no_fold, df["fold"] + df["case"], df["fold"]),
        )
    df |= {"training": folds * (seeds - 1), "rest": folds * (seeds - 1) * (each - 1)}
    all_df = np.array([df[name] for name in ("fold", "training", "case", "rest")], dtype=float)
    observed = np.stack([found.fold, found.training, found.case, found.rest])

    def pool(*indices):
        return _pool(*((all_df[index], observed[index]) for index in indices))

    fold, training, case, rest = observed
    same = np.full_like(fold, df["fold"])
    models = [(fold, training, case, rest, same)]
    for joined in ((1, 3), (2, 3), (1, 2, 3)):  # no training, no case, neither
        expected = [pool(*joined) if index in joined else observed[index] for index in range(4)]
        models.append((*expected, same))
    no_fold_from = len(models)
    by_case, by_training, others = pool(0, 2), pool(0, 1), pool(1, 3)
    models.append((by_case, others, by_case, others, same + df["case"]))
    models.append((by_training, by_training, pool(2, 3), pool(2, 3), same + df["training"]))
    models.append((pool(0, 1, 2, 3),) * 4 + (np.full_like(fold, all_df.sum()),))
    models.append(_without_fold(observed, all_df))

    deviance = []
    for *expected, _ in models:
        between, by_training, by_case, inside = expected
        fits = (by_training >= inside * (1 - 1e-9)) & (by_case >= inside * (1 - 1e-9))
        fits &= between - by_training - by_case + inside >= -1e-9 * between
        logs = sum(
            weight * (np.log(of) + seen / of)
            for weight, of, seen in zip(all_df, expected, observed, strict=True)
        )
        deviance.append(np.where(fits, logs, np.inf))
    best = np.argmin(deviance, axis=0)
    chosen = [np.choose(best, [model[place] for model in models]) for place in range(5)]
    return Restricted(chosen[0] / design.values, best >= no_fold_from, chosen[4])


def _pool(*parts):
    return sum(df * square for df, square in parts) / sum(df for df, _ in parts)


def _without_fold(observed, df):
    """Fisher scoring of the model without folds: their square is training + case - rest."""
    of_fold = np.array([1.0, 1.0, -1.0])
    inside = observed[1:].T.copy()
    inside[:, :2] = np.maximum(inside[:, :2], 1.001 * inside[:, 2:])
    for _ in range(60):
        between = inside @ of_fold
        score = df[1:] * (observed[1:].T - inside) / inside**2
        score += (df[0] * (observed[0] - between) / between**2)[:, None] * of_fold
        information = _information(inside, between, df[None, :], of_fold)
        step = np.linalg.solve(information, score[..., None])[..., 0]
        moved = inside + step
        for _ in range(20):
            outside = (moved <= 0.2 * inside).any(1) | (moved @ of_fold <= 0.2 * between)
            if not outside.any():
                break
            step[outside] /= 2
            moved = inside + step
        inside = moved
        if np.abs(step / inside).max() < 1e-10:
            break
    between = inside @ of_fold
    # Degrees of freedom take the curvature where the maximum is, not its expectation.
    curved = df[:, None] * (2 * observed / np.stack([between, *inside.T]) - 1)
    spread = np.linalg.inv(_information(inside, between, curved.T, of_fold) / 2)
    df_of_mean = 2 * between**2 / np.einsum("i,rij,j->r", of_fold, spread, of_fold)
    return between, inside[:, 0], inside[:, 1], inside[:, 2], df_of_mean


def _information(inside, between, df, of_fold):
    diagonal = (df[:, 1:] / inside**2)[:, :, None] * np.eye(3)
    return diagonal + (df[:, 0] / between**2)[:, None, None] * np.outer(of_fold, of_fold)


def p_values(found, design):
    """Two-sided p of each study by four tests.

    "folds": t over fold means; "nadeau-bengio": its conservative setting; "components": the mixed
    model alone, which pools where the fold component is 0; "methods": `method_difference`.
    """
    fitted = restricted(found, design)

    def p(error, df):
        return 2 * stdtr(df, -np.abs(found.mean) / error)

    scatter, df = np.sqrt(found.fold / design.values), design.folds - 1
    by_folds, by_components = p(scatter, df), p(np.sqrt(fitted.variance), fitted.df)
    relaxed = np.where(fitted.no_fold, relaxation(design.folds), 1.0)
    wide = p(scatter * shared_training_factor(design.folds), df)
    return {
        "folds": by_folds,
        "nadeau-bengio": np.maximum(wide, by_components),
        "components": by_components,
        "methods": np.maximum(by_folds / relaxed, by_components),
    }
