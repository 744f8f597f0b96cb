"""What a study was planned to test before its results were seen: the frozen analysis, and when its
trainings were planned.

`analysis.json` is written once, by `run --freeze`; `trainings.json` by every run, which notes how
many results there were when seeds, folds or repeats came into the plan. Neither is part of an id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from pydantic import Field

from record import paths
from record.comparison import Comparison
from record.schema import Scoring, StudyPlan
from record.store import DamagedError, Store, StoreError
from record.stored import SCHEMA_VERSION, Stored


class Trainings(Stored):
    """The trainings of a model on a task: folds of each of so many repeats, each with these
    seeds.
    """

    folds: int
    repeats: int = 1
    seeds: list[int]

    @classmethod
    def of(cls, plan: StudyPlan) -> Trainings:
        """Those that a plan has."""
        return cls(
            folds=len({trial.fold for trial in plan.trials if trial.repeat == 0}),
            repeats=max((trial.repeat for trial in plan.trials), default=0) + 1,
            seeds=sorted({trial.seed for trial in plan.trials}),
        )


class Analysis(Stored):
    """What decides which numbers a report tests, and how. `models`: model -> its settings,
    `blocks`: model -> fingerprint of its block; `claims`: file -> sha256; the rest as `StudyPlan`,
    None where the plan was older.
    """

    comparisons: list[Comparison]
    tasks: list[str]
    fractions: list[float]
    both_empty: str
    scoring: Scoring
    models: dict[str, dict[str, Any]] = {}
    counted: dict[str, dict[str, Any]] | None = None
    blocks: dict[str, str | None] = {}
    training: dict[str, Any] = {}
    data: dict[str, Any] = {}
    splits: dict[str, Any] | None = None
    search: dict[str, Any] | None = None
    excluded: dict[str, dict[str, list[str]]] = {}
    claims: dict[str, str] = {}
    trainings: Trainings

    @classmethod
    def of(cls, plan: StudyPlan, claims: Mapping[str, str]) -> Analysis:
        """That of a plan and of the claims that its report judges."""
        return cls(
            comparisons=plan.comparisons,
            tasks=plan.tasks,
            fractions=plan.fractions,
            both_empty=plan.both_empty,
            scoring=plan.scoring,
            models=plan.settings,
            counted=plan.counted,
            blocks=plan.blocks,
            training=plan.training,
            data=plan.data,
            splits=plan.splits,
            search=plan.search,
            excluded={task: cases for task, cases in plan.excluded.items() if cases},
            claims=dict(claims),
            trainings=Trainings.of(plan),
        )

    @property
    def sha256(self) -> str:
        """Of its JSON in canonical form."""
        return _sha256(self.model_dump(mode="json", by_alias=True))


class Frozen(Stored):
    """analysis.json. `time`: UTC, ISO 8601; `sha256`: of `analysis`; `finished`: evaluations that
    were finished by then.
    """

    remedy: ClassVar[str] = "put back the file as `run --freeze` wrote it"
    schema_version: int = Field(default=SCHEMA_VERSION, alias="schema")
    time: str
    sha256: str
    finished: int = 0
    analysis: Analysis


class PlannedTrainings(Stored):
    """Trainings that were planned from `time` on (empty where it is not known), when so many
    evaluations were finished.
    """

    trainings: Trainings
    time: str
    finished: int


class TrainingsFile(Stored):
    """trainings.json: what was planned, in the order of time."""

    remedy: ClassVar[str] = "put back the file, or remove it, and run the study's command again"
    planned: list[PlannedTrainings]


def frozen_analysis(store: Store) -> Frozen | None:
    """The frozen analysis of a study, None where there is none.

    Raises:
        DamagedError: the file is not what was frozen.
    """
    found = store.load(paths.ANALYSIS, Frozen)
    if found is None:
        return None
    if _sha256((store.read_json(paths.ANALYSIS) or {}).get("analysis")) != found.sha256:
        raise DamagedError(
            f"{store.path(paths.ANALYSIS)}: has changed since it was frozen at {found.time} "
            f"(sha256 {found.sha256}); {Frozen.remedy}"
        )
    return found


def refuse_second_freeze(store: Store) -> None:
    """Raises StoreError where the study has a frozen analysis already."""
    if (found := frozen_analysis(store)) is not None:
        raise StoreError(
            f"{store.path(paths.ANALYSIS)}: the analysis was frozen at {found.time} already, and "
            "stays: run without --freeze (what has changed since is shown as exploratory), or give "
            "the new study another name"
        )


def freeze(store: Store, plan: StudyPlan, claims: Mapping[str, str]) -> Frozen:
    """Write the analysis down, once.

    Args:
        claims: file -> sha256, of those that the report judges.

    Raises:
        StoreError: it was frozen before.
    """
    refuse_second_freeze(store)
    analysis = Analysis.of(plan, claims)
    values = analysis.model_dump(mode="json", by_alias=True)
    found = Frozen(
        schema=SCHEMA_VERSION,
        time=_now(),
        sha256=_sha256(values),
        finished=len(store.committed()),
        analysis=analysis,
    )
    store.write_json(paths.ANALYSIS, found.model_dump(mode="json", by_alias=True))
    return found


def note_trainings(store: Store, plan: StudyPlan) -> None:
    """Note what a plan trains, if it is not what was planned last. To be called before the plan is
    written: of a study that is older than this file, the old plan is what was planned first.
    """
    found = store.load(paths.TRAININGS, TrainingsFile)
    planned = list(found.planned) if found else []
    if found is None and (before := _old_plan(store)) and before.trials:
        planned.append(PlannedTrainings(trainings=Trainings.of(before), time="", finished=0))
    now = Trainings.of(plan)
    if planned and planned[-1].trainings == now and found is not None:
        return
    if not planned or planned[-1].trainings != now:
        finished = len(store.committed())
        planned.append(PlannedTrainings(trainings=now, time=_now(), finished=finished))
    store.write_json(
        paths.TRAININGS, TrainingsFile(planned=planned).model_dump(mode="json", by_alias=True)
    )


def _old_plan(store: Store) -> StudyPlan | None:
    """The plan of an earlier run; a damaged one is about to be written anew."""
    try:
        return store.load(paths.PLAN, StudyPlan)
    except DamagedError:
        return None


def planned_trainings(store: Store) -> list[PlannedTrainings]:
    """What was planned when; empty of a study that is older than this record."""
    found = store.load(paths.TRAININGS, TrainingsFile)
    return list(found.planned) if found else []


def left_behind(sources: Iterable[Store]) -> list[str]:
    """What the sources' records of planning say that the merged study's does not, a line each: it
    was frozen and planned for a part, and a freeze of the whole cannot be made of them.

    Raises:
        DamagedError: a frozen analysis is not what was frozen.
    """
    lines = []
    for store in sources:
        if (found := frozen_analysis(store)) is not None:
            lines.append(
                f"{store.uri}: its analysis, frozen at {found.time}, holds there alone: nothing is "
                "frozen in the merged study"
            )
        if len(planned_trainings(store)) > 1:
            lines.append(
                f"{store.uri}: its trainings were planned in several steps, which only its own "
                "report shows"
            )
    return lines


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
