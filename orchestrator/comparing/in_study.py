"""Another tool's masks as trials of a study: found by a pattern, checked against its folds, scored
as its own masks are, and committed like them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medvision.data.fingerprints import require_unchanged
from medvision.data.label_files import Source, contents_of, label_files
from medvision.data.readers.base import Case
from medvision.data.readers.registry import read_task
from medvision.data.settings import LabelGroups
from medvision.data.split_files import from_split
from medvision.data.splits import Roles
from medvision.errors import DataError
from orchestrator.comparing.committed import commit_scores, new_token, whole_of
from orchestrator.comparing.folds_out import leaks, read_trained
from orchestrator.comparing.scored import MasksError, Rows, Truths, check_places, score_trainings
from orchestrator.comparing.trainings import Training
from orchestrator.planning.identity import (
    digest,
    eval_identity,
    external_content,
    external_identity,
)
from orchestrator.planning.other_tools import in_plan
from orchestrator.planning.study_files import stored_spec
from orchestrator.spec.data import TaskSpec
from orchestrator.spec.study import Spec, model_name
from record import paths
from record.external import ExternalMethod, ExternalTraining, save_method
from record.frozen import note_trainings
from record.masks import Packed, packed
from record.names import checked
from record.schema import Cell, Identity, Split
from record.store import Store, StoreError
from record.study import StoredStudy

Progress = Callable[[int], Any]  # gives a context whose value is called after each mask


@dataclass(frozen=True)
class Wanted:
    """What is to be scored in a study. `pattern`: the masks' folders, with `{task}`, `{fraction}`,
    `{fold}` and `{seed}` where they differ; `labels`: the structures' values in the masks, where
    they are others than the truth's; `folds`: the file that lists what the tool trained on, with
    `{task}` and `{fraction}` where there are several; `probabilities`: the files hold these.
    """

    name: str
    pattern: str
    labels: LabelGroups = field(default_factory=dict)
    folds: str = ""
    allow_empty: bool = False
    probabilities: bool = False


@dataclass(frozen=True)
class Grid:
    """Where masks are scored: a study's settings, its tasks' folds by name, and their data."""

    spec: Spec
    splits: Mapping[str, Split]
    data_root: Path


@dataclass(frozen=True)
class CellMasks:
    """A cell of the grid with its masks. `ids`: train_id and eval_id, the digests of `identity`;
    `content`: what the masks hold, in short.
    """

    cell: Cell
    roles: Roles
    training: Training
    ids: tuple[str, str]
    identity: Identity
    content: Mapping[str, Any]

    def named(self) -> ExternalTraining:
        """What external.json says of it."""
        return ExternalTraining(
            task=self.cell.task,
            fraction=self.cell.fraction,
            fold=self.cell.fold,
            seed=self.cell.seed,
            train_id=self.ids[0],
            identity=dict(self.content),
        )


@dataclass(frozen=True)
class TaskMasks:
    """The masks of one task, and what they are scored against."""

    truths: Truths
    cells: Sequence[CellMasks]


def score_in_study(study: StoredStudy, wanted: Wanted, progress: Progress) -> StoredStudy:
    """Check, score and commit the masks, and write the plan that has them.

    Raises:
        MasksError: wrong masks, every one by its case; nothing is committed then.
        DataError: data or folders that are not there.
        StoreError: the study cannot be read or written.
    """
    spec = stored_spec(study)
    try:
        checked(wanted.name)
    except ValueError as error:
        raise DataError(str(error)) from error
    if wanted.name in map(model_name, spec.models):
        raise DataError(f"{wanted.name!r}: is a model of this study; choose another name")
    grid = Grid(spec, study.splits, Path(study.settings.data_root))
    found, problems = found_masks(grid, wanted)
    if problems:
        raise MasksError(problems)
    every = {one.ids[1] for task in found for one in task.cells}
    score_masks(study.store, found, every, progress)
    trainings = [one.named() for task in found for one in task.cells]
    save_method(study.store, ExternalMethod(name=wanted.name, trainings=trainings))
    plan = in_plan(study, spec)
    note_trainings(study.store, plan)
    study.store.save(paths.PLAN, plan)
    return StoredStudy.opened(study.store)


def found_masks(grid: Grid, wanted: Wanted) -> tuple[list[TaskMasks], list[str]]:
    """The masks of every cell, and what is wrong with their files, headers and folds, a line each.

    Raises:
        DataError: data or folders that are not there.
        StoreError: a task has no folds.
    """
    found, problems = list[TaskMasks](), list[str]()
    for task in grid.spec.tasks:
        if task.name not in grid.splits:
            raise StoreError(f"the folds of {task.name} are missing; run the study first")
        cells, lines = _cells(grid, task, wanted)
        truths = _truths(grid, task, cells, wanted)
        problems += lines or check_places(truths, [one.training for one in cells])
        found.append(TaskMasks(truths, cells))
    return found, problems


def score_masks(
    store: Store, found: Sequence[TaskMasks], wanted: set[str], progress: Progress
) -> None:
    """Score and commit those cells whose eval_id is wanted.

    Raises:
        MasksError: masks that cannot be scored, every one by its case; nothing is committed then.
        StoreError: the study cannot be written.
    """
    chosen = [
        TaskMasks(task.truths, [one for one in task.cells if one.ids[1] in wanted])
        for task in found
    ]
    scored: list[tuple[CellMasks, Rows, dict[str, Packed]]] = []
    with progress(sum(len(one.training.masks) for task in chosen for one in task.cells)) as on_mask:
        for task in chosen:
            kept: dict[int, dict[str, Packed]] = {number: {} for number in range(len(task.cells))}

            def keep(number: int, case: str, masks: np.ndarray, kept: Any = kept) -> None:
                kept[number][case] = packed(masks)

            trainings = [one.training for one in task.cells]
            rows = score_trainings(task.truths, trainings, on_mask, keep=keep)
            scored += [(one, rows[n], kept[n]) for n, one in enumerate(task.cells)]
    done = whole_of(store, [one.ids[1] for one, _, _ in scored])
    for one, rows_of_one, masks in scored:
        if one.ids[1] not in done:  # equal masks are committed once
            done.add(one.ids[1])
            token, tested = new_token(), one.roles.test
            commit_scores(store, token, one.cell, one.ids, one.identity, rows_of_one, tested, masks)


def _cells(grid: Grid, task: TaskSpec, wanted: Wanted) -> tuple[list[CellMasks], list[str]]:
    """The cells of the grid with their masks, and what is wrong with these."""
    spec, split = grid.spec, grid.splits[task.name]
    folds, lines = from_split(split), list[str]()
    fractions = spec.fractions if "{fraction}" in wanted.pattern else [max(spec.fractions)]
    tested = {case for fold in folds for case in fold.test}
    read = read_task(grid.data_root, task.name) if wanted.folds else None
    known = [case.id for case in (*read.cases, *read.test_cases)] if read else []
    cells, listed = [], dict[Path, dict[str, Path]]()
    hashed: dict[tuple[Path, int], str] = {}  # what a folder holds of the cases of a fold
    for fraction in fractions:
        if wanted.folds:
            file = Path(wanted.folds.format(task=task.name, fraction=f"{fraction:g}")).expanduser()
            lines += leaks(read_trained(file, fraction), split, task.name, known)
        for number, fold in enumerate(folds):
            roles = fold.roles(fraction)
            for seed in spec.seeds:
                cell = Cell(wanted.name, task.name, fraction, number, seed)
                folder = Path(
                    wanted.pattern.format(
                        task=task.name, fraction=f"{fraction:g}", fold=number, seed=seed
                    )
                ).expanduser()
                files = listed.setdefault(folder, {}) or label_files(folder)
                listed[folder] = files
                mine: dict[str, Source] = {c: files[c] for c in roles.test if c in files}
                lines += [f"{c}: {folder} has no mask of it" for c in roles.test if c not in files]
                extra = set(files) - (set(roles.test) if "{fold}" in wanted.pattern else tested)
                lines += [
                    f"{c}: {folder} has a mask of it, and no fold that it stands for tests it"
                    for c in sorted(extra)
                ]
                training = Training(wanted.name, str(folder), mine, number, seed)
                if (folder, number) not in hashed:
                    hashed[folder, number] = digest(contents_of(mine))
                masks = hashed[folder, number]
                cells.append(_with_ids(grid, task, cell, roles, training, masks, wanted))
    return cells, list(dict.fromkeys(lines))


def _with_ids(
    grid: Grid,
    task: TaskSpec,
    cell: Cell,
    roles: Roles,
    training: Training,
    masks: str,
    wanted: Wanted,
) -> CellMasks:
    content = external_content(masks, wanted.labels, probabilities=wanted.probabilities)
    identity = external_identity(grid.spec, task, content)
    train_id = digest(identity)
    fingerprints = grid.splits[task.name].cases
    scoring = eval_identity(grid.spec, task, train_id, roles, fingerprints)
    ids, both = (train_id, digest(scoring)), Identity(train=identity, eval=scoring)
    return CellMasks(cell, roles, training, ids, both, content)


def _truths(grid: Grid, task: TaskSpec, cells: Sequence[CellMasks], wanted: Wanted) -> Truths:
    """The labels of the tested cases, unchanged since the study was planned."""
    spec = grid.spec
    read = read_task(grid.data_root, task.name)
    cases: dict[str, Case] = {case.id: case for case in (*read.cases, *read.test_cases)}
    fingerprints = grid.splits[task.name].cases
    sources: dict[str, Source] = {}
    tested = list(dict.fromkeys(case for one in cells for case in one.roles.test))
    if gone := [case for case in tested if case not in cases]:
        raise DataError(
            f"{task.name}: {len(gone)} cases that its folds test are no longer in "
            f"{read.folder}: {', '.join(gone[:5])}; put them back"
        )
    for case in tested:
        require_unchanged(cases[case], fingerprints[case])
        sources[case] = cases[case].label
    groups = dict(sorted(spec.groups(task).items()))  # as study.json has them, and with it tables
    if wanted.labels and set(wanted.labels) != set(groups):
        raise DataError(
            f"labels: {', '.join(wanted.labels)} are named, the structures of {task.name} are "
            f"{', '.join(groups)}"
        )
    if wanted.labels and wanted.probabilities:
        raise DataError("labels: probabilities have no values; leave one of the two out")
    own = {name: wanted.labels[name] for name in groups} if wanted.labels else {}
    declared = read.declared.structures
    return Truths(
        sources,
        groups,
        spec.evaluation,
        spec.tolerances(task),
        strict=bool(declared) and not own and not wanted.probabilities,
        others=frozenset(value for values in declared.values() for value in values),
        groups_of={wanted.name: own} if own else {},
        allow_empty=wanted.allow_empty,
        probabilities=frozenset([wanted.name] if wanted.probabilities else []),
    )
