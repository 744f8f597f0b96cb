"""From a spec to trials: which exist, which are done, which changed and why, in which order they run.

Pure: what is on disk comes in as values (`Inputs`, commits, failures). Imports no torch and no Ray.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from medvision.data.splits import Fold, Roles
from medvision.data.tasks import MSD_TASKS
from medvision.models.flops import forward_flops
from orchestrator.spec import Spec, TaskSpec, model_name
from orchestrator.state import State, next_state, reason
from orchestrator.trial import Cell, Identity, differences, digest, eval_identity, train_identity

Status = Literal["new", "done", "changed", "rescore", "failed", "quarantined", "unknown"]
CPU_FLOPS = 5e10  # a core's sustained rate on these models, measured; used until a study has finished trials
GPU_FLOPS = 1.5e13  # assumed, not measured: half-used tensor cores of a current data-centre GPU
UNKNOWN_CASES = 100


@dataclass(frozen=True)
class TaskInputs:
    """A task's folds and content fingerprints, or in `missing` what is not there."""

    folds: tuple[Fold, ...] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    missing: str = ""


@dataclass(frozen=True)
class BlockInputs:
    """Fingerprint and size of a model's language-model block; `missing` says what is not there."""

    fingerprint: str | None = None
    size: Mapping[str, Any] | None = None
    missing: str = ""


@dataclass(frozen=True)
class Inputs:
    """What stands outside the spec: `tasks` by task name, `blocks` by model name (models with a block only)."""

    tasks: Mapping[str, TaskInputs]
    blocks: Mapping[str, BlockInputs]

    @property
    def missing(self) -> list[str]:
        every: list[TaskInputs | BlockInputs] = [*self.tasks.values(), *self.blocks.values()]
        return list(dict.fromkeys(item.missing for item in every if item.missing))


@dataclass(frozen=True)
class Trial:
    """One cell with its ids (None while data are missing), its status and the reason for it."""

    cell: Cell
    status: Status
    why: str
    estimated_seconds: float
    train_id: str | None = None
    eval_id: str | None = None
    identity: Mapping[str, Identity] = field(default_factory=dict)
    rescore_of: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def to_run(self) -> bool:
        return self.status in ("new", "changed", "rescore", "failed")


@dataclass(frozen=True)
class Plan:
    """Trials in the order of the grid."""

    trials: tuple[Trial, ...]
    missing: tuple[str, ...] = ()

    def in_order(self) -> list[Trial]:
        """The trials to run (or, with an unknown id, likely to), longest first, so that no long one starts last."""
        chosen = (trial for trial in self.trials if trial.to_run or trial.status == "unknown")
        return sorted(chosen, key=lambda trial: -trial.estimated_seconds)

    def counts(self) -> dict[str, int]:
        """Number of trials by status, in a fixed order, only those that occur."""
        order: tuple[Status, ...] = ("done", "new", "changed", "rescore", "failed", "quarantined", "unknown")
        found = [trial.status for trial in self.trials]
        return {status: found.count(status) for status in order if status in found}


def make_plan(
    spec: Spec,
    inputs: Inputs,
    commits: Mapping[str, Mapping[str, Any]],
    failures: Mapping[str, Sequence[Mapping[str, Any]]],
) -> Plan:
    """Every cell of the grid with its ids and status.

    Args:
        commits: markers of finished evaluations by eval_id. failures: failed attempts by train_id.
    """
    history = _History(commits)
    trials = [
        _trial(spec, inputs, history, failures, model, task, fraction, fold, seed)
        for model, task, fraction, fold, seed in itertools.product(
            spec.models, spec.tasks, spec.fractions, range(_fold_count(spec)), spec.seeds
        )
    ]
    factor = _calibration(trials, commits)
    return Plan(
        tuple(replace(trial, estimated_seconds=trial.estimated_seconds * factor) for trial in trials),
        tuple(inputs.missing),
    )


class _History:
    """Finished evaluations by training id and by cell."""

    def __init__(self, commits: Mapping[str, Mapping[str, Any]]) -> None:
        self.by_eval = commits
        self.by_train: dict[str, list[str]] = {}
        self.by_cell: dict[Cell, str] = {}
        for eval_id, marker in sorted(commits.items(), key=lambda item: str(item[1].get("finished", ""))):
            self.by_train.setdefault(marker["train_id"], []).append(eval_id)
            self.by_cell[Cell(**marker["cell"])] = eval_id


def _trial(
    spec: Spec,
    inputs: Inputs,
    history: _History,
    failures: Mapping[str, Sequence[Mapping[str, Any]]],
    model: Any,
    task: TaskSpec,
    fraction: float,
    fold: int,
    seed: int,
) -> Trial:
    cell = Cell(model_name(model), task.name, fraction, fold, seed)
    known, block = inputs.tasks[task.name], inputs.blocks.get(cell.model)
    roles = known.folds[fold].roles(fraction) if known.folds else None
    trial = Trial(cell, "unknown", "", _estimate(spec, model, task, fraction, roles, block))
    if known.missing or (block and block.missing):
        return replace(trial, why="its data are missing" if known.missing else "its block is missing")
    assert roles is not None  # noqa: S101  # folds are known where nothing is missing
    training = train_identity(spec, model, task, seed, roles, known.fingerprints, block.fingerprint if block else None)
    train_id = digest(training)
    scoring = eval_identity(spec, task, train_id, roles, known.fingerprints)
    eval_id = digest(scoring)
    trial = replace(
        trial,
        train_id=train_id,
        eval_id=eval_id,
        identity={"train": training, "eval": scoring},
        notes=roles.notes,
    )
    if eval_id in history.by_eval:
        return replace(trial, status="done", why="finished")
    for earlier in reversed(history.by_train.get(train_id, [])):
        old = history.by_eval[earlier]["identity"]["eval"]
        if old["test_cases"] == scoring["test_cases"]:
            why = "; ".join(differences(old, scoring))
            return replace(trial, status="rescore", why=f"scored again from its masks: {why}", rescore_of=earlier)
    failed = failures.get(train_id, [])
    state = next_state(failed, spec.resources.max_attempts)
    if state is State.QUARANTINED:
        return replace(trial, status="quarantined", why=reason(failed))
    if state is State.FAILED:
        return replace(trial, status="failed", why=f"attempt {len(failed) + 1} after: {reason(failed)}")
    if cell in history.by_cell:
        changed = differences(history.by_eval[history.by_cell[cell]]["identity"]["train"], training)
        return replace(trial, status="changed", why="; ".join(changed) or "its evaluation's test cases changed")
    return replace(trial, status="new", why="never run")


def _fold_count(spec: Spec) -> int:
    return spec.folds if spec.splits.scheme == "kfold" else 1


def _estimate(
    spec: Spec, model: Any, task: TaskSpec, fraction: float, roles: Roles | None, block: BlockInputs | None
) -> float:
    """Seconds of a trial from its arithmetic: forward and backward of every step, forward of validation and test."""
    if roles is not None:
        train, validation, test = len(roles.train), len(roles.validation), len(roles.test)
    else:
        cases = MSD_TASKS[task.name].cases if task.name in MSD_TASKS else UNKNOWN_CASES
        test = max(
            1,
            round(cases / spec.folds if spec.splits.scheme == "kfold" else cases * spec.splits.test_fraction),
        )
        taken = max(1, round(fraction * (cases - test)))
        train, validation = max(1, taken - taken // 5), taken // 5
    flops = forward_flops(
        model,
        spec.data.image_size,
        spec.data.patch_size,
        out_channels=len(spec.data.label_groups),
        block=block.size if block else None,
    )
    steps = spec.training.total_steps(train)
    epochs = steps / spec.training.steps_per_epoch(train)
    passes = 3 * epochs * train + epochs * validation + test
    resources = spec.resources
    rate = resources.gpus_per_worker * GPU_FLOPS or resources.cpus_per_worker * CPU_FLOPS
    return passes * flops / (rate * resources.workers)


def _calibration(trials: Sequence[Trial], commits: Mapping[str, Mapping[str, Any]]) -> float:
    """Measured over estimated seconds of the study's finished trials (median), 1 where none has finished."""
    ratios = [
        commits[trial.eval_id]["cost"]["seconds"] / trial.estimated_seconds
        for trial in trials
        if trial.status == "done" and trial.eval_id and "seconds" in commits[trial.eval_id].get("cost", {})
    ]
    return statistics.median(ratios) if ratios else 1.0
