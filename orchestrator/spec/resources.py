"""The part of a spec that says the resources of a trial; never part of a trial's
identity.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from medvision.settings import Settings


def _one_at_most(gpus: float) -> float:
    if gpus > 1:
        raise ValueError(
            "a worker trains on one GPU, and would leave the others idle: give 1 or a share below "
            "1; for a trial on several GPUs give that many workers with 1 each"
        )
    return gpus


Gpus = Annotated[float, Field(ge=0), AfterValidator(_one_at_most)]
AutoGpus = Literal["auto"] | Gpus


@dataclass(frozen=True, order=True)
class WorkerResources:
    """What the workers of one trial hold."""

    workers: int = 1
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0.0

    @property
    def worker(self) -> dict[str, float]:
        """Resources of one worker, only those above 0."""
        return {
            kind: value
            for kind, value in (("CPU", self.cpus_per_worker), ("GPU", self.gpus_per_worker))
            if value
        }

    def __str__(self) -> str:
        each = " and ".join(f"{value:g} {kind}" for kind, value in self.worker.items())
        return f"{self.workers} x ({each})" if self.workers > 1 else each


class ShapeSpec(Settings):
    """Other workers for some trials; what is not given stays as in `resources`."""

    models: list[str] | None = Field(
        default=None, min_length=1, description="names of models; by default all"
    )
    tasks: list[str] | None = Field(
        default=None, min_length=1, description="names of tasks; by default all"
    )
    workers: PositiveInt | None = Field(default=None, description="instead of resources.workers")
    cpus_per_worker: PositiveInt | None = Field(
        default=None, description="instead of resources.cpus_per_worker"
    )
    gpus_per_worker: AutoGpus | None = Field(
        default=None, description="instead of resources.gpus_per_worker"
    )


class ResourcesSpec(Settings):
    """What one trial gets. Never part of a trial's identity."""

    workers: PositiveInt = Field(
        default=1, description="processes of one trial; more than one trains with DDP"
    )
    cpus_per_worker: PositiveInt = Field(
        default=1, description="cores, and threads of torch, of one process"
    )
    gpus_per_worker: AutoGpus = Field(
        default="auto",
        description="a fraction shares one GPU between trials; auto: one where the machines have "
        "any when the run starts, else none",
    )
    shapes: list[ShapeSpec] = Field(
        default=[],
        description="other workers for some models or tasks; of several that fit, the last decides",
    )
    max_lanes: PositiveInt | None = Field(
        default=None,
        description="trials at once, also of a cluster that has yet to grow; by default what the "
        "cluster holds",
    )
    lane_trials: PositiveInt = Field(
        default=500, description="trials after which a lane's processes are renewed"
    )
    max_attempts: PositiveInt = Field(
        default=3, description="failed attempts until a trial is quarantined"
    )
    hang_seconds: PositiveFloat = Field(
        default=1800,
        description="a trial that finishes no batch and no case for so long is ended and tried "
        "again",
    )

    @model_validator(mode="after")
    def _no_two_ranks_on_a_gpu(self) -> ResourcesSpec:
        """Whatever shapes meet in one trial; NCCL refuses two ranks on one GPU."""
        models = dict.fromkeys(["", *(name for one in self.shapes for name in one.models or ())])
        tasks = dict.fromkeys(["", *(name for one in self.shapes for name in one.tasks or ())])
        for model, task in itertools.product(models, tasks):
            found = self.shape(model, task)
            if found.workers > 1 and 0 < found.gpus_per_worker < 1:
                of = " of ".join(name for name in (model, task) if name)
                raise ValueError(
                    f"{found.workers} workers with gpus_per_worker "
                    f"{found.gpus_per_worker:g} each{of and f' ({of})'} would share a GPU, which "
                    "NCCL refuses: give gpus_per_worker 1, or workers 1"
                )
        return self

    def shape(self, model: str, task: str) -> WorkerResources:
        """The workers of one trial; where the machines are not known yet, auto counts as none."""
        shape = WorkerResources(self.workers, self.cpus_per_worker, self.known_gpus)
        for other in self.shapes:
            if model in (other.models or [model]) and task in (other.tasks or [task]):
                values = other.model_dump(exclude={"models", "tasks"}, exclude_none=True)
                if "gpus_per_worker" in values:
                    values["gpus_per_worker"] = _number(values["gpus_per_worker"])
                shape = replace(shape, **values)
        return shape

    @property
    def known_gpus(self) -> float:
        """The GPUs of a worker before its machines are known."""
        return _number(self.gpus_per_worker)

    @property
    def asks_for_auto(self) -> bool:
        """Whether any trial takes what there is."""
        return "auto" in (self.gpus_per_worker, *(shape.gpus_per_worker for shape in self.shapes))

    def with_gpus(self, there: bool) -> ResourcesSpec:
        """With what auto stands for.

        Args:
            there: whether the machines have GPUs.
        """
        gpus = 1.0 if there else 0.0
        shapes = [
            shape.model_copy(update={"gpus_per_worker": gpus})
            if shape.gpus_per_worker == "auto"
            else shape
            for shape in self.shapes
        ]
        own = gpus if self.gpus_per_worker == "auto" else self.gpus_per_worker
        return self.model_copy(update={"gpus_per_worker": own, "shapes": shapes})


def _number(gpus: float | str) -> float:
    return 0.0 if isinstance(gpus, str) else gpus
