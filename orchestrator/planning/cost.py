"""What trials take: arithmetic at first, then what the study's finished trials teach; and when the
rest will be done.

A trial's seconds are its arithmetic times a ratio. The logarithms of measured over arithmetic
seconds are partially pooled (Gelman and Hill 2007, chapter 12, equal variance within and between
groups): each level is the mean of its own trials and of its parent, which counts as one trial:
model and task, towards the model, towards all models. So a ratio is 1 without any data, a first
finished trial moves all estimates, and many trials of one model and task decide their own alone.

Pure; imports no torch and no Ray.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from medvision.data.splits import Roles
from medvision.data.tasks import MSD_TASKS
from medvision.models.sizes import Sizes
from orchestrator.spec.data import TaskSpec
from orchestrator.spec.study import Spec, model_name
from record.schema import Commit, PlannedTrial

# a core's sustained rate on these models, measured; used until a study has finished trials
CPU_FLOPS = 5e10
GPU_FLOPS = 1.5e13  # assumed, not measured: half-used tensor cores of a current data-centre GPU
UNKNOWN_CASES = 100
T = TypeVar("T")


@dataclass(frozen=True)
class Work:
    """One trial as far as its cost goes: `arithmetic` in seconds at the assumed rates, `gpus` that
    it holds. A `rescore` scores masks again and trains nothing, so it teaches nothing."""

    model: str
    task: str
    arithmetic: float
    gpus: float = 0.0
    rescore: bool = False


@dataclass(frozen=True)
class Forecast:
    """Of trials that are not finished: hours of GPUs, hours of lanes, and seconds until the last
    one ends.
    """

    gpu_hours: float
    lane_hours: float
    seconds: float


class CostModel:
    """Expected seconds of the trials of a study, by name (eval_id); `learn` makes them better.

    Args:
        works: every trial of the study.
    """

    def __init__(self, works: Mapping[str, Work]) -> None:
        self.works = dict(works)
        self._learned: set[str] = set()
        self._sums: dict[
            tuple[str, ...], tuple[int, float]
        ] = {}  # (model,) or (model, task) -> trials, sum of logs
        self._ratios: dict[tuple[str, str], float] = {}

    @classmethod
    def of_study(cls, trials: Iterable[PlannedTrial], commits: Mapping[str, Commit]) -> CostModel:
        """Out of a stored study's trials and commit markers; in an old plan without arithmetic all
        trials are alike.
        """
        works = {
            trial.eval_id: Work(
                trial.model, trial.task, trial.arithmetic_seconds, trial.gpus, trial.rescore
            )
            for trial in trials
            if trial.eval_id
        }
        return cls(works).taught_by(commits)

    def taught_by(self, commits: Mapping[str, Commit]) -> CostModel:
        """Learn from the commit markers of this study's trials; returns itself."""
        for name in self.works.keys() & commits.keys():
            self.learn(name, commits[name].cost.seconds)
        return self

    def learn(self, name: str, seconds: float) -> None:
        """Take what a finished trial took; the first word on a trial counts, what is no positive
        number does not.
        """
        work = self.works.get(name)
        if (
            work is None
            or work.rescore
            or name in self._learned
            or not 0 < seconds < math.inf
            or not work.arithmetic
        ):
            return
        self._learned.add(name)
        for group in ((work.model,), (work.model, work.task)):
            count, total = self._sums.get(group, (0, 0.0))
            self._sums[group] = (count + 1, total + math.log(seconds / work.arithmetic))
        self._ratios = {}

    @property
    def is_taught(self) -> bool:
        """Whether any finished trial has taught what trials take; before that, estimates are
        arithmetic alone.
        """
        return bool(self._learned)

    def ratio(self, model: str, task: str) -> float:
        """Seconds over arithmetic that are expected of one model on one task."""
        ratios = self._ratios  # another thread may learn meanwhile, which begins new ones
        if (model, task) not in ratios:
            of_all = self._pooled(
                total for group, total in list(self._sums.items()) if len(group) == 1
            )
            of_model = self._shrunk((model,), of_all)
            ratios[model, task] = math.exp(self._shrunk((model, task), of_model))
        return ratios[model, task]

    def seconds(self, name: str) -> float:
        """Expected seconds of one trial, from start to commit."""
        work = self.works[name]
        return work.arithmetic * self.ratio(work.model, work.task)

    def forecast(
        self, names: Iterable[str], lanes: int, elapsed: Mapping[str, float] | None = None
    ) -> Forecast:
        """What the trials that are not finished still take on so many lanes, longest first.

        Args:
            lanes: at least 1.
            elapsed: seconds that running trials have taken already; they hold the first lanes.
        """
        elapsed, names = elapsed or {}, list(names)
        left = {name: max(self.seconds(name) - elapsed.get(name, 0.0), 0.0) for name in names}
        waiting = longest_first((name for name in names if name not in elapsed), self.seconds)
        order = [name for name in names if name in elapsed] + waiting
        gpu_seconds = sum(left[name] * self.works[name].gpus for name in names)
        return Forecast(
            gpu_seconds / 3600,
            sum(left.values()) / 3600,
            makespan([left[name] for name in order], lanes),
        )

    def _shrunk(self, group: tuple[str, ...], parent: float) -> float:
        count, total = self._sums.get(group, (0, 0.0))
        return (total + parent) / (count + 1)

    @staticmethod
    def _pooled(groups: Iterable[tuple[int, float]]) -> float:
        """Mean over models, each weighted by n / (n + 1), so that the model with most trials does
        not speak for all.
        """
        weights = [(count / (count + 1), total / count) for count, total in groups]
        return sum(w * mean for w, mean in weights) / sum(w for w, _ in weights) if weights else 0.0


def longest_first(items: Iterable[T], seconds: Callable[[T], float]) -> list[T]:
    """The order in which trials start, so that no long one starts last (Graham 1969: at most 4/3 of
    the best order).
    """
    return sorted(items, key=lambda item: -seconds(item))


def makespan(durations: Sequence[float], lanes: int) -> float:
    """Seconds until the last of these trials ends, if each starts in this order on the lane that is
    free first.
    """
    free = [0.0] * max(min(lanes, len(durations)), 1)
    for duration in durations:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


def arithmetic_seconds(
    spec: Spec,
    model: Any,
    task: TaskSpec,
    fraction: float,
    roles: Roles | None,
    block: Mapping[str, Any] | None,
    *,
    rescore: bool = False,
) -> float:
    """Seconds of a trial from its arithmetic: forward and backward of every step, forward of
    validation and test.

    Args:
        roles: None where the data are not here; then MSD's numbers of cases, or `UNKNOWN_CASES`.
        block: size of one layer of the language-model block, as the model's `flops` takes it.
        rescore: nothing is trained; scoring counts as one forward.
    """
    if roles is not None:
        train, validation, test = len(roles.train), len(roles.validation), len(roles.test)
    else:
        cases = MSD_TASKS[task.name].cases if task.name in MSD_TASKS else UNKNOWN_CASES
        share = 1 / spec.folds if spec.splits.scheme == "kfold" else spec.splits.test_fraction
        test = max(1, round(cases * share))
        taken = max(1, round(fraction * (cases - test)))
        train, validation = max(1, taken - taken // 5), taken // 5
    groups = max(1, len(spec.groups(task)))
    sizes = Sizes(spec.data.image_size, spec.data.patch_size, out_channels=groups)
    flops = model.flops(sizes, block)
    epochs = spec.training.total_steps(train) / spec.training.steps_per_epoch(train)
    passes = test if rescore else 3 * epochs * train + epochs * validation + test
    shape = spec.resources.shape(model_name(model), task.name)
    rate = shape.gpus_per_worker * GPU_FLOPS or shape.cpus_per_worker * CPU_FLOPS
    return passes * flops / (rate * shape.workers)
