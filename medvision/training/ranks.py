"""The processes that train one model together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Ranks:
    """This process among those that train one model; `world` above 1 needs torch.distributed to be
    initialised.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the ranks, in float64, without waiting for a GPU."""
        if self.world == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(total)
        return total.tolist()

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor summed over the ranks; it stays on the device, so that nothing waits for it."""
        if self.world > 1:
            distributed.all_reduce(tensor)
        return tensor

    def any(self, value: bool) -> bool:
        """Whether it is true on any rank; the same answer on all."""
        return self.sum([float(value)])[0] > 0

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, on all ranks."""
        everyone = [value] * self.world
        if self.world > 1:
            distributed.all_gather_object(everyone, value)
        return everyone

    def to_first(self, value: Any) -> list[Any]:
        """Every rank's value on rank 0, nothing on the others, which do not get what is large."""
        if self.world == 1:
            return [value]
        everyone = [None] * self.world if self.rank == 0 else None
        distributed.gather_object(value, everyone)
        return everyone or []


class Vote:
    """Whether something is true on any rank, asked again and again, the same answer on all. Alone,
    the answer is to this question; of several ranks it is to the one before, so that no step waits
    for the others' words.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self._asked: tuple[Any, torch.Tensor] | None = None

    def any(self, value: bool) -> bool:
        """The answer; all ranks ask together."""
        if self.ranks.world == 1:
            return value
        before = self._asked
        votes = torch.tensor([float(value)])
        self._asked = (distributed.all_reduce(votes, async_op=True), votes)
        if before is None:
            return False
        before[0].wait()
        return bool(before[1].item() > 0)


def same_on_all(saved: bytes | None, ranks: Ranks) -> bytes | None:
    """Every rank reads the checkpoint for itself, and an earlier attempt that still lives may write
    another one meanwhile.

    Raises:
        RuntimeError: the ranks would go on from different states.
    """
    if ranks.world > 1 and len(set(ranks.gather(saved and hashlib.sha256(saved).hexdigest()))) > 1:
        raise RuntimeError(
            "the ranks read different checkpoints: another attempt at this training was still "
            "writing"
        )
    return saved


def distributed_model(model: nn.Module) -> DistributedDataParallel:
    """The model for DDP, which would otherwise send the whole frozen block from rank 0 to the
    others when it starts.

    Every rank has read the same block by its fingerprint; what is trained inside it, and all
    outside, is still sent.
    """
    blocks = tuple(
        f"{name}." for name, module in model.named_modules() if hasattr(module, "fingerprint")
    )
    tensors = (*model.named_parameters(), *model.named_buffers())
    held = [
        name
        for name, tensor in tensors
        if blocks and name.startswith(blocks) and not tensor.requires_grad
    ]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, held)
    return DistributedDataParallel(model)
