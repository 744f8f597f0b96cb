"""What the record holds of masks that another tool made: no epochs, no known cost, and in
`external.json` which methods of a study they are, so that a run's new plan keeps them.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from record import paths
from record.comparison import Comparison
from record.schema import Cell, Cost, PlannedTrial, StudyPlan
from record.store import Store
from record.stored import Stored

EXTERNAL = "external"  # the label of such a model

UNKNOWN_COST = Cost(
    seconds=0.0,
    chosen_epoch=0,
    parameters=0,
    trained_parameters=0,
    peak_memory_bytes=0,
    known=False,
)


class ExternalTraining(Stored):
    """The masks of one cell of the grid; `identity`: their hash and the values of structures."""

    task: str
    fraction: float
    fold: int
    seed: int
    train_id: str
    identity: dict[str, Any]


class ExternalMethod(Stored):
    """A method of other tools' masks."""

    name: str
    trainings: list[ExternalTraining]


class ExternalFile(Stored):
    """external.json: methods in the order in which they came."""

    remedy: ClassVar[str] = "remove it, and score the masks again (medvision score)"
    methods: list[ExternalMethod] = []


def external_methods(store: Store) -> list[ExternalMethod]:
    """Those of a study."""
    found = store.load(paths.EXTERNAL, ExternalFile)
    return list(found.methods) if found else []


def save_method(store: Store, method: ExternalMethod) -> None:
    """Add a method, or put it in the place of an earlier one of its name."""
    others = [one for one in external_methods(store) if one.name != method.name]
    store.save(paths.EXTERNAL, ExternalFile(methods=[*others, method]))


def united_methods(
    studies: Sequence[tuple[str, Sequence[ExternalMethod]]],
) -> tuple[list[ExternalMethod], list[str]]:
    """The methods of several studies, each with the trainings of all of them, and a line for each
    cell of which two studies have other masks.

    Args:
        studies: what messages call each, and its methods.
    """
    found: dict[str, dict[Cell, tuple[str, ExternalTraining]]] = {}
    lines: list[str] = []
    for uri, methods in studies:
        for method in methods:
            cells = found.setdefault(method.name, {})
            for one in method.trainings:
                cell = Cell(method.name, one.task, one.fraction, one.fold, one.seed)
                where, first = cells.setdefault(cell, (uri, one))
                if first.identity != one.identity:
                    lines.append(f"{where} and {uri}: the masks of {cell} differ")
    united = [
        ExternalMethod(name=name, trainings=[one for _, one in cells.values()])
        for name, cells in found.items()
    ]
    return united, lines


def with_external(
    plan: StudyPlan,
    methods: Sequence[ExternalMethod],
    ids: Callable[[ExternalTraining], tuple[str, str] | None],
) -> StudyPlan:
    """A plan with the methods of other tools, each tested against the first baseline in a
    comparison of its own, so that no p of the others changes.

    Args:
        plan: of a spec.
        methods: those of the study.
        ids: train_id and eval_id of a training as the plan scores it; None where the plan has not
            its cell.
    """
    trials, comparisons, models = list(plan.trials), list(plan.comparisons), list(plan.models)
    settings = dict(plan.settings)
    repeats = {trial.fold: trial.repeat for trial in plan.trials}
    for method in methods:
        if method.name in plan.models:
            continue
        mine = [
            PlannedTrial(
                model=method.name,
                task=one.task,
                fraction=one.fraction,
                fold=one.fold,
                seed=one.seed,
                train_id=found[0],
                eval_id=found[1],
                **({"repeat": repeats[one.fold]} if repeats.get(one.fold) else {}),  # type: ignore[arg-type]
            )
            for one in method.trainings
            if (found := ids(one)) is not None
        ]
        if not mine:
            continue
        trials += mine
        first = plan.comparisons[0] if plan.comparisons else None
        values = first.to_json() if first else {"metrics": list(plan.metrics)[:1], "family": []}
        baseline = first.baseline if first else plan.models[0]
        values |= {"baseline": baseline, "candidates": [method.name]}
        comparisons.append(Comparison.model_validate(values))
        models.append(method.name)
        settings[method.name] = {"label": EXTERNAL, "name": method.name}
    added = {"trials": trials, "comparisons": comparisons, "models": models, "settings": settings}
    return plan.model_copy(update=added) if len(models) > len(plan.models) else plan


def compared_only(plan: StudyPlan) -> bool:
    """Whether a study trained nothing: every model's masks are another tool's."""
    known = [plan.settings.get(model, {}).get("label") for model in plan.models]
    return bool(known) and set(known) == {EXTERNAL}


def empty_history() -> bytes:
    """The HISTORY of masks that another tool made: no epoch."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"epoch": pa.int64(), "split": pa.string(), "metric": pa.string()}
    schema = pa.schema([*kinds.items(), ("value", pa.float64())])
    buffer = io.BytesIO()
    pq.write_table(schema.empty_table(), buffer)
    return buffer.getvalue()
