"""The files that tell a study's workers and reports what is planned."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medvision.data.readers.registry import read_task
from medvision.data.splits import to_split
from medvision.data.tasks import MSD_TASKS
from medvision.metrics.definitions import METRICS
from orchestrator.planning.folds import split_settings
from orchestrator.planning.identity import Job
from orchestrator.planning.inputs import data_root
from orchestrator.planning.plan import Inputs, Plan, TaskInputs, Trial
from orchestrator.spec.evaluation import ComparisonSpec
from orchestrator.spec.study import Spec, model_name
from orchestrator.spec.yaml_file import dump
from record import paths
from record.metric import Metric
from record.redact import shown
from record.schema import (
    SCHEMA_VERSION,
    Comparison,
    PlannedTrial,
    Recipe,
    Scoring,
    StudyFile,
    StudyPlan,
)
from record.store import Store, StoreError


def open_store(spec: Spec) -> Store:
    """The study's store, `<storage>/<name>`; a local folder becomes absolute, so that workers find
    it.
    """
    storage = (
        spec.storage if "://" in spec.storage else str(Path(spec.storage).expanduser().resolve())
    )
    return Store(f"{storage.rstrip('/')}/{spec.name}")


def write_study(store: Store, spec: Spec, inputs: Inputs, plan: Plan) -> None:
    """Write splits, the resolved spec for the workers, and the plan for the reports."""
    root = data_root(spec)
    for task in spec.tasks:
        known = inputs.tasks[task.name]
        split = to_split(
            known.folds, split_settings(spec), known.fingerprints, known.patients, known.order
        )
        added: dict[str, Any] = {"excluded": _reasons(known)}
        if known.reserved:
            added["reserved_for_search"] = [list(unit) for unit in known.reserved]
        store.save(paths.split(task.name), split.model_copy(update=added))
    blocks = {name: block.fingerprint for name, block in inputs.blocks.items()}
    study = StudyFile(
        schema=SCHEMA_VERSION, spec=public_values(spec), blocks=blocks, data_root=str(root)
    )
    store.save(paths.STUDY, study)
    descriptions = {task.name: _description(root, task.name) for task in spec.tasks}
    store.save(paths.PLAN, study_plan(spec, inputs, plan, descriptions))


def public_values(spec: Spec) -> dict[str, Any]:
    """The resolved spec as it may be stored: a password in the tracking server's address is left
    out.
    """
    values = dump(spec)
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

    Cells of one id, such as fractions that round to the same cases, are one job: its result stands
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
    for path in store.filesystem.find(store.root):
        relative = path.removeprefix(store.root).lstrip("/")
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
        metrics={name: Metric.model_validate(asdict(info)) for name, info in METRICS.items()},
        both_empty=spec.evaluation.both_empty,
        scoring=Scoring(
            nsd=spec.evaluation.nsd,
            hd95=spec.evaluation.hd95,
            tolerances={task.name: spec.tolerances(task) for task in spec.tasks},
        ),
        comparisons=[_comparison(spec, comparison) for comparison in spec.all_comparisons()],
        descriptions=dict(descriptions),
        settings={model_name(model): dump(model) for model in spec.models},
        modalities={
            task.name: MSD_TASKS[task.name].modality
            for task in spec.tasks
            if task.name in MSD_TASKS
        },
        recipe=Recipe(
            image_size=list(spec.data.image_size),
            patch_size=list(spec.data.patch_size),
            epochs=spec.training.epochs or (100 if spec.training.steps is None else None),
        ),
        resources={"gpus_per_worker": spec.resources.gpus_per_worker},
        trials=[_planned(trial) for trial in plan.trials],
        blocks={name: block.fingerprint for name, block in inputs.blocks.items()},
        excluded={task.name: _reasons(inputs.tasks[task.name]) for task in spec.tasks},
        **({"doubts": inputs.doubts} if inputs.doubts else {}),
        **({"searches": list(searched)} if spec.search else {}),
    )


def _comparison(spec: Spec, comparison: ComparisonSpec) -> Comparison:
    shown = comparison.metrics or spec.evaluation.metrics
    return Comparison.model_validate(dump(comparison) | {"metrics": shown})


def _reasons(task: TaskInputs) -> dict[str, list[str]]:
    return {case: list(reasons) for case, reasons in task.excluded.items()}


def _planned(trial: Trial) -> PlannedTrial:
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
    )


def _description(root: Path | None, task: str) -> str:
    return read_task(root, task).description if root else ""


@functools.lru_cache(maxsize=2)
def parsed_spec(values: str) -> Spec:
    """A spec out of its JSON, checked once per process: a worker reads the study for every trial,
    thousands of times.
    """
    return Spec.model_validate(json.loads(values))
