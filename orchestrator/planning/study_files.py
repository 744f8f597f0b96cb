"""The files from which a study's workers and reports learn what is planned."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import Any

from pydantic import ValidationError

from medvision.data.readers.registry import read_task
from medvision.data.split_files import to_split
from medvision.data.tasks import MSD_TASKS
from medvision.settings import counted
from orchestrator.planning.folds import split_settings
from orchestrator.planning.found import Inputs, TaskInputs
from orchestrator.planning.identity import Job
from orchestrator.planning.inputs import data_root
from orchestrator.planning.other_tools import with_others
from orchestrator.planning.plan import Plan, Trial, repeat_of
from orchestrator.planning.subgroups import divisions
from orchestrator.spec.evaluation import ComparisonSpec
from orchestrator.spec.study import Spec, model_name
from orchestrator.spec.yaml_file import dump
from record import paths
from record.comparison import Comparison
from record.frozen import note_trainings
from record.metric import Metric
from record.redact import shown
from record.schema import PlannedTrial, Recipe, Scoring, Split, StudyFile, StudyPlan
from record.store import DamagedError, Store, StoreError
from record.stored import SCHEMA_VERSION, problems
from record.study import StoredStudy


def open_store(spec: Spec) -> Store:
    """The study's store, `<storage>/<name>`; a local folder becomes absolute, so that workers find
    it.
    """
    storage = (
        spec.storage if "://" in spec.storage else str(Path(spec.storage).expanduser().resolve())
    )
    return Store(f"{storage.rstrip('/')}/{spec.name}")


def write_study(store: Store, spec: Spec, inputs: Inputs, plan: Plan) -> StoredStudy:
    """Write splits, the resolved spec for the workers, and the plan for the reports.

    Returns:
        The study as it is found in its folder.
    """
    root = data_root(spec)
    for task in spec.tasks:
        store.save(paths.split(task.name), split_of(spec, inputs.tasks[task.name]))
    blocks = {name: block.fingerprint for name, block in inputs.blocks.items()}
    study = StudyFile(
        schema=SCHEMA_VERSION, spec=public_values(spec), blocks=blocks, data_root=str(root)
    )
    store.save(paths.STUDY, study)
    descriptions = {task.name: _description(root, task.name) for task in spec.tasks}
    stored = study_plan(spec, inputs, plan, descriptions)
    stored = with_others(store, spec, inputs, stored)
    note_trainings(store, stored)
    store.save(paths.PLAN, stored)
    return StoredStudy(store, stored.as_read())


def split_of(spec: Spec, known: TaskInputs) -> Split:
    """The split file of a task."""
    split = to_split(
        known.folds,
        split_settings(spec),
        known.fingerprints,
        known.patients,
        known.order,
        in_repeat=spec.folds if spec.splits.repeats > 1 else None,
        repeated_orders=known.repeated_orders,
    )
    added: dict[str, Any] = {"excluded": _reasons(known)}
    if known.reserved:
        added["reserved_for_search"] = [list(unit) for unit in known.reserved]
    return split.model_copy(update=added)


def public_values(spec: Spec) -> dict[str, Any]:
    """The resolved spec without what is secret: the tracking server's password, `notify`."""
    values = dump(spec) | {"notify": None}
    if spec.tracking.uri:
        values["tracking"]["uri"] = shown(spec.tracking.uri)
    return values


def fingerprints(inputs: Inputs) -> dict[str, Any]:
    """Content fingerprints of every case and block, for the manifest."""
    return {
        "cases": {name: dict(task.fingerprints) for name, task in inputs.tasks.items()},
        "blocks": {name: block.fingerprint for name, block in inputs.blocks.items()},
    }


def jobs(plan: Plan, token: str) -> list[Job]:
    """The plan's trials to run, longest first; not those whose search found nothing.

    Cells of one id, such as fractions that round to the same cases, are one job: its result counts
    for all of them.
    """
    once: dict[str, Job] = {}
    for trial in plan.in_order():
        if trial.train_id and trial.eval_id and trial.eval_id not in once:
            once[trial.eval_id] = Job(
                trial.cell,
                trial.train_id,
                trial.eval_id,
                token,
                trial.rescore_of,
                settings=trial.settings,
            )
    return list(once.values())


def forget(store: Store, plan: Plan, named: Sequence[str]) -> None:
    """Forget results and failures of these trials, for `--rerun`.

    Args:
        named: each the cell as it is printed, or the start of a training id.

    Raises:
        StoreError: a name fits no trial of the study, or several; nothing is forgotten then.
    """
    chosen = set()
    for name in named:
        found = {
            trial.train_id
            for trial in plan.trials
            if name and (name == str(trial.cell) or str(trial.train_id).startswith(name))
        }
        if len(found) != 1:
            raise StoreError(
                f"--rerun {name!r} names {len(found)} trials of this study; give the start of an "
                "id, or a trial as it is printed: 'MODEL TASK fraction F fold N seed S'"
            )
        chosen |= found
    for eval_id, marker in store.commits().items():
        if marker.train_id in chosen:
            store.remove(paths.commit(eval_id))
    for train_id in chosen:
        store.remove(paths.checkpoints(str(train_id)))
    for trial in plan.trials:
        if trial.train_id in chosen:
            store.remove(paths.failures(str(trial.eval_id)))


def sweep(store: Store) -> None:
    """Remove what killed processes left: half-written files, and files of attempts that no commit
    names.

    Only for a driver that holds the study's lock and whose lanes have ended.
    """
    named = {file for marker in store.commits().values() for file in marker.files.values()}
    kept = {file.rpartition("/")[0] for file in named}
    garbage = set()
    for relative in store.below(""):
        folder, _, name = relative.rpartition("/")
        attempts = paths.is_attempt(folder)
        if attempts and folder not in kept:
            garbage.add(folder)
        elif name.startswith(".") or (attempts and relative not in named):
            garbage.add(relative)
    for relative in garbage:
        store.remove(relative)


def study_plan(
    spec: Spec, inputs: Inputs, plan: Plan, descriptions: Mapping[str, str]
) -> StudyPlan:
    """What the reports need to know; they read nothing else of the spec.

    Args:
        descriptions: task -> what its dataset.json says that it is.
    """
    searched = {tuned.search: None for tuned in inputs.tuned.values()}
    return StudyPlan(
        schema=SCHEMA_VERSION,
        name=spec.name,
        models=[model_name(model) for model in spec.models],
        tasks=[task.name for task in spec.tasks],
        fractions=list(spec.fractions),
        metrics={
            name: Metric.model_validate(asdict(info))
            for name, info in spec.evaluation.infos.items()
        },
        both_empty=spec.evaluation.both_empty,
        scoring=Scoring(
            nsd=spec.evaluation.nsd,
            hd95=spec.evaluation.hd95,
            tolerances={task.name: spec.tolerances(task) for task in spec.tasks},
            own={metric.name: metric.deciding for metric in spec.evaluation.own},
        ),
        comparisons=[_comparison(spec, comparison) for comparison in spec.all_comparisons()],
        descriptions=dict(descriptions),
        settings={  # not the texts of its files, which the study's spec holds
            model_name(model): model.model_dump(mode="json", exclude={"files"})
            for model in spec.models
        },
        modalities={
            task.name: MSD_TASKS[task.name].modality
            for task in spec.tasks
            if task.name in MSD_TASKS
        },
        recipe=Recipe(
            image_size=list(spec.data.image_size),
            patch_size=list(spec.data.patch_size),
            epochs=spec.training.epochs or (100 if spec.training.steps is None else None),
            **({"validation": "fold"} if spec.splits.validation == "fold" else {}),
        ),
        training=counted(spec.training),
        data=counted(spec.data) | {"tasks": {task.name: counted(task) for task in spec.tasks}},
        resources={"gpus_per_worker": spec.resources.known_gpus},
        trials=[_planned(trial, repeat_of(spec, trial.cell.fold)) for trial in plan.trials],
        blocks={name: block.fingerprint for name, block in inputs.blocks.items()},
        excluded={task.name: _reasons(inputs.tasks[task.name]) for task in spec.tasks},
        **({"doubts": inputs.doubts} if inputs.doubts else {}),
        **({"searches": list(searched)} if spec.search else {}),
        counted={model_name(model): _deciding(model) for model in spec.models},
        splits=_splitting(spec),
        search=dump(spec.search) if spec.search else {},
        divisions=divisions(spec, inputs.parts),
    )


def _deciding(model: Any) -> dict[str, Any]:
    """The settings of a model that decide its numbers: not where its checkpoint lies."""
    overrides = {"overrides": dump(model)["overrides"]} if model.overrides else {}
    return counted(model) | overrides


def _splitting(spec: Spec) -> dict[str, Any]:
    """How folds are made, wherever the list of patients lies. How many folds and repeats there
    are belongs to the trainings.
    """
    values = spec.splits.model_dump(mode="json", exclude={"repeats"})
    listed = {"group_file": PurePath(spec.splits.group_file).name} if spec.splits.group_file else {}
    return values | listed


def _comparison(spec: Spec, comparison: ComparisonSpec) -> Comparison:
    shown = comparison.metrics or spec.evaluation.metrics
    return Comparison.model_validate(dump(comparison) | {"metrics": shown})


def _reasons(task: TaskInputs) -> dict[str, list[str]]:
    return {case: list(reasons) for case, reasons in task.excluded.items()}


def _planned(trial: Trial, repeat: int) -> PlannedTrial:
    return PlannedTrial(
        model=trial.cell.model,
        task=trial.cell.task,
        fraction=trial.cell.fraction,
        fold=trial.cell.fold,
        seed=trial.cell.seed,
        train_id=trial.train_id,
        eval_id=trial.eval_id,
        notes=list(trial.notes),
        arithmetic_seconds=trial.work.arithmetic,
        gpus=trial.work.gpus,
        rescore=trial.work.rescore,
        **({"repeat": repeat} if repeat else {}),
    )


def _description(root: Path | None, task: str) -> str:
    return read_task(root, task).description if root else ""


def stored_spec(study: StoredStudy) -> Spec:
    """The spec that a study was run with.

    Raises:
        StoreError: study.json is missing, or holds no spec of this version.
    """
    try:
        return Spec.model_validate(study.settings.spec)
    except ValidationError as error:
        raise DamagedError(
            f"{study.store.path(paths.STUDY)}: holds no spec of this version: {problems(error)}; "
            f"{StudyFile.remedy}"
        ) from error


@functools.lru_cache(maxsize=2)
def parsed_spec(values: str) -> Spec:
    """A spec out of its JSON, checked once per process: a worker reads the study for every trial,
    thousands of times.
    """
    return Spec.model_validate(json.loads(values))
