"""Ranks of the models over tasks or cases: how stable they are, and which no test tells apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from record.schema import StudyPlan
from reports.statistics import (
    cliques,
    critical_difference,
    friedman,
    pairwise_wilcoxon,
    ranking_stability,
)
from reports.statistics.scores import common_tasks, matrix


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of models over tasks or cases, and which of them no test tells apart (`bars`,
    indices of models).
    """

    models: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    bars: tuple[tuple[int, ...], ...]
    n: int
    unit: str  # "tasks" or "cases"
    distance: float | None  # Nemenyi's critical difference; None where pairwise tests decide
    p: float  # Friedman's, by Iman and Davenport's F


def rank_models(
    scores: pd.DataFrame, means: pd.DataFrame, plan: StudyPlan, metric: str = "dice"
) -> Ranking | None:
    """Friedman's ranks over tasks with Nemenyi's critical difference; with one task, over its cases
    with pairwise Wilcoxon tests (Holm). None with fewer than two comparable models or rows."""
    fraction = max(plan.fractions)
    models = finished_models(means, plan, fraction)
    tasks = common_tasks(means, models, fraction)
    if len(models) < 2 or not tasks or metric not in scores:
        return None
    here = scores[
        (scores["fraction"] == fraction) & scores["model"].isin(models) & scores["task"].isin(tasks)
    ]
    if len(tasks) > 1:
        values = matrix(means, models, fraction, metric).to_numpy()
    else:
        wide = here.pivot_table(index="case", columns="model", values=metric, observed=True)
        values = wide.reindex(columns=models).to_numpy()
    values = values[~np.isnan(values).all(axis=1)]  # tasks or cases without structure
    if len(values) < 2:
        return None
    higher = plan.metrics[metric].higher_is_better
    test = friedman(values, higher_is_better=higher)
    ranks = np.array(test.mean_ranks)
    distance = None
    if len(tasks) > 1:
        distance = critical_difference(test.n, test.k)
        differs = np.abs(ranks[:, None] - ranks[None]) > distance
    else:
        differs = pairwise_wilcoxon(values).matrix < 0.05
    bars = tuple(cliques(ranks, differs))
    unit = "tasks" if len(tasks) > 1 else "cases"
    return Ranking(tuple(models), test.mean_ranks, bars, test.n, unit, distance, test.f_p)


def finished_models(means: pd.DataFrame, plan: StudyPlan, fraction: float) -> list[str]:
    done = set(means[means["fraction"] == fraction]["model"])
    return [model for model in plan.models if model in done]


def stability(
    scores: pd.DataFrame, models: Sequence[str], tasks: Sequence[str], fraction: float
) -> Any:
    here = scores[
        (scores["fraction"] == fraction) & scores["model"].isin(models) & scores["task"].isin(tasks)
    ]
    wide = here.pivot_table(index=["task", "case"], columns="model", values="dice", observed=True)
    if wide.empty:
        return None
    wide = wide[list(models)]
    return ranking_stability(wide.to_numpy(), tasks=wide.index.get_level_values("task").to_numpy())
