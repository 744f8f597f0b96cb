"""A step waits for no number of the device: what a CUDA graph needs, seen on a device that has no
numbers (torch's `meta`), where asking for one, or for a shape that depends on one, is an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medvision.models import MODEL_LABELS, build_model
from medvision.models.registry import PAPER_SOURCES
from medvision.training.losses import cross_entropy, cut_counts, dice_bce, strong_loss
from tests.medvision.models.small import settings_of

META = torch.device("meta")


class Elsewhere(TorchDispatchMode):
    """Counts operations, and notes those with a tensor that does not lie on the device: a copy to
    or from it, which waits, or a random number that a graph would repeat.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count, self.found = 0, list[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        self.count += 1
        tensors = (one for one in tree_leaves((args, kwargs, result)) if torch.is_tensor(one))
        if any(one.device != META for one in tensors):
            self.found.append(str(func))
        return result


def operations_of_a_step(
    model: torch.nn.Module,
    size: tuple[int, int, int] = (32, 32, 32),
    loss: Callable[..., torch.Tensor] = dice_bce,
) -> Elsewhere:
    images, masks = torch.rand(2, 2, 1, *size, device=META)
    model.to(META).train()
    with Elsewhere() as operations:
        loss(model(images), masks).sum().backward()
    return operations


@pytest.mark.parametrize("label", MODEL_LABELS)
def test_a_step_can_be_captured(label: str, tiny_llama: Path) -> None:
    settings = settings_of(label, tiny_llama)
    # without a block nothing is read, and no weight need be drawn
    where = contextlib.nullcontext() if label in PAPER_SOURCES else META
    with where:
        model = build_model(label, image_size=(32,) * 3, patch_size=(8,) * 3, **settings)
    operations = operations_of_a_step(model)
    assert operations.count > 50
    assert not operations.found


@pytest.mark.parametrize(
    "loss",
    [
        dice_bce,
        cross_entropy,
        strong_loss,
        lambda logits, masks: strong_loss(logits, masks, output="sigmoid", whole_batch=False),
        lambda logits, masks: strong_loss(torch.stack([logits, logits], 1), masks),
        lambda logits, masks: cut_counts(logits, masks) + cross_entropy(logits, masks).sum(),
    ],
    ids=["usual", "entropy", "softmax", "sigmoid", "heads", "cut"],
)
def test_every_loss_can_be_captured(loss: Callable[..., torch.Tensor]) -> None:
    operations = operations_of_a_step(torch.nn.Conv3d(1, 1, 1), (4, 4, 4), loss)
    assert operations.count > 10
    assert not operations.found


class Waiting(torch.nn.Conv3d):
    """Its output by `how`."""

    def __init__(self, how: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__(1, 1, 1)
        self.how = how

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.how(super().forward(images))


@pytest.mark.parametrize(
    "how",
    [
        lambda found: found * float(found.detach().max()),
        lambda found: found[found > 0].sum() + found,
        lambda found: found + found.nonzero().sum(),
        lambda found: found if (found > 0).any() else -found,
    ],
    ids=["a number", "a mask", "places", "a branch"],
)
def test_what_waits_is_seen(how: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with pytest.raises((RuntimeError, NotImplementedError), match=r"(?i)meta"):
        operations_of_a_step(Waiting(how), (4, 4, 4))


@pytest.mark.parametrize(
    "how",
    [
        lambda found: found * torch.rand(()),
        lambda found: found + torch.arange(4).to(found.device),
    ],
    ids=["a random number of the CPU", "a table of the CPU"],
)
def test_what_comes_from_the_cpu_is_seen(how: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert operations_of_a_step(Waiting(how), (4, 4, 4)).found
