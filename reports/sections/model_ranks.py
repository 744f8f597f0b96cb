"""Ranks of the models over tasks or training sets: how stable they are, and which no test tells
apart.

Every task was trained by itself, so that ranks over tasks see luck of training as any other scatter
between tasks. With one task the training sets (folds) take their place, and pairs of models are
tested as methods.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from record.schema import StudyPlan
from reports.statistics import (
    RankingStability,
    adjust,
    cliques,
    critical_difference,
    friedman,
    method_difference,
    ranking_stability,
)
from reports.statistics.adjustment import ALPHA
from reports.statistics.run_scores import repeats_of
from reports.statistics.scores import common_tasks, matrix

# Friedman's blocks must be independent. Repeats test the same cases again: with ten of them most
# studies without a difference would show one.
REPEATED = "since the folds of repeated cross-validations are not independent"


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of models over tasks, folds or cases, and which of them no test tells apart
    (`bars`, indices of models).
    """

    models: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    bars: tuple[tuple[int, ...], ...]
    n: int
    unit: str  # "tasks", "folds", or "cases" where there is one training set and so no test
    distance: float | None  # Nemenyi's critical difference; None where pairwise tests decide
    p: float  # Friedman's, by Iman and Davenport's F; NaN without a test
    why: str = ""  # there is no such test, if more is to be said than `how` says

    @property
    def how(self) -> str:
        """How models are told apart."""
        if self.distance is not None:
            return f"Nemenyi's critical difference {self.distance:.2f}"
        if self.unit == "folds":
            return "pairwise tests of the methods with Holm"
        return "not testable for methods: one training set"

    @property
    def friedman(self) -> str:
        """Friedman's p as text."""
        if np.isnan(self.p):
            return f"no Friedman test{f', {self.why}' if self.why else ''}"
        return f"Friedman p = {self.p:.3g}"


def rank_models(
    scores: pd.DataFrame,
    means: pd.DataFrame,
    plan: StudyPlan,
    metric: str = "dice",
    runs: pd.DataFrame | None = None,
) -> Ranking | None:
    """Friedman's ranks over tasks with Nemenyi's critical difference; with one task, over its folds
    with pairwise tests of the methods (Holm). None with fewer than two comparable models or rows.

    Args:
        scores: of every case, seeds averaged.
        means: of every task.
        plan: the study.
        metric: by which models are ranked.
        runs: of every run and case (`run_scores_of`); without them one task has no test.
    """
    fraction = max(plan.fractions)
    models = finished_models(means, plan, fraction)
    tasks = common_tasks(means, models, fraction)
    if len(models) < 2 or not tasks or metric not in scores:
        return None
    higher = plan.metrics[metric].higher_is_better
    if len(tasks) == 1:
        return _within_task(
            scores, runs, models, (tasks[0], fraction), metric, repeats_of(plan), higher=higher
        )
    values = matrix(means, models, fraction, metric).to_numpy()
    values = values[~np.isnan(values).all(axis=1)]  # tasks without structure
    if len(values) < 2:
        return None
    test = friedman(values, higher_is_better=higher)
    ranks, distance = np.array(test.mean_ranks), critical_difference(test.n, test.k)
    differs = np.abs(ranks[:, None] - ranks[None]) > distance
    bars = tuple(cliques(ranks, differs))
    return Ranking(tuple(models), test.mean_ranks, bars, test.n, "tasks", distance, test.f_p)


def _within_task(
    scores: pd.DataFrame,
    runs: pd.DataFrame | None,
    models: Sequence[str],
    cell: tuple[str, float],
    metric: str,
    repeats: Mapping[object, int],
    *,
    higher: bool,
) -> Ranking | None:
    """Over the folds of one task; over its cases, and without a test, where it has one fold."""
    wide = runs_of(runs, models, [cell[0]], cell[1], metric) if runs is not None else None
    if wide is None or wide.index.unique("fold").size < 2:
        task, fraction = cell
        here = scores[(scores["fraction"] == fraction) & (scores["task"] == task)]
        of_case = here.pivot_table(index="case", columns="model", values=metric, observed=True)
        values = of_case.reindex(columns=list(models)).dropna(how="all").to_numpy()
        if len(values) < 2:
            return None
        found = friedman(values, higher_is_better=higher)
        nothing = np.zeros((len(models), len(models)), dtype=bool)
        bars = tuple(cliques(found.mean_ranks, nothing))
        return Ranking(tuple(models), found.mean_ranks, bars, found.n, "cases", None, np.nan)
    by_fold = wide.groupby(level=["fold", "seed"]).mean().groupby(level="fold").mean()
    test = friedman(by_fold.to_numpy(), higher_is_better=higher)
    differs = _pairwise(wide, repeats) < ALPHA
    bars = tuple(cliques(test.mean_ranks, differs))
    p, why = (np.nan, REPEATED) if repeats else (test.f_p, "")
    return Ranking(tuple(models), test.mean_ranks, bars, test.n, "folds", None, p, why)


def _pairwise(wide: pd.DataFrame, repeats: Mapping[object, int]) -> np.ndarray:
    """p of the methods of every pair of columns, by Holm: [k, k], 1 where there is no test."""
    labels = {name: wide.index.get_level_values(name).tolist() for name in ("fold", "seed", "case")}
    repeat = [repeats.get(fold, 0) for fold in labels["fold"]] if repeats else None
    k = wide.shape[1]
    pairs = list(itertools.combinations(range(k), 2))
    p = [
        method_difference(
            (wide.iloc[:, one] - wide.iloc[:, other]).to_numpy(dtype=float),
            fold=labels["fold"],
            training=labels["seed"],
            case=labels["case"],
            repeat=repeat,
        ).p
        for one, other in pairs
    ]
    found = np.ones((k, k))
    for (one, other), adjusted in zip(pairs, adjust(p, "holm"), strict=True):
        found[one, other] = found[other, one] = 1.0 if np.isnan(adjusted) else adjusted
    return found


def finished_models(means: pd.DataFrame, plan: StudyPlan, fraction: float) -> list[str]:
    done = set(means[means["fraction"] == fraction]["model"])
    return [model for model in plan.models if model in done]


def stability(
    runs: pd.DataFrame,
    models: Sequence[str],
    tasks: Sequence[str],
    fraction: float,
    metric: str = "dice",
) -> RankingStability | None:
    """The ranking under resampled folds, trainings and cases; None without scores.

    Args:
        runs: of every run and case (`run_scores_of`).
        models: that are ranked.
        tasks: that all of them have finished.
        fraction: of the training data.
        metric: by which they are ranked, the higher the better.
    """
    wide = runs_of(runs, models, tasks, fraction, metric)
    if wide.empty:
        return None
    return ranking_stability(wide.to_numpy(dtype=float), **drawn_by(wide))


def drawn_by(wide: pd.DataFrame) -> dict[str, Any]:
    """The levels of `runs_of` by which a bootstrap draws, under the names that it has for them."""
    names = {"tasks": "task", "fold": "fold", "training": "seed", "case": "case"}
    return {argument: wide.index.get_level_values(level) for argument, level in names.items()}


def drawn_text(runs: pd.DataFrame | None) -> str:
    """What a bootstrap of these runs draws anew, in words: what has one level stays as it is."""
    names = {"fold": "training sets (folds)", "seed": "trainings (seeds)"}
    several = [name for key, name in names.items() if runs is not None and runs[key].nunique() > 1]
    if not several:
        return "the cases alone"
    return f"{', '.join(several)} and cases together"


def runs_of(
    runs: pd.DataFrame, models: Sequence[str], tasks: Sequence[str], fraction: float, metric: str
) -> pd.DataFrame:
    """[task x fold x seed x case, models] of the runs that all models have."""
    here = runs[
        (runs["fraction"] == fraction) & runs["model"].isin(models) & runs["task"].isin(tasks)
    ]
    index = ["task", "fold", "seed", "case"]
    parts = {
        model: here[here["model"] == model].set_index(index)[metric].astype(float)
        for model in models
    }
    return pd.DataFrame(parts).dropna().sort_index()
