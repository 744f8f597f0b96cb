"""What the trials of a plan have in common, made once and shared: a plan of 10,000 trials has 80
pairs of model and task, and as few settings to count and 250 sets of cases to hash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from medvision.data.splits import Roles
from orchestrator.planning.cost import Work, arithmetic_seconds
from orchestrator.planning.found import BlockInputs, Inputs, TaskInputs
from orchestrator.planning.identity import (
    Identity,
    RoleContents,
    role_contents,
    scoring_settings,
    training_settings,
)
from orchestrator.spec.data import TaskSpec
from orchestrator.spec.other_tools import ExternalSettings
from orchestrator.spec.search import tuned
from orchestrator.spec.study import Spec, model_name

T = TypeVar("T")


class _Once:
    """Values by key, each made on its first use."""

    def __init__(self) -> None:
        self._made: dict[tuple[Any, ...], Any] = {}

    def __call__(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        if key not in self._made:
            self._made[key] = make()
        return cast(T, self._made[key])


@dataclass(frozen=True)
class SharedParts:
    """The parts of the trials of one model, task, fraction and fold, whatever their seed.

    Attributes:
        spec, model: with the model's overrides, and what a search chose.
        block: None for a model without one.
        roles: None where the data are not here.
    """

    spec: Spec
    model: Any
    name: str
    given: TaskSpec
    task: TaskInputs
    block: BlockInputs | None
    roles: Roles | None
    fraction: float
    fold: int
    group: tuple[Any, ...]
    once: _Once = field(repr=False)

    def work(self, *, rescore: bool = False) -> Work:
        """What one of them costs; `rescore`: scoring again, without training."""

        def make() -> Work:
            shape = self.spec.resources.shape(self.name, self.given.name)
            size = self.block.size if self.block and not rescore else None
            seconds = arithmetic_seconds(
                self.spec,
                self.model,
                self.given,
                self.fraction,
                self.roles,
                size,
                rescore=rescore,
                windows=self.task.volumes.windows if self.task.volumes else None,
            )
            if isinstance(self.model, ExternalSettings):
                return Work(self.name, self.given.name, seconds, known=False)
            gpus = shape.workers * shape.gpus_per_worker
            return Work(self.name, self.given.name, seconds, gpus, rescore)

        return self.once(("work", *self.group, self.fraction, self.fold, rescore), make)

    def contents(self) -> RoleContents:
        """Of their cases; only where the data are here."""
        assert self.roles is not None  # noqa: S101  # folds are known where nothing is missing
        roles = self.roles
        return self.once(
            ("contents", self.given.name, self.fraction, self.fold),
            lambda: role_contents(roles, self.task.fingerprints),
        )

    def training(self) -> Identity:
        """`orchestrator.planning.identity.training_settings`."""
        block = self.block.fingerprint if self.block else None
        return self.once(
            ("training", *self.group),
            lambda: training_settings(self.spec, self.model, self.given, block),
        )

    def scoring(self) -> Identity:
        """`orchestrator.planning.identity.scoring_settings`."""
        return self.once(("scoring", *self.group), lambda: scoring_settings(self.spec, self.given))


class Shared:
    """The shared parts of a plan's trials.

    Args:
        spec: resolved.
        inputs: what is known of its data and blocks.
    """

    def __init__(self, spec: Spec, inputs: Inputs) -> None:
        self._spec, self._inputs, self._once = spec, inputs, _Once()

    def of(
        self, model: Any, task: TaskSpec, fraction: float, fold: int, settings: Mapping[str, Any]
    ) -> SharedParts:
        """Those of a place of the grid.

        Args:
            settings: what a search chose there, dotted.
        """
        name, once = model_name(model), self._once
        group = (name, task.name, fold if settings else None)

        def make() -> SharedParts:
            spec, own = once(("tuned", *group), lambda: tuned(self._spec, model, settings))
            known = self._inputs.tasks[task.name]
            roles = None
            if known.folds:
                place = ("roles", task.name, fraction, fold)
                roles = once(place, lambda: known.folds[fold].roles(fraction))
            block = self._inputs.blocks.get(name)
            return SharedParts(
                spec, own, name, task, known, block, roles, fraction, fold, group, once
            )

        return once(("parts", *group, fraction, fold), make)
