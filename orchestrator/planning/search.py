"""The search of hyperparameters before the grid, as pure logic: what is searched, what is tried
next, what wins.

Optuna's TPE suggests, a median rule ends hopeless trials, and the highest validation Dice wins.
Everything follows from the spec, the data and the trials so far, so that a search that was
interrupted goes on as if it had not been. The rounds are run by
`orchestrator.executors.search_rounds`, one trial by `orchestrator.trial.tuning`. Imports no torch
and no Ray.
"""

from __future__ import annotations

import functools
import hashlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medvision.data.splits import Fold, Roles
from medvision.settings import counted
from orchestrator.planning.cost import arithmetic_seconds
from orchestrator.planning.identity import (
    Identity,
    Job,
    Tuning,
    differences,
    digest,
    eval_identity,
    train_identity,
)
from orchestrator.planning.plan import BlockInputs, Inputs, Tuned
from orchestrator.spec.data import TaskSpec
from orchestrator.spec.search import Range, SearchSpec, tuned
from orchestrator.spec.study import Spec, model_name
from record.schema import Cell

SEARCH_NUMERICS = 1  # raised when the same trials would lead to other suggestions or another winner
STARTUP = 5  # complete trials before any is pruned, as in Optuna's MedianPruner
WARM_UP = 0.25  # share of a trial that is never pruned: schedules that warm up start slowly
Record = Mapping[
    str, Any
]  # of a trial: number, settings, state (complete, pruned, failed), value, curve


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

    def frozen(self, records: Sequence[Record]) -> dict[str, Any]:
        """Its outcome, as search.json keeps it; `settings` is None where every trial failed."""
        best = winner(records)
        outcome = (
            {"settings": best["settings"], "value": best["value"], "number": best["number"]}
            if best
            else {}
        )
        reason = (
            "" if best else f"all {len(records)} trials failed, the last: {records[-1]['reason']}"
        )
        counts = {
            state: sum(record["state"] == state for record in records)
            for state in ("complete", "pruned", "failed")
        }
        trials = [
            {key: value for key, value in record.items() if key != "curve"} for record in records
        ]
        return {
            **self.place,
            "settings": None,
            **outcome,
            "reason": reason,
            "counts": counts,
            "cases": {"train": len(self.roles.train), "validation": len(self.roles.validation)},
            "trials": trials,
            "identity": self.identity,
        }

    def _train_identity(self, spec: Spec, model: Any) -> Identity:
        block = self.block.fingerprint if self.block else None
        return train_identity(
            spec, model, self.task, self.settings.seed, self.roles, self.fingerprints, block
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


def unknown(spec: Spec, inputs: Inputs) -> list[tuple[Any, TaskSpec]]:
    """Models and tasks whose searches cannot be told yet, because data or a block were not read."""
    known = [(search.model, search.task) for search in searches(spec, inputs)]
    return [place for place in _places(spec) if place not in known]


def _places(spec: Spec) -> list[tuple[Any, TaskSpec]]:
    return [(model, task) for model in spec.models for task in spec.tasks] if spec.search else []


def with_winners(spec: Spec, inputs: Inputs, frozen: Mapping[str, Record]) -> Inputs:
    """The inputs with the settings that each fold's search has found, or why it has found none.

    Args:
        frozen: outcomes by the search's id (search.json).
    """
    found: dict[tuple[str, str, int], Tuned] = {}
    for search in searches(spec, inputs):
        outcome = _outcome(search, frozen)
        for fold in range(search.folds) if search.fold is None else [search.fold]:
            found[model_name(search.model), search.task.name, fold] = outcome
    return replace(inputs, tuned=found)


def _outcome(search: Search, frozen: Mapping[str, Record]) -> Tuned:
    own = frozen.get(search.id)
    if own and own["settings"] is not None:
        return Tuned(own["settings"], search=search.id)
    if own:
        return Tuned(missing=f"its search found nothing: {own['reason']}", search=search.id)
    same_place = [
        one for one in frozen.values() if {key: one[key] for key in search.place} == search.place
    ]
    changes = [differences(one["identity"], search.identity) for one in same_place]
    why = "its search was not run yet"
    if changes:
        fewest: list[str] = min(changes, key=len)
        why = f"its search has to run again: {'; '.join(fewest)}"
    return Tuned(missing=why, search=search.id)


def suggest(settings: SearchSpec, records: Sequence[Record], count: int) -> list[dict[str, Any]]:
    """The next settings to try, by Optuna's TPE (Bergstra et al. 2011).

    The seed is that of the spec and of how many trials there were: every model starts from the same
    random suggestions.

    Args:
        records: all trials before, in their order.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = {key: _distribution(settings.space[key]) for key in sorted(settings.space)}
    seed = hashlib.sha256(f"{settings.seed}\n{len(records)}".encode()).digest()
    sampler = optuna.samplers.TPESampler(seed=int.from_bytes(seed[:4], "big"))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    states = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    for record in records:
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState[states[record["state"]]],
                value=record["value"] if record["state"] == "complete" else None,
                params=dict(record["settings"]),
                distributions=distributions,
                intermediate_values={int(step): value for step, value in record["curve"][-1:]},
            )
        )
    return [dict(study.ask(distributions).params) for _ in range(count)]


def medians(records: Sequence[Record]) -> list[tuple[int, float]]:
    """(steps, median over the complete trials of the best validation Dice until then); empty before
    `STARTUP` of them.

    A trial below the median is ended (the median rule of Golovin et al. 2017, Google Vizier,
    section 3.2.2).
    """
    curves = [record["curve"] for record in records if record["state"] == "complete"]
    if len(curves) < STARTUP:
        return []
    steps = sorted({int(step) for curve in curves for step, _ in curve})
    return [
        (
            step,
            statistics.median(
                best for curve in curves if (best := best_until(curve, step)) is not None
            ),
        )
        for step in steps
        if step >= WARM_UP * steps[-1]
    ]


def best_until(curve: Sequence[Sequence[float]], step: float) -> float | None:
    """The highest value of a curve of (step, value) up to a step; None where it starts later."""
    return max((value for at, value in curve if at <= step), default=None)


def is_hopeless(curve: Sequence[Sequence[float]], limits: Sequence[Sequence[float]]) -> bool:
    """Whether a trial with this curve so far is to be ended; `limits` are `medians`."""
    if not curve:
        return False
    limit = [value for step, value in limits if step <= curve[-1][0]]
    return bool(limit) and max(value for _, value in curve) < limit[-1]


def winner(records: Sequence[Record]) -> Record | None:
    """The complete trial with the highest validation Dice, the earlier one of equals; None without
    any.
    """
    complete = [record for record in records if record["state"] == "complete"]
    return max(complete, key=lambda record: (record["value"], -record["number"]), default=None)


def _distribution(values: Range) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if values.choices is not None:
        return CategoricalDistribution(values.choices)
    low, high = values.ends
    return (
        IntDistribution(low, high)
        if values.integers
        else FloatDistribution(low, high, log=values.log is not None)
    )


def _forget(values: dict[str, Any], key: str) -> None:
    """Remove a dotted key; one that is not there is at its default
    (`orchestrator.planning.identity`).
    """
    first, _, rest = key.partition(".")
    if not rest:
        values.pop(first, None)
    elif isinstance(values.get(first), dict):
        _forget(values[first], rest)
