"""The design of a study that is to be run: what each number of folds, seeds and cases can see of a
difference, and what it costs.

Power is the report's own (`reports.statistics.power`), cost the arithmetic of the models times what
a pilot's trials took for theirs (`orchestrator.planning.cost`). Pure; imports no torch and no Ray.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.planning.cost import (
    arithmetic_seconds,
    assumed_roles,
    longest_first,
    makespan,
)
from orchestrator.spec.design_flags import LEAST_CASES
from orchestrator.spec.study import Spec, model_name
from reports.statistics import detectable, power

DAY = 86_400
Ratio = Callable[[str, str], float]  # of a model and a task: seconds over arithmetic


@dataclass(frozen=True)
class Question:
    """A row of the table to come: the difference that it shall show, and what varies there.

    `components`: variances of fold, training, case and rest; `variance`: the comparison's setting.
    """

    place: str
    task: str
    metric: str
    difference: float
    components: Mapping[str, float]
    variance: Any = "independent"


@dataclass(frozen=True)
class Alternative:
    """One design. `folds`: of each of the `repeats` cross-validations; `cases`: of each task;
    `power`: the least of all questions; `sees`: metric -> the largest of its differences that have
    the wanted power, in its unit; hours of GPUs, of cores and of lanes; `seconds` until the last
    trial ends.
    """

    folds: int
    repeats: int
    seeds: int
    cases: Mapping[str, int]
    trials: int
    power: float
    sees: Mapping[str, float]
    gpu_hours: float
    core_hours: float
    lane_hours: float
    seconds: float

    @property
    def days(self) -> float:
        return self.seconds / DAY


@dataclass(frozen=True)
class Wanted:
    """What a design is asked for: `level` of the tests' intervals, such as 0.95, and `power`."""

    power: float
    level: float


def alternatives(
    spec: Spec,
    questions: Sequence[Question],
    *,
    folds: Sequence[int],
    seeds: Sequence[int],
    cases: Sequence[Mapping[str, int]],
    patients: Mapping[str, float],
    wanted: Wanted,
    ratio: Ratio,
    blocks: Mapping[str, Mapping[str, Any] | None],
) -> list[Alternative]:
    """Every design that can be tested, in the order folds, seeds, cases.

    Args:
        spec: everything but folds and seeds, so `splits.repeats`, too.
        questions: all of them must be answered.
        folds: to be tried, at least 2; those that a task has too few cases for are left out.
        seeds: to be tried.
        cases: task -> cases; each mapping is one number to be tried.
        patients: task -> patients a case, of tasks whose cases are grouped: the tests count these.
        wanted: power and level.
        ratio: of `CostModel`, taught by a pilot or not.
        blocks: model -> size of its language-model block.

    Raises:
        ValueError: components that cannot be: `reports.statistics.power` says why.
    """
    found, repeats = [], spec.splits.repeats
    for number, each, of_task in itertools.product(folds, seeds, cases):
        tested = {task: round(count * patients.get(task, 1.0)) for task, count in of_task.items()}
        if number < 2 or min(tested.values()) < max(number, LEAST_CASES):
            continue
        design = {"folds": number, "seeds": each, "level": wanted.level, "repeats": repeats}
        powers: list[float] = []
        sees: dict[str, float] = {}
        for ask in questions:
            has = design | {"cases": tested[ask.task], "variance": ask.variance}
            powers.append(power(ask.difference, ask.components, **has))
            seen = detectable(ask.components, power=wanted.power, **has)
            sees[ask.metric] = max(seen, sees.get(ask.metric, 0.0))
        found.append(
            Alternative(
                number,
                repeats,
                each,
                dict(of_task),
                power=min(powers),
                sees=sees,
                **_cost(spec, number, each, of_task, ratio, blocks),
            )
        )
    return found


def cheapest(found: Iterable[Alternative], wanted: Wanted) -> Alternative | None:
    """The design that has the wanted power for the least hours (of GPUs, or of cores where there
    are none), the sooner one of two; None where none has it.
    """
    enough = [one for one in found if one.power >= wanted.power]
    return min(enough, key=lambda one: (one.gpu_hours, one.core_hours, one.seconds), default=None)


def _cost(
    spec: Spec,
    folds: int,
    seeds: int,
    cases: Mapping[str, int],
    ratio: Ratio,
    blocks: Mapping[str, Mapping[str, Any] | None],
) -> dict[str, Any]:
    """Trials, hours and seconds of one design; the folds of a task are taken for equally large."""
    seconds: list[float] = []
    gpu = core = 0.0
    for model, task, fraction in itertools.product(spec.models, spec.tasks, spec.fractions):
        name = model_name(model)
        roles = assumed_roles(spec, cases[task.name], 1 / folds, fraction)
        one = arithmetic_seconds(spec, model, task, fraction, roles, blocks.get(name))
        one *= ratio(name, task.name)
        shape = spec.resources.shape(name, task.name)
        number = folds * spec.splits.repeats * seeds
        seconds += [one] * number
        gpu += number * one * shape.workers * shape.gpus_per_worker
        core += number * one * shape.workers * shape.cpus_per_worker
    lanes = spec.resources.max_lanes or 1
    return {
        "trials": len(seconds),
        "gpu_hours": gpu / 3600,
        "core_hours": core / 3600,
        "lane_hours": sum(seconds) / 3600,
        "seconds": makespan(longest_first(seconds, float), lanes),
    }
