"""Cases on their way to the device: they stay there where they fit, and otherwise go through host
memory that is used again and again, pinned for a GPU.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from medvision.data.patches import cut_into
from medvision.data.views.base import PreprocessedCase
from medvision.training.batches import Draw

_log = logging.getLogger(__name__)
RESERVE = 0.1  # of what this process may take of a GPU: what later steps may want more


def room(*, free: int, total: int, share: float, held: int) -> int:
    """Bytes of a GPU that cases may take.

    Args:
        free: of the GPU now, whoever has the rest.
        total: of the GPU.
        share: of the total that this process may take, above 0 and at most 1.
        held: by this process, for the largest step so far.
    """
    mine = int(total * share)
    return max(0, min(free, mine - held) - int(mine * RESERVE))


def room_on(device: torch.device) -> int:
    """`room` as it is now: nothing on a CPU, where all processes share a case's file."""
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    share = torch.cuda.get_per_process_memory_fraction(device)
    held = torch.cuda.memory_reserved(device)
    return room(free=free, total=total, share=share, held=held)


class Feed:
    """Batches of the cases on the device: of its own copies of those that it keeps there, of the
    others through two buffers in turn. The numbers are the same.
    """

    def __init__(self, cases: Mapping[str, PreprocessedCase], device: torch.device) -> None:
        self.cases, self.device = cases, device
        self._kept: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self._buffers = (_Buffer(device), _Buffer(device))
        self._full = False  # it was tried

    def keep(self, ids: Sequence[str], room: int) -> bool:
        """Keep these cases on the device, as they are stored, if they take no more bytes than
        `room`; whether they are there.
        """
        wanted = [name for name in dict.fromkeys(ids) if name not in self._kept]
        arrays = [(self.cases[name].image, self.cases[name].masks) for name in wanted]
        if sum(image.nbytes + masks.nbytes for image, masks in arrays) > room:
            return False
        if self._full:
            return False
        try:
            for name, pair in zip(wanted, arrays, strict=True):
                image, masks = (torch.tensor(array).to(self.device) for array in pair)
                self._kept[name] = image, masks
        except torch.OutOfMemoryError:  # others on this GPU were faster, or it is in pieces
            self._kept.clear()
            self._full = True
            _log.warning("cases do not stay on %s: there is no room after all", self.device)
            return False
        return True

    def batch(self, draws: Sequence[Draw]) -> tuple[torch.Tensor, torch.Tensor]:
        """Images [B, C, *size] and masks [B, G, *size] of the draws on the device, as float32."""
        if all(draw.case in self._kept for draw in draws):
            pairs = [(self._kept[name], self.cases[name].seen(seed)) for name, seed in draws]
            both = [_stacked([(pair[kind], place) for pair, place in pairs]) for kind in (0, 1)]
            return both[0].float(), both[1].float()
        self._buffers = self._buffers[::-1]  # the other one's copy may still be on its way
        return self._buffers[0].sent([(self.cases[name], seed) for name, seed in draws])


Place = tuple[tuple[int, ...], tuple[int, ...]] | None  # first voxel and size of a patch


def _stacked(shown: Sequence[tuple[torch.Tensor, Place]]) -> torch.Tensor:
    first, place = shown[0]
    if place is None:
        return torch.stack([array for array, _ in shown])
    stacked = first.new_empty((len(shown), len(first), *place[1]))
    for row, (array, own) in zip(stacked, shown, strict=True):
        assert own is not None  # noqa: S101  # a view shows patches of all cases or of none
        cut_into(row, array, own[0])
    return stacked


class _Buffer:
    """Host memory for a batch, which is filled again once its last batch has left it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._held: dict[str, torch.Tensor] = {}
        self._left: Any = None  # torch.cuda.Event

    def sent(
        self, shown: Sequence[tuple[PreprocessedCase, int]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self._left is not None:
            self._left.synchronize()
        places = [case.seen(seed) for case, seed in shown]
        images = self._filled("images", [case.image for case, _ in shown], places)
        masks = self._filled("masks", [case.masks for case, _ in shown], places)
        if self.device.type != "cuda":
            # a copy, also of what is float32 already: the buffer's next batch is another one
            return images.to(torch.float32, copy=True), masks.to(torch.float32, copy=True)
        both = [held.to(self.device, non_blocking=True) for held in (images, masks)]
        self._left = torch.cuda.Event()
        self._left.record()
        return both[0].float(), both[1].float()

    def _filled(
        self, kind: str, arrays: Sequence[np.ndarray], places: Sequence[Place]
    ) -> torch.Tensor:
        first, place = arrays[0], places[0]
        size = first.shape[1:] if place is None else place[1]
        dtype = torch.from_numpy(np.empty(0, first.dtype)).dtype
        held = self._held.get(kind)
        shape = (len(arrays), len(first), *size)
        if (
            held is None
            or (held.dtype, held.shape[1:]) != (dtype, shape[1:])
            or len(held) < len(arrays)
        ):
            pinned = self.device.type == "cuda"
            held = self._held[kind] = torch.empty(shape, dtype=dtype, pin_memory=pinned)
        for row, array, own in zip(held.numpy(), arrays, places, strict=False):
            if own is None:
                row[...] = array
            else:
                cut_into(row, array, own[0])
        return held[: len(arrays)]
