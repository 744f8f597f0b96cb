"""How logits become probabilities, and those a mask.

sigmoid: every label group by itself, so that groups may overlap. softmax: groups and background
share one voxel's probability; the background's logit is 0, which leaves out nothing that a channel
of its own could say.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from medvision.settings import Output


def with_background(logits: torch.Tensor) -> torch.Tensor:
    """Logits [B, 1 + G, ...] of logits [B, G, ...]: the background comes first."""
    return torch.cat([torch.zeros_like(logits[:, :1]), logits], 1)


def probabilities(logits: torch.Tensor, output: Output = "sigmoid") -> torch.Tensor:
    """Of each label group, float32 [B, G, ...]."""
    if output == "sigmoid":
        return logits.float().sigmoid()
    return with_background(logits.float()).softmax(1)[:, 1:]


def found_by(logits: torch.Tensor, output: Output = "sigmoid") -> torch.Tensor:
    """What is predicted, bool [B, G, ...]."""
    if output == "sigmoid":
        return logits > 0
    return (logits > 0) & (logits == logits.amax(1, keepdim=True))


def cut(groups: Iterable[torch.Tensor], output: Output = "sigmoid") -> torch.Tensor:
    """Masks, bool [G, ...], of each group's probability [...], of which one is held at a time.

    sigmoid: above one half. softmax: the group that is likelier than the others and than the
    background, which has the rest.
    """
    if output == "sigmoid":
        return torch.stack([group > 0.5 for group in groups])
    best = rest = winner = torch.zeros(())
    count = 0
    for count, group in enumerate(groups, start=1):
        if count == 1:
            best, rest = group, 1 - group
            winner = torch.ones(group.shape, dtype=torch.uint8, device=group.device)
            continue
        winner[group > best] = count
        best, rest = torch.maximum(best, group), rest - group
    winner[best <= rest] = 0
    return torch.stack([winner == index for index in range(1, count + 1)])
