"""Scores of single trainings: what a test of methods sees, one number a run and case or patient.

A run is a fold with a seed. Label groups are averaged within a case, cases within a patient; seeds
are not averaged, because each is a training of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from record.metric import Metric
from record.schema import Commit, StudyPlan
from reports.statistics.pairing import capped_scores, planned_cells

Floats = NDArray[np.float64]
Run = tuple[int, int]  # fold and seed
LEVELS = ["fold", "seed", "patient", "case"]


@dataclass(frozen=True)
class Differences:
    """Candidate minus baseline of every run and case [n], without the cases that do not apply.

    `values`: infinite distances capped; `fold`: the training set, `training`: the training in it,
    `case`: the test case, or the patient where a grouping is given.
    """

    values: Floats
    fold: Sequence[object]
    training: Sequence[object]
    case: Sequence[object]

    @property
    def seeds(self) -> int:
        """Trainings of a model on each training set, about."""
        trainings = len(set(zip(self.fold, self.training, strict=True)))
        return max(round(trainings / max(len(set(self.fold)), 1)), 1)


def run_scores(rows: pd.DataFrame, metric: str, about: Metric, both_empty: str) -> pd.DataFrame:
    """One model's scores by fold, seed, patient and case: columns raw and capped, groups averaged.

    Args:
        rows: as `by_case` gives them: of one model, task and fraction.
        metric: its column.
        about: how it is read.
        both_empty: the plan's rule for cases without structure.
    """
    capped = capped_scores(rows, metric, about, both_empty)
    raw = capped
    if about.distance:
        infinite = np.isinf(rows[metric].astype(float)) & capped.notna()
        raw = capped.mask(infinite, np.inf)
    frame = pd.DataFrame({"raw": raw, "capped": capped, "fold": rows["fold"]})
    return frame.groupby(LEVELS, sort=True, observed=True)[["raw", "capped"]].mean()


def run_differences(
    candidate: pd.DataFrame, baseline: pd.DataFrame, runs: Mapping[Run, tuple[object, object]]
) -> Differences:
    """Pair two models' `run_scores`, and name each run's training set and training.

    Args:
        candidate: of the candidate.
        baseline: of the baseline, over the same runs and cases.
        runs: what `trainings_of` says; a run that it lacks is a training set and training alone.
    """
    by_case = (candidate["capped"] - baseline["capped"]).dropna()
    by_patient = by_case.groupby(level=LEVELS[:3], sort=True).mean()
    keys: list[tuple[int, int, object]] = list(by_patient.index)
    named = [runs.get((fold, seed), (fold, seed)) for fold, seed, _ in keys]
    return Differences(
        values=by_patient.to_numpy(dtype=np.float64),
        fold=[name[0] for name in named],
        training=[name[1] for name in named],
        case=[patient for _, _, patient in keys],
    )


def trainings_of(
    plan: StudyPlan, commits: Mapping[str, Commit], model: str, task: str, fraction: float
) -> dict[Run, tuple[object, object]]:
    """Training set and training of each run of a cell.

    Folds with the same training cases, as small shares of few cases can have, are one training
    set; runs with one training id are one training.
    """
    sets: dict[object, int] = {}  # what tells a training set -> its first fold
    of_fold: dict[int, int] = {}
    found: dict[Run, tuple[object, object]] = {}
    for trial in planned_cells(plan, model=model, task=task, fraction=fraction):
        if trial.fold not in of_fold:
            marker = commits.get(trial.eval_id or "")
            cases = marker.identity.train.get("train_cases") if marker else None
            content = json.dumps(cases, sort_keys=True) if cases else (trial.seed, trial.train_id)
            of_fold[trial.fold] = sets.setdefault(content, trial.fold)
        training = (trial.seed, trial.train_id)
        found[trial.fold, trial.seed] = (of_fold[trial.fold], training)
    return found
