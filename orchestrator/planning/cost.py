"""What trials take: arithmetic at first, then what is learnt from the study's finished trials; and
when the rest will be done.

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

from medvision.data.embedded import TASK_CASES, TASK_NAME
from medvision.data.settings import VALIDATION_PATCHES
from medvision.data.splits import VALIDATION_EVERY, Roles, whole
from medvision.data.tasks import MSD_TASKS
from medvision.models.sizes import Sizes
from orchestrator.spec.data import TaskSpec
from orchestrator.spec.other_tools import ExternalSettings, NnUNetV2Settings
from orchestrator.spec.study import Spec, model_name
from record.schema import Commit, PlannedTrial

# a core's sustained rate on these models, measured; used until a study has finished trials
CPU_FLOPS = 5e10
GPU_STEP = 0.065  # seconds of a step at least: Python's launches of the kernels, measured (H100)
UNKNOWN_CASES = 100
# of nnU-Net itself, which plans its network later: forward of a batch of two patches of 128^3
NNUNET_FLOPS = 1.7e12
NNUNET_RATES = (CPU_FLOPS, 6e13)  # of a core and of a GPU
T = TypeVar("T")


@dataclass(frozen=True)
class Work:
    """What one trial costs: `arithmetic` in seconds at the assumed rates, `gpus` that it holds.
    A `rescore` scores masks again and trains nothing, so nothing is learnt from it. `known`: False
    of masks that another tool made, whose arithmetic is 0."""

    model: str
    task: str
    arithmetic: float
    gpus: float = 0.0
    rescore: bool = False
    known: bool = True


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
    def of_study(cls, trials: Iterable[PlannedTrial], seconds: Mapping[str, float]) -> CostModel:
        """Out of a stored study's trials and the seconds of the finished ones; in an old plan
        without arithmetic all trials are alike.
        """
        works = {
            trial.eval_id: Work(
                trial.model, trial.task, trial.arithmetic_seconds, trial.gpus, trial.rescore
            )
            for trial in trials
            if trial.eval_id
        }
        return cls(works)._taught(seconds)

    def taught_by(self, commits: Mapping[str, Commit]) -> CostModel:
        """Learn from the commit markers of this study's trials; returns itself."""
        return self._taught({name: marker.cost.seconds for name, marker in commits.items()})

    def _taught(self, seconds: Mapping[str, float]) -> CostModel:
        for name in self.works.keys() & seconds.keys():
            self.learn(name, seconds[name])
        return self

    def learn(self, name: str, seconds: float) -> None:
        """Learn from the seconds of a finished trial, if they are a positive number and the first
        report of it.
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
        """Whether any trial has finished; before that, estimates are arithmetic alone."""
        return bool(self._learned)

    def ratio(self, model: str, task: str) -> float:
        """Seconds over arithmetic that are expected of one model on one task."""
        ratios = self._ratios  # another thread may learn meanwhile, which replaces them
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
        not dominate.
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


def assumed_cases(task: str) -> int:
    """Cases of a task that was not read yet: what is published of it, or a guess."""
    if task == TASK_NAME:
        return TASK_CASES
    return MSD_TASKS[task].cases if task in MSD_TASKS else UNKNOWN_CASES


def assumed_roles(spec: Spec, cases: int, test_share: float, fraction: float) -> Roles:
    """As many unnamed cases in each role as a fold of so many cases has."""
    test = whole(cases * test_share, spec.splits.rounding)
    taken = whole(fraction * (cases - test), spec.splits.rounding)
    of_fold = cases - test if spec.splits.validation == "fold" else taken
    validation = of_fold // VALIDATION_EVERY
    train = taken - taken // VALIDATION_EVERY
    return Roles(("",) * train, ("",) * validation, ("",) * test)


def arithmetic_seconds(
    spec: Spec,
    model: Any,
    task: TaskSpec,
    fraction: float,
    roles: Roles | None,
    block: Mapping[str, Any] | None,
    *,
    rescore: bool = False,
    windows: float | None = None,
) -> float:
    """Seconds of a trial from its arithmetic: forward and backward of every step, forward of
    validation and test.

    Args:
        roles: None where the data are not here; then MSD's numbers of cases, or `UNKNOWN_CASES`.
        block: size of one layer of the language-model block, as the model's `flops` takes it.
        rescore: nothing is trained; scoring counts as one forward.
        windows: of a test case, where networks see patches; as many as a validation case has
            patches where it is not known.

    Returns:
        0 of masks that another tool made, whose cost is unknown.
    """
    if isinstance(model, ExternalSettings):
        return 0.0
    if roles is None:
        share = 1 / spec.folds if spec.splits.scheme == "kfold" else spec.splits.test_fraction
        roles = assumed_roles(spec, assumed_cases(task.name), share, fraction)
    train, validation, test = len(roles.train), len(roles.validation), len(roles.test)
    if isinstance(model, NnUNetV2Settings):
        steps, flops, rates = 0 if rescore else model.steps, NNUNET_FLOPS, NNUNET_RATES
        shape = spec.resources.shape(model_name(model), task.name)
        gpus = shape.gpus_per_worker
        return (3 * steps + test) * flops / (gpus * rates[1] or shape.cpus_per_worker * rates[0])
    in_patches = spec.data.protocol == "patches"
    of_case = (windows or VALIDATION_PATCHES) if in_patches else 1.0
    segmented: float = test * spec.evaluation.inference.images
    if "mirror" in spec.evaluation.choose:  # with and without
        segmented += validation * (1 + spec.evaluation.inference.images)
    elif spec.evaluation.choose:
        segmented += validation * spec.evaluation.inference.images
    if in_patches:
        validation *= VALIDATION_PATCHES
    groups = max(1, len(spec.groups(task)))
    sizes = Sizes(spec.data.image_size, spec.data.patch_size, out_channels=groups)
    flops = model.flops(sizes, block)
    steps = 0 if rescore else spec.training.total_steps(train)
    epochs = steps / spec.training.steps_per_epoch(train)
    segmented *= of_case
    trained, seen = epochs * spec.training.samples(train), epochs * validation + segmented
    shape = spec.resources.shape(model_name(model), task.name)
    if not shape.gpus_per_worker:
        return (3 * trained + seen) * flops / (shape.cpus_per_worker * CPU_FLOPS * shape.workers)
    rate = model.gpu_rates[spec.training.precision != "fp32"]
    rate *= shape.gpus_per_worker * shape.workers
    batches = epochs * -(-validation // spec.training.batch_size) + segmented
    return max(steps * GPU_STEP, 3 * trained * flops / rate) + max(
        batches * GPU_STEP / 3, seen * flops / rate
    )
