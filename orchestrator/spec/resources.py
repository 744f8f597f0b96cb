"""The part of a spec that says what a trial gets to compute with; never part of a trial's
identity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt

from medvision.settings import Settings


def _share_or_whole(gpus: float) -> float:
    if gpus > 1 and gpus != int(gpus):
        raise ValueError("a worker gets a share of one GPU, below 1, or whole ones")
    return gpus


Gpus = Annotated[float, Field(ge=0), AfterValidator(_share_or_whole)]


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
    gpus_per_worker: Gpus | None = Field(
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
    gpus_per_worker: Gpus = Field(
        default=0.0, description="a fraction shares one GPU between trials"
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

    def shape(self, model: str, task: str) -> WorkerResources:
        """The workers of one trial."""
        shape = WorkerResources(self.workers, self.cpus_per_worker, self.gpus_per_worker)
        for other in self.shapes:
            if model in (other.models or [model]) and task in (other.tasks or [task]):
                values = other.model_dump(exclude={"models", "tasks"}, exclude_none=True)
                shape = replace(shape, **values)
        return shape
