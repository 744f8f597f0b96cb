"""Methods whose masks other tools made, in the plan of a study (`orchestrator.score`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medvision.data.split_files import from_split
from orchestrator.planning.found import Inputs, TaskInputs
from orchestrator.planning.identity import digest, eval_identity, external_identity
from orchestrator.spec.other_tools import ExternalSettings
from orchestrator.spec.study import Spec, model_name
from record.external import (
    EXTERNAL,
    ExternalMethod,
    ExternalTraining,
    external_methods,
    united_methods,
    with_external,
)
from record.schema import Cell, StudyPlan
from record.store import Store
from record.study import StoredStudy


def with_others(store: Store, spec: Spec, inputs: Inputs, plan: StudyPlan) -> StudyPlan:
    """The plan with the methods of other tools that were scored in this study (`medvision score`),
    where it still has the cells that they were scored in.
    """
    tasks = {task.name: task for task in spec.tasks}

    def ids(one: ExternalTraining) -> tuple[str, str] | None:
        known = inputs.tasks.get(one.task)
        cell = (one.fraction in spec.fractions) and (one.seed in spec.seeds)
        if known is None or not cell or one.fold >= len(known.folds):
            return None
        roles = known.folds[one.fold].roles(one.fraction)
        task = tasks[one.task]
        train_id = digest(external_identity(spec, task, one.identity))
        scoring = eval_identity(spec, task, train_id, roles, known.fingerprints)
        return train_id, digest(scoring)

    return with_external(plan, external_methods(store), ids)


def planned_masks(
    studies: Sequence[tuple[StoredStudy, Spec]],
) -> tuple[dict[Cell, Mapping[str, Any]], list[str]]:
    """What the masks hold that specs name as models, by cell, of the trials of several studies that
    are finished; and a line for each cell of which two have other masks.
    """
    named = [(study.store.uri, _planned(study, spec)) for study, spec in studies]
    united, lines = united_methods(named)
    found = {
        Cell(method.name, one.task, one.fraction, one.fold, one.seed): one.identity
        for method in united
        for one in method.trainings
    }
    return dict(found), lines


def _planned(study: StoredStudy, spec: Spec) -> list[ExternalMethod]:
    names = {model_name(model) for model in spec.models if isinstance(model, ExternalSettings)}
    return [
        ExternalMethod(
            name=trial.model,
            trainings=[
                ExternalTraining(
                    task=trial.task,
                    fraction=trial.fraction,
                    fold=trial.fold,
                    seed=trial.seed,
                    train_id=marker.train_id,
                    identity=marker.identity.train["external"],
                )
            ],
        )
        for trial, marker in study.plan.finished(study.finished.commits)
        if trial.model in names
    ]


def in_plan(study: StoredStudy, spec: Spec) -> StudyPlan:
    """The stored plan with the methods of other tools as they are now, those of the spec left as
    they were planned.
    """
    before, planned = study.plan, {model_name(model) for model in spec.models}
    others = {
        name
        for name, known in before.settings.items()
        if known.get("label") == EXTERNAL and name not in planned
    }
    bare = before.model_copy(
        update={
            "models": [model for model in before.models if model not in others],
            "trials": [trial for trial in before.trials if trial.model not in others],
            "settings": {
                name: known for name, known in before.settings.items() if name not in others
            },
            "comparisons": [
                one for one in before.comparisons if not others.intersection(one.candidates)
            ],
        }
    )
    tasks = {
        name: TaskInputs(tuple(from_split(split)), split.cases)
        for name, split in study.splits.items()
    }
    return with_others(study.store, spec, Inputs(tasks, {}), bare)
