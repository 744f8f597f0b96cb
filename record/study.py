"""A study as its folder describes it: status, reports and tracking take this value, so that each
file is read in one place, and once.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from record import paths
from record.damage import FinishedTrials, finished_trials
from record.frozen import Frozen, PlannedTrainings, frozen_analysis, planned_trainings
from record.manifest import Manifest
from record.schema import Failure, PlannedTrial, Split, StudyFile, StudyPlan
from record.search import SearchOutcome
from record.store import Store, StoreError
from record.tables import rows_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class StoredStudy:
    """A study as it is stored now, beside its plan: every other file is read on first use. What
    changes the record asks for another look (`again`).

    Args:
        store: its files.
        plan: its plan.json, as it is read.
    """

    store: Store
    plan: StudyPlan

    @classmethod
    def opened(cls, store: Store) -> StoredStudy:
        """The study of a folder.

        Raises:
            StoreError: this is no study, or the storage is out of reach.
        """
        return cls(store, store.plan())

    def again(self) -> StoredStudy:
        """Another look, after trials have ended; the plan is the same."""
        return replace(self)

    @functools.cached_property
    def settings(self) -> StudyFile:
        """Its study.json.

        Raises:
            StoreError: there is none.
        """
        found = self.store.load(paths.STUDY, StudyFile)
        if found is None:
            raise StoreError(f"{self.store.path(paths.STUDY)}: is missing; {StudyFile.remedy}")
        return found

    @functools.cached_property
    def manifest(self) -> Manifest | None:
        """What it was made with; None before its first training."""
        return self.store.load(paths.MANIFEST, Manifest)

    @functools.cached_property
    def splits(self) -> Mapping[str, Split]:
        """What the split files say, by task, of those that are there."""
        found = {task: self.store.load(paths.split(task), Split) for task in self.plan.tasks}
        return {task: split for task, split in found.items() if split is not None}

    @functools.cached_property
    def frozen(self) -> Frozen | None:
        """The analysis that was frozen, None where none was.

        Raises:
            DamagedError: its file is not what was frozen.
        """
        return frozen_analysis(self.store)

    @functools.cached_property
    def planned(self) -> list[PlannedTrainings]:
        """What was planned to be trained, in the order of time."""
        return planned_trainings(self.store)

    @functools.cached_property
    def searched(self) -> list[SearchOutcome]:
        """The outcomes of the plan's searches, in its order."""
        found = self.store.outcomes() if self.plan.searches else {}
        return [found[name] for name in self.plan.searches if name in found]

    @functools.cached_property
    def finished(self) -> FinishedTrials:
        """Which trials are finished and whole, and which are damaged."""
        return finished_trials(self.store, self.plan)

    @functools.cached_property
    def failures(self) -> Mapping[str, list[Failure]]:
        """Failed attempts by evaluation id, in the order of time."""
        return self.store.failures()

    @property
    def missing(self) -> list[PlannedTrial]:
        """The trials that are not finished, or are damaged."""
        return self.plan.missing(self.finished.commits)

    def rows(self, kind: str) -> pd.DataFrame:
        """All CASES or HISTORY rows of the finished trials (`record.tables.rows_of`)."""
        return rows_of(self.store, kind, self.plan.finished(self.finished.commits))
