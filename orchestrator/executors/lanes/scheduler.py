"""Which trial a free place of the cluster gets next. Pure logic; the driver asks, Ray places.

The longest waiting trial goes first. One that does not fit keeps its turn, and nothing overtakes it
for long, so that a wide trial is not starved by narrow ones; only one that no machine can hold (any
more) is passed over. A lane keeps its shape, though, while its own next trial is at least half as
long as the longest: a new group of workers costs about 15 seconds.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from orchestrator.spec.resources import WorkerResources

KEEP_SHAPE = 0.5
_ROUNDING = 1e-6
T = TypeVar("T")


@dataclass(frozen=True)
class Waiting(Generic[T]):
    """A trial that waits: what it is, its shape, and how long it is expected to take."""

    item: T
    shape: WorkerResources
    seconds: float


class Scheduler(Generic[T]):
    """The waiting trials by shape, the longest first."""

    def __init__(self, waiting: Iterable[Waiting[T]]) -> None:
        self._queues: dict[WorkerResources, deque[Waiting[T]]] = {}
        self._sort(waiting)

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    @property
    def shapes(self) -> list[WorkerResources]:
        """Shapes that still wait."""
        return [shape for shape, queue in self._queues.items() if queue]

    def take(
        self,
        running: Sequence[Waiting[T]],
        nodes: Sequence[Mapping[str, float]] | None,
        freed: WorkerResources | None,
        placeless: Collection[WorkerResources] = (),
    ) -> Waiting[T] | None:
        """Remove and give the trial to start now; None where it has to wait, or nothing does.

        Args:
            running: the trials that run.
            nodes: resources of every machine, None where anything may start and wait for machines.
            freed: shape of a lane without a trial.
            placeless: shapes of trials that were given out long ago and still wait for a place:
                others leave it to them.
        """
        heads = [
            queue[0] for queue in self._queues.values() if queue and can_hold(nodes, queue[0].shape)
        ]
        if not heads:
            return None
        chosen = max(heads, key=lambda waiting: waiting.seconds)
        own = next((head for head in heads if head.shape == freed), None)
        if own is not None and own.seconds >= KEEP_SHAPE * chosen.seconds:
            chosen = own
        if nodes is not None:
            held = [waiting.shape for waiting in running if can_hold(nodes, waiting.shape)]
            patient = any(shape != chosen.shape and can_hold(nodes, shape) for shape in placeless)
            if patient or not fits([*held, chosen.shape], nodes):
                return None
        return self._queues[chosen.shape].popleft()

    def estimate_again(self, seconds: Callable[[T], float]) -> None:
        """Order the waiting trials by new estimates."""
        every = [waiting for queue in self._queues.values() for waiting in queue]
        self._sort(replace(waiting, seconds=seconds(waiting.item)) for waiting in every)

    def _sort(self, waiting: Iterable[Waiting[T]]) -> None:
        self._queues = {}
        for entry in sorted(waiting, key=lambda entry: -entry.seconds):
            self._queues.setdefault(entry.shape, deque()).append(entry)


class _Room:
    """What is left of a machine."""

    def __init__(self, node: Mapping[str, float]) -> None:
        self.cpus, self.gpus = node.get("CPU", 0.0), [1.0] * int(node.get("GPU", 0))

    def place(self, shape: WorkerResources, workers: int) -> int:
        """Place as many of these workers as it holds; how many. A share of a GPU lies on one GPU,
        whole ones are free ones.
        """
        workers = min(workers, int(self.cpus / shape.cpus_per_worker + _ROUNDING))
        needed, placed = shape.gpus_per_worker, 0
        if not needed:
            placed = workers
        elif needed >= 1:
            free = [number for number, left in enumerate(self.gpus) if left == 1]
            placed = min(workers, len(free) // int(needed))
            for number in free[: placed * int(needed)]:
                self.gpus[number] = 0.0
        else:
            for number in sorted(range(len(self.gpus)), key=lambda number: self.gpus[number]):
                here = min(workers - placed, int(self.gpus[number] / needed + _ROUNDING))
                self.gpus[number] -= here * needed
                placed += here
        self.cpus -= placed * shape.cpus_per_worker
        return placed


def fits(shapes: Sequence[WorkerResources], nodes: Sequence[Mapping[str, float]]) -> bool:
    """Whether the machines can hold workers of all these shapes at once, the widest placed
    first.
    """
    rooms, wanted = [_Room(node) for node in nodes], Counter(shapes)
    for shape in sorted(
        wanted, key=lambda shape: (shape.gpus_per_worker, shape.cpus_per_worker), reverse=True
    ):
        left = wanted[shape] * shape.workers
        for room in rooms:
            left -= room.place(shape, left)
        if left:
            return False
    return True


def can_hold(nodes: Sequence[Mapping[str, float]] | None, shape: WorkerResources) -> bool:
    """Whether the machines could hold one such trial, if they were empty; None is of machines that
    may still come.
    """
    return nodes is None or fits([shape], nodes)


def capacity(shape: WorkerResources, node: Mapping[str, float]) -> int:
    """How many workers of this shape, at most those of one trial, an empty machine holds."""
    return _Room(node).place(shape, shape.workers)


def impossible(
    shapes: Iterable[WorkerResources], nodes: Sequence[Mapping[str, float]]
) -> str | None:
    """What is wrong with the first shape that these machines can never hold; None where they can
    hold each.
    """
    for shape in shapes:
        if not fits([shape], nodes):
            has = "; ".join(
                f"{count} with " + ", ".join(f"{value:g} {kind}" for kind, value in node)
                for node, count in Counter(tuple(node.items()) for node in nodes).items()
            )
            return f"one trial asks for {shape}, the cluster's machines hold: {has}"
    return None
