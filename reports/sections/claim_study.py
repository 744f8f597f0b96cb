"""What the rules of claims see of a study, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from record.metric import Metric
from record.schema import Commit, StudyPlan
from reports.render.layout import fixed
from reports.sections.details import model_settings
from reports.statistics import Interval
from reports.statistics.over_tasks import Estimate, over_tasks
from reports.statistics.scores import complete_cells

Claim = Mapping[str, Any]


def at_least(interval: Interval, claimed: float) -> bool | None:
    """Is the effect there and as large as claimed? None where the interval leaves it open."""
    if interval.high < claimed or interval.high <= 0:
        return False
    return True if interval.low > 0 else None


def interval_text(interval: Interval, digits: int = 3) -> str:
    """`+0.020 [+0.013, +0.027] over 5 tasks`; without bounds where there is one task."""
    bounds = (
        f" [{fixed(interval.low, digits, sign=True)}, {fixed(interval.high, digits, sign=True)}]"
        if np.isfinite(interval.low)
        else ""
    )
    return f"{fixed(interval.estimate, digits, sign=True)}{bounds} over {interval.n} tasks"


def with_methods(interval: Interval, found: Sequence[Estimate]) -> Interval:
    """An interval over tasks, with its ends moved out to those of the methods over these tasks.

    Over tasks: other tasks, each with trainings of its own; of the methods: these tasks, trained
    again. Where the methods cannot be tested in all of the tasks, it stays as it is.

    Args:
        interval: over tasks.
        found: the methods' difference in every task.
    """
    methods = over_tasks(found)
    if not np.isfinite([methods.low, methods.high]).all():
        return interval
    return replace(
        interval, low=min(interval.low, methods.low), high=max(interval.high, methods.high)
    )


class UntestableError(ValueError):
    """The study lacks what the claim needs; the message says what."""


@dataclass(frozen=True)
class Evidence:
    """`agrees` with the claim, True or False, or None where the rows leave it open; `rule` says how
    that was decided, `lacks` what the claim counts and the study does not have."""

    agrees: bool | None
    text: str
    rule: str
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    """What the rules see: the plan, models' settings, recipes of its trials, trained parameters,
    table 1, the scores and the finished trials.
    """

    plan: StudyPlan
    settings: Mapping[str, Mapping[str, Any]]
    recipes: Sequence[Mapping[str, Any]]
    trained: Mapping[str, int]
    table: pd.DataFrame
    scores: pd.DataFrame
    means: pd.DataFrame
    history: pd.DataFrame
    focus: pd.DataFrame  # columns model, task, case, stage, focus
    complete: Set[tuple[str, str, float]]  # model, task and fraction with all folds and seeds
    commits: Mapping[str, Commit]

    def info(self, metric: str) -> Metric:
        """Title and direction of a metric."""
        return self.plan.metrics[metric]

    def methods(
        self, candidate: str, baseline: str, metric: str, tasks: Sequence[str], sign: int = 1
    ) -> list[Estimate]:
        """The methods' differences in these tasks at the full data, times `sign`; empty unless
        table 1 has all of them.
        """
        if "method_low" not in self.table:
            return []
        rows = self.table[
            (self.table["candidate"] == candidate)
            & (self.table["baseline"] == baseline)
            & (self.table["fraction"] == 1.0)
            & (self.table["metric"] == metric)
            & self.table["task"].isin(tasks)
        ].drop_duplicates("task")
        if len(rows) < len(tasks):
            return []
        return [
            Estimate(
                sign * row["method_difference"],
                min(sign * row["method_low"], sign * row["method_high"]),
                max(sign * row["method_low"], sign * row["method_high"]),
                row["p_methods"],
                row["method_df"],
            )
            for row in rows.to_dict("records")
        ]


def study_of(
    plan: StudyPlan,
    commits: Mapping[str, Commit],
    table: pd.DataFrame,
    scores: pd.DataFrame,
    means: pd.DataFrame,
    history: pd.DataFrame,
    focus: pd.DataFrame,
) -> Study:
    """What the rules see of a study."""
    return Study(
        plan,
        model_settings(plan, commits),
        _recipes(plan, commits),
        _trained(plan, commits),
        table,
        scores,
        means,
        history,
        focus,
        complete_cells(plan, commits),
        commits,
    )


def _recipes(plan: StudyPlan, commits: Mapping[str, Commit]) -> list[dict[str, Any]]:
    """What the planned trials were trained and scored with, each recipe once: parts of their
    identities and of the plan.

    Image size, patch size and epochs are the plan's, which knows the defaults; an older one's may
    lack them.
    """
    known = plan.recipe.to_json()
    sizes = {name: known[name] for name in ("image_size", "patch_size") if name in known}
    epochs = {"epochs": known["epochs"]} if "epochs" in known else {}
    study = {
        "folds": len({trial.fold for trial in plan.trials}),
        "both_empty": plan.both_empty,
        "search": bool(plan.searches),
    }
    identities = [marker.identity.train for _, marker in plan.finished(commits)]
    trains = [train for train in identities if train]
    found: list[dict[str, Any]] = []
    for train in trains or [{}]:
        recipe = {
            "study": study,
            "scoring": plan.scoring.to_json(),
            "task": train.get("task", {}),
            "data": train.get("data", {}) | sizes,
            "training": train.get("training", {}) | epochs,
        }
        if recipe not in found:
            found.append(recipe)
    return found


def _trained(plan: StudyPlan, commits: Mapping[str, Commit]) -> dict[str, int]:
    finished = plan.finished(commits)
    return {trial.model: marker.cost.trained_parameters for trial, marker in finished}
