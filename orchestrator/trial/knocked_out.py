"""Finished trials scored again with their language-model block knocked out: nothing is trained, and
each score without the block has its pair in the trial's own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medvision.data.fingerprints import require_unchanged
from medvision.data.nifti import read_truth
from medvision.data.preprocess import prepare
from medvision.data.readers.base import Case
from medvision.data.readers.registry import read_task
from medvision.data.split_files import from_split
from medvision.data.splits import Roles
from medvision.device import make_deterministic
from medvision.errors import DataError
from medvision.models.language.knock_outs import KnockOut, knocked_out
from medvision.scoring import score
from medvision.seeds import derive_seed
from medvision.segmenter import segmented
from medvision.trained import Training
from medvision.training.checkpoint import load_checkpoint
from orchestrator.comparing.committed import commit_scores, new_token, whole_of
from orchestrator.planning.identity import digest, eval_identity
from orchestrator.planning.study_files import stored_spec
from orchestrator.spec.data import TaskSpec
from orchestrator.spec.study import Spec
from record import paths
from record.reliance import Knocked, save_knocked
from record.schema import Commit, Identity, PlannedTrial
from record.study import StoredStudy

Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Wanted:
    """One finished training and what is to be scored of it: `knocked` with the digests' contents,
    `other` the training whose branch `swapped` takes.
    """

    training: Training
    task: TaskSpec
    roles: Roles
    knocked: Sequence[tuple[Knocked, Identity]]
    other: Training | None


def wanted_of(
    study: StoredStudy, how: Sequence[KnockOut], models: Sequence[str] = ()
) -> tuple[list[Wanted], list[str]]:
    """The finished trainings with a block, and a line for each that cannot be swapped.

    Args:
        models: of the study; by default all that have a block.

    Raises:
        DataError: a model that the study has not, or that has no block; no finished training kept
            its weights.
        StoreError: the study cannot be read.
    """
    spec, settings = stored_spec(study), study.plan.settings
    with_block = [name for name in study.plan.models if settings.get(name, {}).get("llm")]
    for name in models:
        if name not in with_block:
            known = ", ".join(with_block) or "none"
            raise DataError(f"--models {name!r}: is no model with a block; the study has {known}")
    tasks = {task.name: task for task in spec.tasks}
    folds = {name: from_split(split) for name, split in study.splits.items()}
    finished = {
        (trial.model, trial.task, trial.fraction, trial.fold, trial.seed): (trial, marker)
        for trial, marker in study.plan.finished(study.finished.commits)
        if trial.model in (models or with_block) and paths.WEIGHTS in marker.files
    }
    if not finished:
        raise DataError(
            f"{study.store.uri}: no training with a block has finished and kept its weights"
        )
    found, lines = list[Wanted](), list[str]()
    for place, (trial, marker) in finished.items():
        seeds = sorted(one[-1] for one in finished if one[:-1] == place[:-1])
        following = seeds[(seeds.index(trial.seed) + 1) % len(seeds)]
        other = finished[(*place[:-1], following)][1] if following != trial.seed else None
        if other is None and "swapped" in how:
            lines.append(f"{trial.place}: not swapped, no other seed of it has finished")
        task, roles = tasks[trial.task], folds[trial.task][trial.fold].roles(trial.fraction)
        prints = study.splits[trial.task].cases
        found.append(
            Wanted(
                Training(marker.cell, marker, study.store),
                task,
                roles,
                [
                    _knocked(spec, task, roles, prints, (trial, marker), one, other)
                    for one in how
                    if one != "swapped" or other is not None
                ],
                Training(other.cell, other, study.store) if other else None,
            )
        )
    return found, lines


def _knocked(
    spec: Spec,
    task: TaskSpec,
    roles: Roles,
    fingerprints: Mapping[str, str],
    of: tuple[PlannedTrial, Commit],
    how: KnockOut,
    other: Commit | None,
) -> tuple[Knocked, Identity]:
    trial, marker = of
    content: dict[str, Any] = {"knock_out": how, **_weights(marker)}
    if how == "swapped" and other is not None:
        content["other"] = _weights(other)
    identity = {"reliance": content, "train_cases": marker.identity.train.get("train_cases")}
    train_id = digest(identity)
    scoring = eval_identity(spec, task, train_id, roles, fingerprints)
    knocked = Knocked(
        model=trial.model,
        task=trial.task,
        fraction=trial.fraction,
        fold=trial.fold,
        seed=trial.seed,
        knock_out=how,
        of=marker.eval_id,
        weights=marker.sha256[paths.WEIGHTS],
        train_id=train_id,
        eval_id=digest(scoring),
    )
    return knocked, Identity(train=identity, eval=scoring)


def _weights(marker: Commit) -> dict[str, str]:
    return {"train_id": marker.train_id, "weights": marker.sha256[paths.WEIGHTS]}


def score_knocked_out(
    study: StoredStudy,
    wanted: Sequence[Wanted],
    device: torch.device,
    on_training: Callable[[], object] = lambda: None,
) -> int:
    """Score and commit what is not there whole yet; returns how many scores that were.

    Args:
        on_training: called after each training.

    Raises:
        DataError: data or weights that are not what they were.
        medvision.llm.BlockError: a block that cannot be had.
        StoreError: the study cannot be read or written.
    """
    make_deterministic()
    spec, store = stored_spec(study), study.store
    done = whole_of(store, [one.eval_id for each in wanted for one, _ in each.knocked])
    cases = {task.name: _cases(study, task.name) for task in spec.tasks}
    before = len(done)
    for each in wanted:
        left = [(one, identity) for one, identity in each.knocked if one.eval_id not in done]
        if left:
            rows = _rows(study, spec, each, [one for one, _ in left], cases, device)
            for (one, identity), scored in zip(left, rows, strict=True):
                ids = (one.train_id, one.eval_id)
                commit_scores(store, new_token(), one.cell, ids, identity, scored, each.roles.test)
                done.add(one.eval_id)  # cells of the same cases are one training
        save_knocked(store, [one for one, _ in each.knocked])
        on_training()
    return len(done) - before


def _cases(study: StoredStudy, task: str) -> Mapping[str, Case]:
    found = read_task(Path(study.settings.data_root), task)
    return {case.id: case for case in (*found.cases, *found.test_cases)}


def _rows(
    study: StoredStudy,
    spec: Spec,
    wanted: Wanted,
    knocked: Sequence[Knocked],
    cases: Mapping[str, Mapping[str, Case]],
    device: torch.device,
) -> list[Rows]:
    """The rows of each way of knocking out, in their order; a case is read once for all."""
    rows: list[Rows] = [{} for _ in knocked]
    with tempfile.TemporaryDirectory() as scratch:
        model, about = load_checkpoint(wanted.training.local(Path(scratch)), device=device)
        other = None
        if wanted.other and any(one.knock_out == "swapped" for one in knocked):
            other, _ = load_checkpoint(wanted.other.local(Path(scratch)), device=device)
    groups, tolerances = spec.groups(wanted.task), spec.tolerances(wanted.task)
    seed = derive_seed("knocked out", wanted.training.marker.train_id)
    for name in wanted.roles.test:
        case = cases[wanted.task.name].get(name)
        if case is None:
            raise DataError(f"{wanted.task.name}: the case {name} is gone; put it back")
        fingerprint = study.splits[wanted.task.name].cases[name]
        truth, seen = read_truth(case, groups), prepare(case, fingerprint, about.preparation)
        require_unchanged(case, fingerprint)
        for one, of in zip(knocked, rows, strict=True):
            how: KnockOut = one.knock_out  # type: ignore[assignment]  # made of one
            with knocked_out(model, how, seed=seed, other=other):
                voxel = float(np.prod(truth.spacing))
                mask = segmented([([model], seen)], about, voxel, device)
            of[name] = score(mask, truth, list(groups), spec.evaluation, tolerances)
    return rows
