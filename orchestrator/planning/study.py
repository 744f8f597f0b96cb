"""One look at a study: its spec, its record and what it needs of data and checkpoints, planned
once.

Whoever runs, searches or writes down a study takes this. Imports no torch and no Ray.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from orchestrator.planning import study_files
from orchestrator.planning.identity import Job
from orchestrator.planning.inputs import gathered, remembered, resolved
from orchestrator.planning.plan import Inputs, Plan, make_plan
from orchestrator.planning.search import Search, searches, with_winners
from orchestrator.spec.study import Spec
from record import paths
from record.schema import SearchOutcome, Split
from record.store import Store


@dataclass(frozen=True)
class Study:
    """A study as it is now. What changes its record (`forget`, a search) asks for another look.

    Args:
        spec: resolved (`orchestrator.planning.inputs.resolved`).
        store: its record.
        found: its data and blocks, as they were found.
    """

    spec: Spec
    store: Store
    found: Inputs

    @classmethod
    def remembered(cls, spec: Spec, store: Store) -> Study:
        """For a dry run: out of what is known without reading data.

        Raises:
            InputError: a dataset.json that does not say what is asked of it.
        """
        spec = resolved(spec)
        return cls(spec, store, remembered(spec, _splits(spec, store)))

    @classmethod
    def gathered(cls, spec: Spec, store: Store) -> Study:
        """For a run: everything that it needs is made where it is not there.

        Raises:
            InputError: whatever cannot be had, all at once.
        """
        found = gathered(spec, _splits(spec, store))
        return cls(resolved(spec), store, found)

    def again(self) -> Study:
        """Another look, after the record changed; data and blocks are as they were found."""
        return replace(self)

    @functools.cached_property
    def searches(self) -> list[Search]:
        """Every search of the spec whose data and block are here."""
        return searches(self.spec, self.found)

    @functools.cached_property
    def outcomes(self) -> Mapping[str, SearchOutcome]:
        """What the searches that have ended found (`Search.outcome`), by the search's id."""
        return self.store.outcomes() if self.spec.search else {}

    @functools.cached_property
    def inputs(self) -> Inputs:
        """Data and blocks, and the settings that the searches have chosen."""
        if self.spec.search is None:
            return self.found
        return with_winners(self.found, self.searches, self.outcomes)

    @functools.cached_property
    def plan(self) -> Plan:
        """Every trial with its ids and status, by the record when this is first asked for."""
        return make_plan(self.spec, self.inputs, self.store.commits(), self.store.failures())

    @property
    def searches_to_run(self) -> list[Search]:
        """Searches without a winner, each once: models that differ in their names only share
        one.
        """
        every = {search.id: search for search in self.searches}
        found = {name for name, one in self.outcomes.items() if one.settings is not None}
        return [search for name, search in every.items() if name not in found]

    def jobs(self, token: str) -> list[Job]:
        """The trials to run, the longest first (`orchestrator.planning.study_files.jobs`).

        Args:
            token: the driver's, of the study's lock.
        """
        return study_files.jobs(self.plan, token)

    def write(self) -> None:
        """Write what attempts and reports read: splits, resolved spec, plan."""
        study_files.write_study(self.store, self.spec, self.inputs, self.plan)

    def write_manifest(self) -> None:
        """Write code, packages, hardware and fingerprints down, for whoever repeats it."""
        from record.manifest import manifest

        values = study_files.public_values(self.spec)
        self.store.save(paths.MANIFEST, manifest(values, study_files.fingerprints(self.inputs)))

    def forget(self, named: Sequence[str]) -> Study:
        """Forget results and failures of these trials (`orchestrator.planning.study_files.forget`).

        Raises:
            StoreError: a name fits no trial of the study, or several; nothing is forgotten then.
        """
        study_files.forget(self.store, self.plan, named)
        return self.again()

    def tidy(self) -> None:
        """Remove what finished trials need no more, where a driver died between a commit and
        that.
        """
        trials = self.plan.trials
        done = {str(trial.eval_id) for trial in trials if trial.status == "done"}
        for eval_id in done.intersection(self.store.names(paths.FAILURES)):
            self.store.remove(paths.failures(eval_id))
        unfinished = {str(trial.train_id) for trial in trials if trial.status != "done"}
        trained = {str(trial.train_id) for trial in trials} - unfinished
        for train_id in trained.intersection(self.store.names(paths.CHECKPOINTS)):
            self.store.remove(paths.checkpoints(train_id))


def _splits(spec: Spec, store: Store) -> dict[str, Split | None]:
    """What the split file of each task says; None where there is none that can be read: it is
    written anew.
    """
    found: dict[str, Split | None] = {}
    for task in spec.tasks:
        try:
            found[task.name] = Split.model_validate(store.read_json(paths.split(task.name)))
        except ValidationError:
            found[task.name] = None
    return found
