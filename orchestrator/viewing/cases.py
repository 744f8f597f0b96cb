"""Which cases a study tested, by which trial, and which of them are best, median and worst."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from record import paths
from record.damage import read_committed
from record.schema import Commit, StudyPlan
from record.store import DamagedError, StoreError
from record.study import StoredStudy
from record.tables import read_table

RANKS = ("best", "median", "worst")


@dataclass(frozen=True)
class Tested:
    """A model's test of a case: its trial's commit, and its rows of cases.parquet, one a label
    group; `problem` says why there are no rows.
    """

    marker: Commit
    rows: pd.DataFrame
    problem: str = ""


class StudyCases:
    """The test cases of a study's finished trials.

    A case is shown as one trial of each model saw it: at the largest share of the data, of the
    first fold that tests it, and the first seed.

    Args:
        study: as it is stored now.

    Raises:
        StoreError: the storage is out of reach, or a split file is missing.
    """

    def __init__(self, study: StoredStudy) -> None:
        self.study, self.plan = study, study.plan
        self.commits = _commits(study)
        self._rows: dict[str, pd.DataFrame | str] = {}
        self._folds = {task: self._read_folds(task) for task in self.plan.tasks}
        self.cases = {task: self._tested_cases(task) for task in self.plan.tasks}
        self.extremes = {task: self._extremes(task) for task in self.plan.tasks}

    def _read_folds(self, task: str) -> list[frozenset[str]]:
        split = self.study.splits.get(task)
        if split is None:
            raise StoreError(
                f"{self.study.store.path(paths.split(task))}: is missing, so nothing says who "
                "tested which case; run the study's command again"
            )
        return [frozenset(fold.test) for fold in split.folds]

    def _tested_cases(self, task: str) -> list[str]:
        """In the order of their ids."""
        tested: set[str] = set()
        for trial in self.plan.trials:
            if trial.task == task and trial.eval_id in self.commits:
                tested |= self._folds[task][trial.fold]
        return sorted(tested)

    def tested_by(self, model: str, task: str, case: str) -> Tested | None:
        """Who tested a case; None where no finished trial of the model did."""
        trials = [
            trial
            for trial in self.plan.trials
            if (trial.model, trial.task) == (model, task)
            and trial.eval_id in self.commits
            and case in self._folds[task][trial.fold]
        ]
        if not trials:
            return None
        trial = max(trials, key=lambda one: one.fraction)  # the first such of the plan
        marker = self.commits[str(trial.eval_id)]
        rows = self._rows_of(marker)
        if isinstance(rows, str):
            return Tested(marker, pd.DataFrame(), rows)
        return Tested(marker, rows[rows["case"] == case])

    def _rows_of(self, marker: Commit) -> pd.DataFrame | str:
        """A trial's scores, or why they cannot be read."""
        if marker.eval_id not in self._rows:
            try:
                table = read_table(self.study.store, marker, paths.CASES)
                self._rows[marker.eval_id] = table.to_pandas()
            except DamagedError as error:
                self._rows[marker.eval_id] = str(error)
        return self._rows[marker.eval_id]

    def _extremes(self, task: str) -> dict[str, str]:
        """Best, median and worst case of a task by Dice of the first model that has finished, as in
        the report's panels: case -> what it is. The first case, which is none of them, where none
        has a Dice.
        """
        for model in self.plan.models:
            dice = self._dice(model, task)
            if not dice:
                continue
            scored = sorted(dice, key=lambda case: (-dice[case], case))
            places = (0, len(scored) // 2, len(scored) - 1)
            found: dict[str, str] = {}
            for rank, place in zip(RANKS, places, strict=True):
                case = scored[place]
                found[case] = f"{found[case]} and {rank}" if case in found else rank
            return found
        return dict.fromkeys(self.cases[task][:1], "")

    def _dice(self, model: str, task: str) -> dict[str, float]:
        """Mean Dice by case of a model's first trial, by which the panels choose, too."""
        trials = [
            trial
            for trial in self.plan.trials
            if (trial.model, trial.task) == (model, task) and trial.eval_id in self.commits
        ]
        if not trials:
            return {}
        first = max(trials, key=lambda one: one.fraction)
        rows = self._rows_of(self.commits[str(first.eval_id)])
        if isinstance(rows, str) or "dice" not in rows:
            return {}
        means = rows.groupby("case")["dice"].mean()
        return {str(case): float(mean) for case, mean in means.items() if not math.isnan(mean)}


def _commits(study: StoredStudy) -> Mapping[str, Commit]:
    """The markers of the plan's finished trials, those with damaged files, too: what is left of
    them can be shown, and what is not is said.
    """
    store, found = study.store, dict[str, Commit]()
    committed = store.committed()
    for trial in study.plan.trials:
        if trial.eval_id in committed and trial.eval_id not in found:
            try:
                marker = store.load(paths.commit(str(trial.eval_id)), Commit)
            except DamagedError:
                continue
            found |= {str(trial.eval_id): marker} if marker else {}
    return found


def dice_of(tested: Tested, plan: StudyPlan) -> dict[str, float]:
    """Dice by label group; empty where the plan has no Dice."""
    if tested.rows.empty or "dice" not in tested.rows or "dice" not in plan.metrics:
        return {}
    pairs = zip(tested.rows["group"], tested.rows["dice"], strict=True)
    return {str(group): float(value) for group, value in pairs}


def kept_file(study: StoredStudy, marker: Commit, kind: str) -> bytes | None:
    """A file of a finished trial, None where it was not kept or is not what was committed."""
    try:
        return read_committed(study.store, marker, kind)
    except DamagedError:
        return None
