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
from orchestrator.planning.identity import digest, eval_identity
from orchestrator.planning.other_tools import external_identity, in_plan
from orchestrator.planning.study_files import stored_spec
from orchestrator.spec.data import TaskSpec
from orchestrator.spec.study import Spec
from record import paths
from record.external import EXTERNAL, ExternalMethod, ExternalTraining, save_method
from record.frozen import note_trainings
from record.masks import Packed, packed
from record.names import checked
from record.schema import Cell, Identity
from record.store import StoreError
from record.study import StoredStudy

PLACES = ("task", "fraction", "fold", "seed")
PLACES_OF_FOLDS = ("task", "fraction")


@dataclass(frozen=True)
class Wanted:
    """What is to be scored in a study. `pattern`: the masks' folders, with `{task}`, `{fraction}`,
    `{fold}` and `{seed}` where they differ; `labels`: the structures' values in the masks, where
    they are others than the truth's; `folds`: the file that lists what the tool trained on, with
    `{task}` and `{fraction}` where there are several.
    """

    name: str
    pattern: str
    labels: LabelGroups = field(default_factory=dict)
    folds: str = ""
    allow_empty: bool = False


@dataclass(frozen=True)
class _Cell:
    """A cell of the grid with its masks."""

    cell: Cell
    roles: Roles
    training: Training


@dataclass(frozen=True)
class _Ids:
    """Of a cell's masks: `of`, train_id and eval_id, what these are digests of, and the content."""

    of: tuple[str, str]
    identity: Identity
    content: Mapping[str, Any]

    def named(self, cell: Cell) -> ExternalTraining:
        """What external.json says of it."""
        return ExternalTraining(
            task=cell.task,
            fraction=cell.fraction,
            fold=cell.fold,
            seed=cell.seed,
            train_id=self.of[0],
            identity=dict(self.content),
        )


def score_in_study(
    study: StoredStudy,
    wanted: Wanted,
    progress: Callable[[int], Any],
) -> StoredStudy:
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
    if wanted.name in [model for model in study.plan.models if not _external(study, model)]:
        raise DataError(f"{wanted.name!r}: is a model of this study; choose another name")
    found: list[tuple[TaskSpec, list[_Cell], Truths]] = []
    problems: list[str] = []
    for task in spec.tasks:
        cells, lines = _cells(study, spec, task, wanted)
        truths = _truths(study, spec, task, cells, wanted)
        problems += lines or check_places(truths, [one.training for one in cells])
        found.append((task, cells, truths))
    if problems:
        raise MasksError(problems)
    scored: list[tuple[TaskSpec, list[_Cell], list[Rows], dict[int, dict[str, Packed]]]] = []
    total = sum(len(one.training.masks) for _, cells, _ in found for one in cells)
    with progress(total) as on_mask:
        for task, cells, truths in found:
            kept: dict[int, dict[str, Packed]] = {number: {} for number in range(len(cells))}

            def keep(number: int, case: str, masks: np.ndarray, kept: Any = kept) -> None:
                kept[number][case] = packed(masks)

            rows = score_trainings(truths, [one.training for one in cells], on_mask, keep=keep)
            scored.append((task, cells, rows, kept))
    ready = [
        (one, _ids(study, spec, task, one, wanted), rows[number], kept[number])
        for task, cells, rows, kept in scored
        for number, one in enumerate(cells)
    ]
    done = whole_of(study.store, [ids.of[1] for _, ids, _, _ in ready])
    for one, ids, rows_of_one, masks in ready:
        if ids.of[1] not in done:  # equal masks are committed once
            done.add(ids.of[1])
            commit_scores(
                study.store,
                new_token(),
                one.cell,
                ids.of,
                ids.identity,
                rows_of_one,
                one.roles.test,
                masks,
            )
    trainings = [ids.named(one.cell) for one, ids, _, _ in ready]
    save_method(study.store, ExternalMethod(name=wanted.name, trainings=trainings))
    plan = in_plan(study, spec)
    note_trainings(study.store, plan)
    study.store.save(paths.PLAN, plan)
    return StoredStudy.opened(study.store)


def _external(study: StoredStudy, model: str) -> bool:
    return study.plan.settings.get(model, {}).get("label") == EXTERNAL


def _cells(
    study: StoredStudy, spec: Spec, task: TaskSpec, wanted: Wanted
) -> tuple[list[_Cell], list[str]]:
    """The cells of the grid with their masks, and what is wrong with these."""
    split = study.splits.get(task.name)
    if split is None:
        raise StoreError(f"{study.store.path(paths.split(task.name))}: is missing")
    folds, lines = from_split(split), list[str]()
    fractions = spec.fractions if "{fraction}" in wanted.pattern else [max(spec.fractions)]
    tested = {case for fold in folds for case in fold.test}
    read = read_task(Path(study.settings.data_root), task.name) if wanted.folds else None
    known = [case.id for case in (*read.cases, *read.test_cases)] if read else []
    cells, listed = [], dict[Path, dict[str, Path]]()
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
                cells.append(
                    _Cell(cell, roles, Training(wanted.name, str(folder), mine, number, seed))
                )
    return cells, list(dict.fromkeys(lines))


def _truths(
    study: StoredStudy, spec: Spec, task: TaskSpec, cells: Sequence[_Cell], wanted: Wanted
) -> Truths:
    """The labels of the tested cases, unchanged since the study was planned."""
    read = read_task(Path(study.settings.data_root), task.name)
    cases: dict[str, Case] = {case.id: case for case in (*read.cases, *read.test_cases)}
    fingerprints = study.splits[task.name].cases
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
    groups = spec.groups(task)
    if wanted.labels and set(wanted.labels) != set(groups):
        raise DataError(
            f"labels: {', '.join(wanted.labels)} are named, the structures of {task.name} are "
            f"{', '.join(groups)}"
        )
    own = {name: wanted.labels[name] for name in groups} if wanted.labels else {}
    declared = read.declared.structures
    return Truths(
        sources,
        groups,
        spec.evaluation,
        spec.tolerances(task),
        strict=bool(declared) and not own,
        others=frozenset(value for values in declared.values() for value in values),
        groups_of={wanted.name: own} if own else {},
        allow_empty=wanted.allow_empty,
    )


def _ids(study: StoredStudy, spec: Spec, task: TaskSpec, one: _Cell, wanted: Wanted) -> _Ids:
    content = {
        "masks": digest(contents_of(one.training.masks)),
        "labels": dict(wanted.labels),
    }
    identity = external_identity(spec, task, content)
    train_id = digest(identity)
    fingerprints = study.splits[task.name].cases
    scoring = eval_identity(spec, task, train_id, one.roles, fingerprints)
    return _Ids((train_id, digest(scoring)), Identity(train=identity, eval=scoring), content)
