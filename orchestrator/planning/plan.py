"""From a spec to trials: which exist, which are done, which changed and why, in which order they
run.

Pure: what is on disk comes in as values (`Inputs`, commits, failures). Imports no torch and no Ray.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from medvision.data.splits import Fold
from orchestrator.planning.cost import CostModel, Work, arithmetic_seconds, longest_first
from orchestrator.planning.identity import (
    Identity,
    differences,
    digest,
    eval_identity,
    train_identity,
)
from orchestrator.planning.retry import State, next_state, reason
from orchestrator.spec.data import TaskSpec
from orchestrator.spec.search import tuned
from orchestrator.spec.study import Spec, model_name
from record.schema import Cell, Commit, Failure

Status = Literal["new", "done", "changed", "rescore", "failed", "quarantined", "unknown"]


@dataclass(frozen=True)
class TaskInputs:
    """A task's folds and content fingerprints, or in `missing` what is not there, a line each;
    `excluded`: broken cases that no model gets to see, with their reasons; `reserved`: patients
    that are in no fold, for the search; `patients`: case to patient, where a grouping is given;
    `order`, `changes`: as of `orchestrator.planning.folds.Divided`; `doubts`: what is odd about
    cases in use, a line each."""

    folds: tuple[Fold, ...] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    missing: str = ""
    excluded: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reserved: tuple[tuple[str, ...], ...] = ()
    patients: Mapping[str, str] = field(default_factory=dict)
    order: tuple[tuple[str, ...], ...] = ()
    changes: str = ""
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class BlockInputs:
    """Fingerprint and size of a model's language-model block; `missing` says what is not there."""

    fingerprint: str | None = None
    size: Mapping[str, Any] | None = None
    missing: str = ""


@dataclass(frozen=True)
class Tuned:
    """The settings that a search found for one model, task and fold, or `missing`: why there are
    none. `search`: its id.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    missing: str = ""
    search: str = ""


@dataclass(frozen=True)
class Inputs:
    """What stands outside the spec: `tasks` by task name, `blocks` by model name (models with a
    block only), `tuned` by model, task and fold (where the spec has a search)."""

    tasks: Mapping[str, TaskInputs]
    blocks: Mapping[str, BlockInputs]
    tuned: Mapping[tuple[str, str, int], Tuned] = field(default_factory=dict)

    @property
    def missing(self) -> list[str]:
        every: list[TaskInputs | BlockInputs] = [*self.tasks.values(), *self.blocks.values()]
        return list(dict.fromkeys(line for item in every for line in item.missing.splitlines()))

    @property
    def doubts(self) -> list[str]:
        """What is odd about the data but forbids nothing."""
        return [f"{name}: {line}" for name, task in self.tasks.items() for line in task.doubts]


@dataclass(frozen=True)
class Trial:
    """One cell with its ids (None while data are missing), its status and the reason for it; `work`
    is what it costs, `settings` what a search chose in the place of the spec's."""

    cell: Cell
    status: Status
    why: str
    work: Work
    estimated_seconds: float = 0.0
    train_id: str | None = None
    eval_id: str | None = None
    identity: Mapping[str, Identity] = field(default_factory=dict)
    rescore_of: str | None = None
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What its cost is known by: the eval_id, or the cell while that is unknown."""
        return self.eval_id or str(self.cell)

    @property
    def to_run(self) -> bool:
        return self.status in ("new", "changed", "rescore", "failed")


@dataclass(frozen=True)
class Plan:
    """Trials in the order of the grid; `cost` knows what they take, and learns."""

    trials: tuple[Trial, ...]
    missing: tuple[str, ...] = ()
    cost: CostModel = field(default_factory=lambda: CostModel({}), compare=False)

    def in_order(self) -> list[Trial]:
        """The trials to run (or, with an unknown id, likely to), longest first, so that no long one
        starts last.
        """
        chosen = (trial for trial in self.trials if trial.to_run or trial.status == "unknown")
        return longest_first(chosen, lambda trial: trial.estimated_seconds)

    def repeats(self) -> list[Trial]:
        """The waiting trials that train on the same cases as an earlier fold, which small fractions
        lead to: each is trained for itself, from a start of its own.
        """
        first: dict[tuple[Any, ...], int] = {}
        found: dict[str, Trial] = {}
        for trial in self.trials:
            training, cell = trial.identity.get("train"), trial.cell
            if training:
                cases = (training["train_cases"], training["validation_cases"])
                place = (cell.model, cell.task, cell.seed, *(role["sha256"] for role in cases))
                again = first.setdefault(place, cell.fold) != cell.fold
                if again and trial.to_run and not trial.work.rescore:
                    found[trial.name] = trial
        return list(found.values())

    def counts(self) -> dict[str, int]:
        """Number of trials by status, in a fixed order, only those that occur."""
        order: tuple[Status, ...] = (
            "done",
            "new",
            "changed",
            "rescore",
            "failed",
            "quarantined",
            "unknown",
        )
        found = [trial.status for trial in self.trials]
        return {status: found.count(status) for status in order if status in found}


def make_plan(
    spec: Spec,
    inputs: Inputs,
    commits: Mapping[str, Commit],
    failures: Mapping[str, Sequence[Failure]],
) -> Plan:
    """Every cell of the grid with its ids and status.

    Args:
        commits: markers of finished evaluations by eval_id.
        failures: failed attempts by eval_id.
    """
    history = _History(commits)
    trials = [
        _trial(spec, inputs, history, failures, model, task, fraction, fold, seed)
        for model, task, fraction, fold, seed in itertools.product(
            spec.models, spec.tasks, spec.fractions, range(fold_count(spec)), spec.seeds
        )
    ]
    cost = CostModel({trial.name: trial.work for trial in trials}).taught_by(commits)
    estimated = (replace(trial, estimated_seconds=cost.seconds(trial.name)) for trial in trials)
    return Plan(tuple(estimated), tuple(inputs.missing), cost)


class _History:
    """Finished evaluations by training id and by cell."""

    def __init__(self, commits: Mapping[str, Commit]) -> None:
        self.by_eval = commits
        self.by_train: dict[str, list[str]] = {}
        self.by_cell: dict[Cell, str] = {}
        for eval_id, marker in sorted(commits.items(), key=lambda item: item[1].finished):
            self.by_train.setdefault(marker.train_id, []).append(eval_id)
            self.by_cell[marker.cell] = eval_id


def _trial(
    spec: Spec,
    inputs: Inputs,
    history: _History,
    failures: Mapping[str, Sequence[Failure]],
    model: Any,
    task: TaskSpec,
    fraction: float,
    fold: int,
    seed: int,
) -> Trial:
    cell = Cell(model_name(model), task.name, fraction, fold, seed)
    found = inputs.tuned.get(
        (cell.model, cell.task, fold), Tuned(missing="its search was not run yet")
    )
    settings = found.settings if spec.search else {}
    spec, model = tuned(spec, model, settings)
    known, block = inputs.tasks[task.name], inputs.blocks.get(cell.model)
    roles = known.folds[fold].roles(fraction) if known.folds else None
    shape = spec.resources.shape(cell.model, task.name)
    seconds = arithmetic_seconds(spec, model, task, fraction, roles, block.size if block else None)
    trial = Trial(
        cell,
        "unknown",
        "",
        Work(cell.model, task.name, seconds, shape.workers * shape.gpus_per_worker),
    )
    if known.missing or (block and block.missing):
        return replace(
            trial, why="its data are missing" if known.missing else "its block is missing"
        )
    if spec.search and found.missing:
        return replace(trial, why=found.missing)
    assert roles is not None  # noqa: S101  # folds are known where nothing is missing
    fingerprint = block.fingerprint if block else None
    training = train_identity(spec, model, task, fold, seed, roles, known.fingerprints, fingerprint)
    train_id = digest(training)
    scoring = eval_identity(spec, task, train_id, roles, known.fingerprints)
    eval_id = digest(scoring)
    trial = replace(
        trial,
        train_id=train_id,
        eval_id=eval_id,
        identity={"train": training, "eval": scoring},
        notes=roles.notes,
        settings=settings,
    )
    if eval_id in history.by_eval:
        return replace(trial, status="done", why="finished")
    for earlier in reversed(history.by_train.get(train_id, [])):
        old = history.by_eval[earlier].identity.eval
        if old["test_cases"] == scoring["test_cases"]:
            why = f"scored again from its masks: {'; '.join(differences(old, scoring))}"
            seconds = arithmetic_seconds(spec, model, task, fraction, roles, None, rescore=True)
            work = replace(trial.work, arithmetic=seconds, rescore=True)
            return replace(trial, status="rescore", why=why, work=work, rescore_of=earlier)
    failed = failures.get(eval_id, [])
    state = next_state(failed, spec.resources.max_attempts)
    if state is State.QUARANTINED:
        return replace(trial, status="quarantined", why=reason(failed))
    if state is State.FAILED:
        return replace(
            trial, status="failed", why=f"attempt {len(failed) + 1} after: {reason(failed)}"
        )
    if cell in history.by_cell:
        changed = differences(history.by_eval[history.by_cell[cell]].identity.train, training)
        return replace(
            trial, status="changed", why="; ".join(changed) or "its evaluation's test cases changed"
        )
    return replace(trial, status="new", why="never run")


def fold_count(spec: Spec) -> int:
    """Folds of every task."""
    return spec.folds if spec.splits.scheme == "kfold" else 1
