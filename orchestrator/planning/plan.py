"""From a spec to trials: which exist, which are done, which changed and why, in which order they
run.

Pure: what is on disk comes in as values (`Inputs`, commits, failures). Imports no torch and no Ray.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from medvision.data.splits import Roles
from orchestrator.planning.cost import CostModel, Work, longest_first
from orchestrator.planning.found import Inputs, Tuned
from orchestrator.planning.identity import (
    Identity,
    differences,
    digest,
    external_identity,
    scoring_of,
    training_of,
)
from orchestrator.planning.retry import State, next_state, reason
from orchestrator.planning.shared import Shared
from orchestrator.spec.data import TaskSpec
from orchestrator.spec.other_tools import ExternalSettings, OtherTool
from orchestrator.spec.study import Spec, model_name
from record.schema import Cell, Commit, Failure

Status = Literal["new", "done", "changed", "rescore", "failed", "quarantined", "unknown"]


@dataclass(frozen=True)
class Trial:
    """One cell with its ids (None while data are missing), its status and the reason for it; `work`
    is what it costs, `settings` what a search chose instead of the spec's."""

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
        """The key of its cost: the eval_id, or the cell while that is unknown."""
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
            if training and "train_cases" in training:
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
    begun: Collection[str] = (),
) -> Plan:
    """Every cell of the grid with its ids and status.

    Args:
        commits: markers of finished evaluations by eval_id.
        failures: failed attempts by eval_id.
        begun: train_ids of trainings with a checkpoint.
    """
    history, shared = _History(commits, begun), Shared(spec, inputs)
    trials = [
        _trial(spec, inputs, history, failures, shared, model, task, fraction, fold, seed)
        for model, task, fraction, fold, seed in itertools.product(
            spec.models, spec.tasks, spec.fractions, range(fold_count(spec)), spec.seeds
        )
        if not isinstance(model, ExternalSettings) or model.is_of(fraction, spec.fractions)
    ]
    cost = CostModel({trial.name: trial.work for trial in trials}).taught_by(commits)
    estimated = (replace(trial, estimated_seconds=cost.seconds(trial.name)) for trial in trials)
    return Plan(tuple(estimated), tuple(inputs.missing), cost)


class _History:
    """Finished evaluations by training id and by cell, and the trainings that have begun."""

    def __init__(self, commits: Mapping[str, Commit], begun: Collection[str] = ()) -> None:
        self.by_eval, self.begun = commits, frozenset(begun)
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
    shared: Shared,
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
    searched = spec.search is not None and not isinstance(model, OtherTool)
    settings = found.settings if searched else {}
    of = shared.of(model, task, fraction, fold, settings)
    known, block, roles = of.task, of.block, of.roles
    trial = Trial(cell, "unknown", "", of.work())
    if known.missing:
        return replace(trial, why="data not read yet" if known.unread else "its data are missing")
    if block and block.missing:
        return replace(trial, why="block not read yet" if block.unread else "its block is missing")
    if searched and found.missing:
        return replace(trial, why=found.missing)
    assert roles is not None  # noqa: S101  # folds are known where nothing is missing
    if isinstance(model, ExternalSettings):
        if cell not in inputs.masks:
            return replace(trial, why="its masks are missing or wrong")
        training = external_identity(spec, task, inputs.masks[cell])
    else:
        training = training_of(of.training(), of.contents(), fold, seed)
    train_id = digest(training)
    scoring = scoring_of(of.scoring(), train_id, of.contents())
    eval_id = digest(scoring)
    trial = replace(
        trial,
        train_id=train_id,
        eval_id=eval_id,
        identity={"train": training, "eval": scoring},
        notes=notes_of(model, roles, spec.training.select),
        settings=settings,
    )
    if eval_id in history.by_eval:
        return replace(trial, status="done", why="finished")
    kept = [] if isinstance(model, ExternalSettings) else history.by_train.get(train_id, [])
    for earlier in reversed(kept):
        old = history.by_eval[earlier].identity.eval
        if old["test_cases"] == scoring["test_cases"]:
            again = old["scoring"].get("inference") == scoring["scoring"].get("inference")
            of_what = "scored again from its masks" if again else "segmented again by its weights"
            why = f"{of_what}: {'; '.join(differences(old, scoring))}"
            work = of.work(rescore=True)
            return replace(trial, status="rescore", why=why, work=work, rescore_of=earlier)
    failed = failures.get(eval_id, [])
    state = next_state(failed, spec.resources.max_attempts)
    if state is State.QUARANTINED:
        return replace(trial, status="quarantined", why=reason(failed))
    if state is State.FAILED:
        return replace(
            trial, status="failed", why=f"attempt {len(failed) + 1} after: {reason(failed)}"
        )
    if train_id in history.begun:
        return replace(trial, status="new", why="interrupted, goes on from its checkpoint")
    if cell in history.by_cell:
        changed = differences(history.by_eval[history.by_cell[cell]].identity.train, training)
        return replace(
            trial, status="changed", why="; ".join(changed) or "its evaluation's test cases changed"
        )
    return replace(trial, status="new", why="never run")


def notes_of(model: Any, roles: Roles, select: str) -> tuple[str, ...]:
    """What is odd about the roles of a trial.

    Args:
        select: the spec's `training.select`, which only our networks go by.
    """
    if isinstance(model, OtherTool):
        return () if isinstance(model, ExternalSettings) else roles.notes
    return roles.notes_for(select)


def fold_count(spec: Spec) -> int:
    """Folds of every task, of all repeats together."""
    return spec.folds * spec.splits.repeats if spec.splits.scheme == "kfold" else 1


def repeat_of(spec: Spec, fold: int) -> int:
    """The cross-validation that a fold belongs to, from 0."""
    return fold // spec.folds if spec.splits.scheme == "kfold" else 0
