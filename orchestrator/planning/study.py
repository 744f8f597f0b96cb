"""One look at a study: its spec, its record and what it needs of data and checkpoints, planned
once.

Whoever runs, searches or writes down a study takes this. Imports no torch and no Ray.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from medvision.own_code import OwnCodeError
from orchestrator.planning import study_files
from orchestrator.planning.found import Inputs
from orchestrator.planning.identity import Job
from orchestrator.planning.inputs import InputError, gathered, remembered, resolved
from orchestrator.planning.plan import Plan, make_plan
from orchestrator.planning.search import Search, searches, with_winners
from orchestrator.spec.study import Spec
from record import paths
from record.atomic import is_half_written
from record.damage import readable_commits
from record.frozen import Frozen, freeze, note_trainings
from record.index import glance_at
from record.schema import Split
from record.search import SearchOutcome
from record.store import Store, StoreError
from record.study import StoredStudy


@dataclass(frozen=True)
class Study:
    """A study as it is now. What changes its record (`forget`, a search) asks for another look.

    Args:
        spec: resolved (`orchestrator.planning.inputs.resolved`).
        store: its record.
        found: its data and blocks, as they were found.
        damaged: finished evaluations that a run will set aside, and what is wrong with each; of a
            dry run. A run has done so before it plans.
    """

    spec: Spec
    store: Store
    found: Inputs
    damaged: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def remembered(cls, spec: Spec, store: Store) -> Study:
        """For a dry run: from what is known without reading data.

        Raises:
            InputError: a dataset.json that lacks what is needed of it.
        """
        spec = resolved(spec)
        damaged: Mapping[str, str] = {}
        with contextlib.suppress(StoreError):  # no study yet, or its plan is written anew
            damaged = glance_at(StoredStudy.opened(store)).damaged
        return cls(spec, store, remembered(spec, _splits(spec, store)), damaged)

    @classmethod
    def gathered(cls, spec: Spec, store: Store) -> Study:
        """For a run: everything that it needs is made where it is missing.

        Raises:
            InputError: what cannot be had, all problems at once.
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
        """Every trial with its ids and status, by the record as it is on first use."""
        commits = {
            name: marker
            for name, marker in readable_commits(self.store).items()
            if name not in self.damaged
        }
        try:
            begun = self.store.names(paths.CHECKPOINTS)
            return make_plan(self.spec, self.inputs, commits, self.store.failures(), begun)
        except OwnCodeError as error:  # a network of one's own does not take the study's sizes
            raise InputError(str(error)) from error

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

    def write(self) -> StoredStudy:
        """Write what attempts and reports read: splits, resolved spec, plan.

        Returns:
            The study as it is found in its folder.
        """
        return study_files.write_study(self.store, self.spec, self.inputs, self.plan)

    def write_manifest(self) -> None:
        """Write down code, packages, hardware and fingerprints, for whoever repeats the study."""
        from record.manifest import manifest

        values = study_files.public_values(self.spec)
        self.store.save(paths.MANIFEST, manifest(values, study_files.fingerprints(self.inputs)))

    def freeze(self) -> Frozen:
        """Write down what the study will test, before its results are seen; reads the plan alone,
        so that a dry run can do it.

        Raises:
            InputError: data or blocks were not read yet, so that exclusions are not known.
            StoreError: it was frozen before.
        """
        from reports.sections.claims import claim_hashes

        if missing := self.inputs.missing:
            raise InputError(
                "\n".join(
                    [
                        *missing,
                        "--freeze needs data and blocks: with them in place, run without --dry-run",
                    ]
                )
            )
        plan = study_files.study_plan(self.spec, self.inputs, self.plan, {})
        frozen = freeze(self.store, plan, claim_hashes())
        note_trainings(self.store, plan)
        return frozen

    def forget(self, named: Sequence[str]) -> Study:
        """Forget results and failures of these trials (`orchestrator.planning.study_files.forget`).

        Raises:
            StoreError: a name fits no trial of the study, or several; nothing is forgotten then.
        """
        # With what was finished until now: a result that is forgotten was seen.
        note_trainings(self.store, study_files.study_plan(self.spec, self.inputs, self.plan, {}))
        study_files.forget(self.store, self.plan, named)
        return self.again()

    def tidy(self) -> None:
        """Remove what finished trials no longer need, where a driver died between a commit and its
        cleaning up, and what it was writing.
        """
        trials = self.plan.trials
        done = {str(trial.eval_id) for trial in trials if trial.status == "done"}
        for eval_id in done.intersection(self.store.names(paths.FAILURES)):
            self.store.remove(paths.failures(eval_id))
        unfinished = {str(trial.train_id) for trial in trials if trial.status != "done"}
        trained = {str(trial.train_id) for trial in trials} - unfinished
        for train_id in trained.intersection(self.store.names(paths.CHECKPOINTS)):
            self.store.remove(paths.checkpoints(train_id))
        # Half-written files; elsewhere a file is put whole. The lock's may be in writing.
        for file in self.store.below("") if self.store.local else ():
            name = file.rpartition("/")[2]
            if is_half_written(name) and not name.startswith(f".{paths.LOCK}"):
                self.store.remove(file)


def _splits(spec: Spec, store: Store) -> dict[str, Split | None]:
    """The split file of each task, None where there is none yet.

    Raises:
        DamagedError: one is not what was written.
    """
    return {task.name: store.load(paths.split(task.name), Split) for task in spec.tasks}
