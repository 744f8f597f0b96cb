"""Scores of single trainings: what a test of methods sees, one number a run and case or patient.

A run is a fold with a seed. Label groups are averaged within a case, cases within a patient; seeds
are not averaged, because each is a training of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

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
    `case`: the test case, or the patient where a grouping is given; `repeat`: the cross-validation
    of the fold, None where there is one.
    """

    values: Floats
    fold: Sequence[object]
    training: Sequence[object]
    case: Sequence[object]
    repeat: Sequence[object] | None = None

    @property
    def seeds(self) -> int:
        """Trainings of a model on each training set, about."""
        trainings = len(set(zip(self.fold, self.training, strict=True)))
        return max(round(trainings / max(len(set(self.fold)), 1)), 1)


def run_scores(
    rows: pd.DataFrame,
    metric: str,
    about: Metric,
    both_empty: str,
    place: Sequence[str] = (),
) -> pd.DataFrame:
    """One model's scores by fold, seed, patient and case: columns raw and capped, groups averaged.

    Args:
        rows: as `by_case` gives them: of one model, task and fraction.
        metric: its column.
        about: how it is read.
        both_empty: the plan's rule for cases without structure.
        place: levels that come before, where the rows are of several models or tasks.
    """
    raw, capped = raw_and_capped(rows, metric, about, both_empty)
    frame = pd.DataFrame({"raw": raw, "capped": capped, "fold": rows["fold"]})
    levels = [*place, *LEVELS]
    return frame.groupby(levels, sort=True, observed=True)[["raw", "capped"]].mean()


def raw_and_capped(
    rows: pd.DataFrame, metric: str, about: Metric, both_empty: str
) -> tuple[pd.Series, pd.Series]:
    """Every row's score with infinite distances as they are, and with those capped; NaN where the
    row does not count.
    """
    capped = capped_scores(rows, metric, about, both_empty)
    if not about.distance:
        return capped, capped
    infinite = np.isinf(rows[metric].astype(float)) & capped.notna()
    return capped.mask(infinite, np.inf), capped


def run_differences(
    candidate: pd.DataFrame,
    baseline: pd.DataFrame,
    runs: Mapping[Run, tuple[object, object]],
    repeats: Mapping[object, int] = MappingProxyType({}),
) -> Differences:
    """Pair two models' `run_scores`, and name each run's training set and training. A training that
    is there again, with the same masks of both models, counts once.

    Args:
        candidate: of the candidate.
        baseline: of the baseline, over the same runs and cases.
        runs: what `trainings_of` says; a run that it lacks is a training set and training alone.
        repeats: what `repeats_of` says.
    """
    by_case = (candidate["capped"] - baseline["capped"]).dropna()
    by_patient = by_case.groupby(level=LEVELS[:3], sort=True).mean()
    keys: list[tuple[int, int, object]] = list(by_patient.index)
    named = [runs.get((fold, seed), (fold, seed)) for fold, seed, _ in keys]
    places: dict[tuple[object, ...], int] = {}
    for place, (name, (*_, patient)) in enumerate(zip(named, keys, strict=True)):
        places.setdefault((*name, patient), place)
    once = list(places.values())
    keys, named = [keys[place] for place in once], [named[place] for place in once]
    return Differences(
        values=by_patient.to_numpy(dtype=np.float64)[once],
        fold=[name[0] for name in named],
        training=[name[1] for name in named],
        case=[patient for _, _, patient in keys],
        repeat=[repeats.get(name[0], 0) for name in named] if any(repeats.values()) else None,
    )


def repeats_of(plan: StudyPlan) -> dict[object, int]:
    """Fold -> the cross-validation that it belongs to, of a study that repeats it."""
    return {trial.fold: trial.repeat for trial in plan.trials if trial.repeat}


def trainings_of(
    plan: StudyPlan,
    commits: Mapping[str, Commit],
    model: str,
    task: str,
    fraction: float,
    baseline: str | None = None,
) -> dict[Run, tuple[object, object]]:
    """Training set and training of each run of a cell.

    Folds with the same training cases, as small shares of few cases can have, are one training
    set. Which cases trained another tool's masks is not known: there, runs whose masks are equal
    are one training, of both models where a baseline is given, as one of the two may have no
    chance in it.
    """
    paired = planned_cells(plan, model=baseline, task=task, fraction=fraction) if baseline else ()
    theirs = {(trial.fold, trial.seed): trial.train_id for trial in paired}
    sets: dict[object, int] = {}  # what tells a training set -> its first fold
    of_fold: dict[int, int] = {}
    found: dict[Run, tuple[object, object]] = {}
    for trial in planned_cells(plan, model=model, task=task, fraction=fraction):
        run = (trial.fold, trial.seed)
        training = (trial.seed, trial.train_id, theirs.get(run))
        if trial.fold not in of_fold:
            marker = commits.get(trial.eval_id or "")
            cases = marker.identity.train.get("train_cases") if marker else None
            content = json.dumps(cases, sort_keys=True) if cases else training
            of_fold[trial.fold] = sets.setdefault(content, trial.fold)
        found[run] = (of_fold[trial.fold], training)
    return found
