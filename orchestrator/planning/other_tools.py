"""Methods whose masks other tools made, in the plan of a study (`orchestrator.score`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medvision.data.split_files import from_split
from orchestrator.planning.found import Inputs, TaskInputs
from orchestrator.planning.identity import Identity, digest, eval_identity
from orchestrator.spec.data import TaskSpec
from orchestrator.spec.study import Spec
from record.external import EXTERNAL, ExternalTraining, external_methods, with_external
from record.schema import StudyPlan
from record.store import Store
from record.study import StoredStudy


def external_identity(spec: Spec, task: TaskSpec, content: Mapping[str, Any]) -> Identity:
    """What the train_id of other tools' masks is a digest of: what they hold, and the label groups
    that are scored.
    """
    return {"external": dict(content), "groups": dict(spec.groups(task))}


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


def in_plan(study: StoredStudy, spec: Spec) -> StudyPlan:
    """The stored plan with the methods of other tools as they are now."""
    before = study.plan
    others = {name for name, known in before.settings.items() if known.get("label") == EXTERNAL}
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
