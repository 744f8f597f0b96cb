"""Gradients of a whole batch by a CUDA graph: one launch in place of a step's thousands.

What Python does in a step is recorded once and repeated as it was, so a graph is used only after it
has given, bit by bit, what the step itself gives for a batch that it was not recorded with.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import nn

from medvision.training.ranks import Ranks
from medvision.training.settings import Training
from medvision.training.state import random_states, set_random_states

Results = tuple[torch.Tensor, torch.Tensor]  # logits and losses, whose backward has run
Work = Callable[[torch.Tensor, torch.Tensor], Results]  # of images and masks
Record = Callable[[Callable[[], Results]], tuple[Results, Callable[[], None]]]

WARM = 2  # runs on a stream of their own before a graph is recorded, as torch asks
_log = logging.getLogger(__name__)


def unfit(recipe: Training, ranks: Ranks, micro_batch: int | None) -> str | None:
    """Why the steps of a training are not recorded; None where they may be."""
    if ranks.device.type != "cuda":
        return "there is no GPU"
    if ranks.world > 1:
        return "several workers send their gradients while backward runs"
    if micro_batch is not None and micro_batch < recipe.batch_size:
        return "a batch is computed in parts"
    if recipe.compile:
        return "training.compile launches in its own way"
    if recipe.gradient_checkpointing:
        return "training.gradient_checkpointing looks at random states in the middle of a step"
    return None


def record_cuda(run: Callable[[], Results]) -> tuple[Results, Callable[[], None]]:
    """What `run` gives, in memory that stays, and what computes it again there."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = run()
    return results, graph.replay


class GraphedStep:
    """`work` of whole batches: the first as it is, the second to prove a graph that was recorded
    with the first, the others by that graph. Where it cannot be had, all as they are.

    Args:
        model: whose gradients are None before each call, and which `work` sets.
        work: to be recorded.
        device: where all of it lies.
        record: `record_cuda`, or a stand-in for it.
    """

    def __init__(
        self, model: nn.Module, work: Work, device: torch.device, record: Record = record_cuda
    ) -> None:
        self.model, self.work, self.device, self.record = model, work, device, record
        self.refused: str | None = None  # why there is no graph
        self._first: tuple[torch.Tensor, torch.Tensor] | None = None
        self._graph: _Graph | None = None

    @property
    def recorded(self) -> bool:
        """Whether batches are computed by a graph now."""
        return self._graph is not None

    def __call__(self, images: torch.Tensor, masks: torch.Tensor) -> Results:
        """Logits and losses, which the next call may overwrite, and the gradients."""
        if self._graph is not None:
            return self._graph(images, masks)
        if self.refused is not None:
            return self.work(images, masks)
        if self._first is None:
            self._first = images.clone(), masks.clone()
            return self.work(images, masks)
        return self._second(*self._first, images, masks)

    def _second(
        self,
        first_images: torch.Tensor,
        first_masks: torch.Tensor,
        images: torch.Tensor,
        masks: torch.Tensor,
    ) -> Results:
        random, buffers = random_states(self.device), [one.clone() for one in self.model.buffers()]

        def as_before() -> None:
            set_random_states(random, self.device)
            with torch.no_grad():
                for buffer, value in zip(self.model.buffers(), buffers, strict=True):
                    buffer.copy_(value)
            self.model.zero_grad(set_to_none=True)

        graph, replayed = None, list[torch.Tensor | None]()
        try:
            graph = _Graph(self.model, self.work, first_images, first_masks, self.record)
            as_before()
            replayed = self._facts(graph(images, masks))
        except (RuntimeError, NotImplementedError) as error:
            self.refused = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        as_before()
        results = self.work(images, masks)
        if self.refused is None and not _equal(replayed, self._facts(results)):
            self.refused = "its numbers are not those of the step itself"
        if self.refused is None:
            self._graph = graph
            _log.info("training.cuda_graphs: whole batches are computed by a graph from now on")
        else:
            _log.warning(
                "training.cuda_graphs: steps run as without it, with the same numbers: %s",
                self.refused,
            )
        self._first = None
        return results

    def _facts(self, results: Results) -> list[torch.Tensor | None]:
        """Everything that a step leaves."""
        gradients = [one.grad for one in self.model.parameters()]
        left = (*results, *gradients, *self.model.buffers(), *random_states(self.device))
        return [None if one is None else one.detach().clone() for one in left]


def _equal(some: list[torch.Tensor | None], others: list[torch.Tensor | None]) -> bool:
    if len(some) != len(others):
        return False
    return all(
        one is other is None or (one is not None and other is not None and torch.equal(one, other))
        for one, other in zip(some, others, strict=True)
    )


class _Graph:
    """A recorded step with the memory that it reads from and writes to."""

    def __init__(
        self,
        model: nn.Module,
        work: Work,
        images: torch.Tensor,
        masks: torch.Tensor,
        record: Record,
    ) -> None:
        self.images, self.masks = images, masks

        def run() -> Results:
            model.zero_grad(set_to_none=True)  # so that backward writes and does not add
            return work(self.images, self.masks)

        self.results, self.replay = record(run)
        self.gradients = [(one, one.grad) for one in model.parameters()]

    def __call__(self, images: torch.Tensor, masks: torch.Tensor) -> Results:
        self.images.copy_(images)
        self.masks.copy_(masks)
        self.replay()
        for parameter, gradient in self.gradients:
            parameter.grad = gradient
        return self.results
