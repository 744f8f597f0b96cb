"""What a finished study says to a study that is planned: how much its differences vary, and what
its trials took.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.planning.cost import CostModel
from record import paths
from record.study import StoredStudy
from reports.render.layout import share
from reports.statistics.methods import COMPONENTS


class PilotError(ValueError):
    """A study that cannot serve as a pilot; the message says why and what to do."""


@dataclass(frozen=True)
class PilotRow:
    """A comparison of the pilot with its variance components, and how many test cases (or patients)
    these rest on.
    """

    baseline: str
    candidate: str
    task: str
    fraction: float
    metric: str
    components: Mapping[str, float]
    cases: int
    folds: int
    trainings: int


@dataclass(frozen=True)
class Pilot:
    """`cost` is taught by the trials that the pilot has finished; `cases`: task -> its test cases,
    `patients`: task -> its patients, of tasks whose cases are grouped; `unused`: why other rows
    teach nothing, a line each.
    """

    name: str
    rows: tuple[PilotRow, ...]
    unused: tuple[str, ...]
    cost: CostModel
    cases: Mapping[str, int]
    patients: Mapping[str, int]


def read_pilot(study: StoredStudy, metrics: Sequence[str]) -> Pilot:
    """The components of these metrics in every comparison of a study that tells them apart.

    Raises:
        StoreError: it is no study, or out of reach.
        PilotError: nothing is finished or compared, or no row of a metric tells the components
            apart: one training set, one seed a fold, no difference at all.
    """
    from reports.sections.significance import significance_table
    from reports.statistics.pairing import with_patients

    plan, commits, uri = study.plan, study.finished.commits, study.store.uri
    if not plan.comparisons:
        raise PilotError(
            f"{uri} compares no models, so that it has no difference to learn from: take a study "
            "of two models, or state --assume"
        )
    rows = study.rows(paths.CASES)
    if rows.empty:
        raise PilotError(f"{uri} has no finished trial: run it first, or state --assume")
    if lacking := [metric for metric in metrics if metric not in rows]:
        raise PilotError(
            f"{uri} has no scores of {', '.join(lacking)}: take a newer pilot, or state --assume"
        )
    groups = {task: split.patients for task, split in study.splits.items()}
    rows = with_patients(rows, groups)
    asked = {"metrics": list(metrics), "equivalence": {}}
    compared = [one.model_copy(update=asked) for one in plan.comparisons]
    table = significance_table(rows, plan.model_copy(update={"comparisons": compared}), commits)
    there = table[table["folds"].notna()]
    if there.empty:
        why = str(table["verdict"].iloc[0])
        raise PilotError(
            f"{uri} has no comparison to learn from ({why}): run it to its end, or state --assume"
        )
    found = tuple(
        PilotRow(
            baseline=row["baseline"],
            candidate=row["candidate"],
            task=row["task"],
            fraction=float(row["fraction"]),
            metric=row["metric"],
            components={name: float(row[f"component_{name}"]) for name in COMPONENTS},
            cases=int(row["n"]),
            folds=int(row["folds"]),
            trainings=int(row["trainings"]),
        )
        for row in there.drop_duplicates(
            ["baseline", "candidate", "task", "fraction", "metric"]
        ).to_dict("records")
    )
    judged = [(row, _not_told_apart(row)) for row in found]
    used = tuple(row for row, wrong in judged if wrong is None)
    for metric in metrics:
        if metric not in {row.metric for row in used}:
            first = next(wrong for row, wrong in judged if row.metric == metric)
            raise PilotError(f"{uri}: {first}, or state --assume")
    finished = rows[rows["task"].isin(there["task"])]
    scored = {str(task): of for task, of in finished.groupby("task", observed=True)}
    return Pilot(
        plan.name,
        used,
        tuple(wrong for _, wrong in judged if wrong is not None),
        CostModel.of_study(
            plan.trials, {name: marker.cost.seconds for name, marker in commits.items()}
        ),
        cases={task: of["case"].nunique() for task, of in scored.items()},
        patients={task: of["patient"].nunique() for task, of in scored.items() if groups.get(task)},
    )


def _not_told_apart(row: PilotRow) -> str | None:
    """Why a row says nothing of its components, and what to do."""
    where = (
        f"{row.candidate} against {row.baseline}, {row.task}, {share(row.fraction)}, {row.metric}"
    )
    if row.folds < 2:
        return (
            f"{where} has one training set, which says nothing of others: take a pilot with folds "
            "and several seeds"
        )
    if math.isnan(row.components["training"]):
        return (
            f"{where} has one seed, so that luck of training cannot be told from training sets: "
            "add seeds to the pilot (seeds: [0, 1, 2]; only the new ones run)"
        )
    if not math.fsum(value for value in row.components.values() if value == value) > 0:
        return (
            f"{where}: the models do not differ in any case, so that there are no variances: train "
            "the pilot longer"
        )
    return None
