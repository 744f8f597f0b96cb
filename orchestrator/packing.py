"""Which trial a free place of the cluster gets next. Pure logic; the driver asks, Ray places.

The longest waiting trial goes first. One that does not fit keeps its turn, and nothing overtakes it for long, so that a
wide trial is not starved by narrow ones. A lane keeps its shape, though, while its own next trial is at least half
as long as the longest: a new group of workers costs about 15 seconds.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

KEEP_SHAPE = 0.5
T = TypeVar("T")


@dataclass(frozen=True, order=True)
class Shape:
    """What the workers of one trial hold."""

    workers: int = 1
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0.0

    @property
    def worker(self) -> dict[str, float]:
        """Resources of one worker, only those above 0."""
        return {kind: value for kind, value in (("CPU", self.cpus_per_worker), ("GPU", self.gpus_per_worker)) if value}

    def __str__(self) -> str:
        each = " and ".join(f"{value:g} {kind}" for kind, value in self.worker.items())
        return f"{self.workers} x ({each})" if self.workers > 1 else each


@dataclass(frozen=True)
class Waiting(Generic[T]):
    """A trial that waits: what it is, its shape, and how long it is expected to take."""

    item: T
    shape: Shape
    seconds: float


class Packer(Generic[T]):
    """The waiting trials by shape, the longest first."""

    def __init__(self, waiting: Iterable[Waiting[T]]) -> None:
        self._queues: dict[Shape, deque[Waiting[T]]] = {}
        self._sort(waiting)

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    @property
    def shapes(self) -> list[Shape]:
        """Shapes that still wait."""
        return [shape for shape, queue in self._queues.items() if queue]

    def take(
        self, running: Sequence[Shape], nodes: Sequence[Mapping[str, float]] | None, freed: Shape | None
    ) -> Waiting[T] | None:
        """Remove and give the trial to start now; None where it has to wait, or nothing does.

        Args:
            running: shapes of the trials that run. nodes: resources of every machine, None where anything may start and
                wait for machines. freed: shape of a lane without a trial.
        """
        heads = [self._queues[shape][0] for shape in self.shapes]
        if not heads:
            return None
        chosen = max(heads, key=lambda waiting: waiting.seconds)
        own = next((head for head in heads if head.shape == freed), None)
        if own is not None and own.seconds >= KEEP_SHAPE * chosen.seconds:
            chosen = own
        if nodes is not None and not fits([*running, chosen.shape], nodes):
            return None
        return self._queues[chosen.shape].popleft()

    def estimate_again(self, seconds: Callable[[T], float]) -> None:
        """Order the waiting trials by new estimates."""
        every = [waiting for queue in self._queues.values() for waiting in queue]
        self._sort(Waiting(waiting.item, waiting.shape, seconds(waiting.item)) for waiting in every)

    def _sort(self, waiting: Iterable[Waiting[T]]) -> None:
        self._queues = {}
        for entry in sorted(waiting, key=lambda entry: -entry.seconds):
            self._queues.setdefault(entry.shape, deque()).append(entry)


def fits(shapes: Sequence[Shape], nodes: Sequence[Mapping[str, float]]) -> bool:
    """Whether the machines can hold workers of all these shapes at once, the widest placed first."""
    room = [dict(node) for node in nodes]
    wanted = Counter(shapes)
    for shape in sorted(wanted, key=lambda shape: (shape.gpus_per_worker, shape.cpus_per_worker), reverse=True):
        left = wanted[shape] * shape.workers
        for node in room:
            holds = min(int(node.get(kind, 0) / value + 1e-6) for kind, value in shape.worker.items())
            placed = min(holds, left)
            for kind, value in shape.worker.items():
                node[kind] = node.get(kind, 0) - placed * value
            left -= placed
        if left:
            return False
    return True


def impossible(shapes: Iterable[Shape], nodes: Sequence[Mapping[str, float]]) -> str | None:
    """What is wrong with the first shape that these machines can never hold; None where they can hold each."""
    for shape in shapes:
        if not fits([shape], nodes):
            has = "; ".join(
                f"{count} with " + ", ".join(f"{value:g} {kind}" for kind, value in node)
                for node, count in Counter(tuple(node.items()) for node in nodes).items()
            )
            return f"one trial asks for {shape}, the cluster's machines hold: {has}"
    return None
