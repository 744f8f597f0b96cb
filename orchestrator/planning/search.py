"""The searches of hyperparameters before the grid: which there are, on which cases, and what they
mean for the grid.

What a search tries next and what wins is `orchestrator.planning.suggestions`'. The rounds are run
by `orchestrator.executors.search_rounds`, one trial by `orchestrator.trial.tuning`. Imports no
torch and no Ray.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medvision.data.splits import Fold, Roles
from medvision.settings import counted
from orchestrator.planning.cost import arithmetic_seconds
from orchestrator.planning.found import BlockInputs, Inputs, Tuned
from orchestrator.planning.identity import (
    Identity,
    Job,
    Tuning,
    differences,
    digest,
    eval_identity,
    train_identity,
)
from orchestrator.planning.suggestions import winner
from orchestrator.spec.data import TaskSpec
from orchestrator.spec.other_tools import OtherTool
from orchestrator.spec.search import SearchSpec, tuned
from orchestrator.spec.study import Spec, model_name
from record.schema import Cell
from record.search import SearchOutcome, SearchTrial

SEARCH_NUMERICS = 1  # raised when the same trials would lead to other suggestions or another winner


def tuning_roles(reserved: Sequence[Sequence[str]], fold: Fold) -> Roles:
    """Who trains and validates in a search: the reserved patients, or without any all of a fold but
    its test cases.
    """
    return Fold((), tuple(map(tuple, reserved)) or fold.order).roles(1.0)


@dataclass(frozen=True)
class Search:
    """The search for one model on one task, for all folds (`fold` None) or for one."""

    spec: Spec
    settings: SearchSpec
    model: Any
    task: TaskSpec
    fold: int | None
    folds: int
    roles: Roles
    fingerprints: Mapping[str, str]
    block: BlockInputs | None

    @functools.cached_property
    def identity(self) -> Identity:
        """All that can change its winner. What the space or the budget decides counts as they say,
        not as the spec says.
        """
        train = self._train_identity(*tuned(self.spec, self.model, self.settings.budget))
        for key in self.settings.space:
            _forget(train if key.startswith("training.") else train["model"], key)
        return {"numerics": SEARCH_NUMERICS, "search": counted(self.settings), "train": train}

    @functools.cached_property
    def id(self) -> str:
        return digest(self.identity)[:16]

    @property
    def place(self) -> dict[str, Any]:
        """What it is the search for, as stored."""
        return {"model": model_name(self.model), "task": self.task.name, "fold": self.fold}

    def job(
        self,
        number: int,
        settings: Mapping[str, Any],
        medians: Sequence[Sequence[float]],
        token: str,
    ) -> Job:
        """One trial as a job.

        Raises:
            ValueError: the model cannot take these settings together.
        """
        every = self.settings.budget | dict(settings)
        spec, model = tuned(self.spec, self.model, every)
        tuning = Tuning(self.id, number, tuple(medians))
        train_id = digest(tuning.identity(self._train_identity(spec, model)))
        eval_id = digest(eval_identity(spec, self.task, train_id, self.roles, self.fingerprints))
        cell = Cell(model_name(self.model), self.task.name, 1.0, self.fold or 0, self.settings.seed)
        return Job(cell, train_id, eval_id, token, settings=every, tuning=tuning)

    def seconds(self) -> float:
        """Arithmetic of one trial that is not pruned."""
        spec, model = tuned(self.spec, self.model, self.settings.budget)
        return arithmetic_seconds(
            spec, model, self.task, 1.0, self.roles, self.block.size if self.block else None
        )

    def outcome(self, trials: Sequence[SearchTrial]) -> SearchOutcome:
        """What it found; `settings` is None where every trial failed."""
        best = winner(trials)
        found: dict[str, Any] = {"settings": None}
        if best:
            found = {"settings": best.settings, "value": best.value, "number": best.number}
        reason = f"all {len(trials)} trials failed, the last: {trials[-1].reason}"
        kept = [trial.model_dump(exclude={"curve"}, exclude_unset=True) for trial in trials]
        return SearchOutcome(
            **self.place,
            **found,
            reason="" if best else reason,
            counts={
                state: sum(trial.state == state for trial in trials)
                for state in ("complete", "pruned", "failed")
            },
            cases={"train": len(self.roles.train), "validation": len(self.roles.validation)},
            trials=[SearchTrial.model_validate(trial) for trial in kept],
            identity=self.identity,
        )

    def _train_identity(self, spec: Spec, model: Any) -> Identity:
        block = self.block.fingerprint if self.block else None
        return train_identity(
            spec,
            model,
            self.task,
            self.fold or 0,
            self.settings.seed,
            self.roles,
            self.fingerprints,
            block,
        )


def searches(spec: Spec, inputs: Inputs) -> list[Search]:
    """Every search of the spec whose data and block are here."""
    found: list[Search] = []
    for model, task in _places(spec):
        known, block = inputs.tasks[task.name], inputs.blocks.get(model_name(model))
        if spec.search is None or known.missing or (block and block.missing):
            continue
        folds: Sequence[int | None] = (
            range(len(known.folds)) if spec.search.cases == "nested" else [None]
        )
        for fold in folds:
            roles = tuning_roles(known.reserved, known.folds[fold or 0])
            found.append(
                Search(
                    spec,
                    spec.search,
                    model,
                    task,
                    fold,
                    len(known.folds),
                    roles,
                    known.fingerprints,
                    block,
                )
            )
    return found


def unread_places(spec: Spec, known: Sequence[Search]) -> list[tuple[Any, TaskSpec]]:
    """Models and tasks without a search among the known ones, because data or a block were not
    read.
    """
    places = [(search.model, search.task) for search in known]
    return [place for place in _places(spec) if place not in places]


def _places(spec: Spec) -> list[tuple[Any, TaskSpec]]:
    if spec.search is None:
        return []
    models = [model for model in spec.models if not isinstance(model, OtherTool)]
    return [(model, task) for model in models for task in spec.tasks]


def with_winners(
    inputs: Inputs, known: Sequence[Search], outcomes: Mapping[str, SearchOutcome]
) -> Inputs:
    """The inputs with the settings that each fold's search has found, or why it has found none.

    Args:
        known: `searches` of the study.
        outcomes: by the search's id (search.json).
    """
    found: dict[tuple[str, str, int], Tuned] = {}
    for search in known:
        settings = _found(search, outcomes)
        for fold in range(search.folds) if search.fold is None else [search.fold]:
            found[model_name(search.model), search.task.name, fold] = settings
    return replace(inputs, tuned=found)


def _found(search: Search, outcomes: Mapping[str, SearchOutcome]) -> Tuned:
    own = outcomes.get(search.id)
    if own and own.settings is not None:
        return Tuned(own.settings, search=search.id)
    if own:
        return Tuned(missing=f"its search found nothing: {own.reason}", search=search.id)
    changes = [
        differences(one.identity, search.identity)
        for one in outcomes.values()
        if {"model": one.model, "task": one.task, "fold": one.fold} == search.place
    ]
    why = "its search was not run yet"
    if changes:
        fewest: list[str] = min(changes, key=len)
        why = f"its search has to run again: {'; '.join(fewest)}"
    return Tuned(missing=why, search=search.id)


def _forget(values: dict[str, Any], key: str) -> None:
    """Remove a dotted key; one that is not there is at its default
    (`orchestrator.planning.identity`).
    """
    first, _, rest = key.partition(".")
    if not rest:
        values.pop(first, None)
    elif isinstance(values.get(first), dict):
        _forget(values[first], rest)
