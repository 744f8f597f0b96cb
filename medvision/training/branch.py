"""What a language-model block does to tokens and gradient, noted once an epoch.

Looked at in the last step of each epoch, by hooks that change nothing and draw no random numbers.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from medvision.models.language.bridge import LanguageBridge
from medvision.models.language.knock_outs import bridges
from medvision.training.ranks import Ranks
from medvision.training.state import Metrics

SHARE, BEFORE, AFTER, COHERENCE = (
    "block_share",
    "similarity_before",
    "similarity_after",
    "block_coherence",
)


class BranchWatch:
    """Measures the bridges of a model (`medvision.models.language`), means over all of them.

    `block_share`: the norm of what the block adds, as a share of the norm of the tokens with it.
    `similarity_before`, `similarity_after`: the mean cosine between two tokens of an image before
    the block's output is added and after; near 1 they have become one token. `block_coherence`: the
    mean cosine between two images' gradients of the first mapper's map, which have come through the
    block: 1 where all images ask for the same change, 0 where they have nothing in common, and not
    there where the step's last images are one.

    A model that is compiled is not looked at, because hooks would compile another one.
    """

    def __init__(self, model: nn.Module, *, compiled: bool = False) -> None:
        self._bridges = [] if compiled else list(bridges(model).values())
        self._seen: dict[str, list[torch.Tensor]] = {}

    @property
    def looks(self) -> bool:
        """Whether there is anything to be looked at."""
        return bool(self._bridges)

    @contextlib.contextmanager
    def looking(self, last: bool) -> Iterator[None]:
        """Around a step; `last`: of its epoch. Of a batch in parts, the last part is kept."""
        if not last or not self._bridges:
            yield
            return
        places = [_Place(bridge) for bridge in self._bridges]
        try:
            yield
        finally:
            for place in places:
                place.remove()
        self._seen = {}
        for place in places:
            for name, value in place.values.items():
                self._seen.setdefault(name, []).append(value)

    def metrics(self, ranks: Ranks) -> Metrics:
        """The means over bridges and ranks; all ranks ask together."""
        if not self._bridges:
            return {}
        mine = {name: float(torch.stack(values).mean()) for name, values in self._seen.items()}
        everyone = ranks.gather(mine)
        found: Metrics = {}
        for name in (SHARE, BEFORE, AFTER, COHERENCE):
            values = [one[name] for one in everyone if math.isfinite(one.get(name, math.nan))]
            if values:
                found[name] = sum(values) / len(values)
        return found


class _Place:
    """The hooks on one bridge while a step runs."""

    def __init__(self, bridge: LanguageBridge) -> None:
        self.values: dict[str, torch.Tensor] = {}
        self._handles = [
            bridge.block.register_forward_hook(self._at_block),
            bridge.mapper1.register_forward_hook(self._at_mapper),
        ]

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    @torch.no_grad()
    def _at_block(self, _: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        added = total = torch.zeros((), dtype=torch.float64, device=output.device)
        before, after = [], []
        # An image at a time: all of them in float32 would be as large as what the step keeps.
        for tokens, more in zip(inputs[0], output, strict=True):
            with_block = tokens.float() + more.float()
            added = added + more.float().square().sum()
            total = total + with_block.square().sum()
            before.append(mean_cosine(tokens))
            after.append(mean_cosine(with_block))
        self.values |= {
            SHARE: (added / total).sqrt(),
            BEFORE: torch.stack(before).mean(),
            AFTER: torch.stack(after).mean(),
        }

    def _at_mapper(self, _: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        if not output.requires_grad:
            return
        tokens = inputs[0].detach()

        @torch.no_grad()
        def at_gradient(gradient: torch.Tensor) -> None:
            # Of the map W in W x: the sum over an image's tokens of gradient times x.
            each = [
                (of.float().T @ x.float()).flatten() for of, x in zip(gradient, tokens, strict=True)
            ]
            self.values[COHERENCE] = mean_cosine(torch.stack(each))

        output.register_hook(at_gradient)


def mean_cosine(vectors: torch.Tensor) -> torch.Tensor:
    """The mean cosine between two of the vectors [N, C], over all pairs; NaN for one vector, or
    where one has no length.
    """
    unit = vectors.float() / vectors.float().norm(dim=1, keepdim=True)
    count = len(unit)
    if count < 2:
        return unit.new_tensor(math.nan)
    # The sum over all pairs is the square of the sum's length, without each one's own.
    return (unit.sum(dim=0).square().sum() - count) / (count * (count - 1))
