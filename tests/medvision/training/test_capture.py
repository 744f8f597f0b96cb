"""A step waits for no number of the device: what a CUDA graph needs, seen in its operations on a
CPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from medvision.models import MODEL_LABELS, build_model
from medvision.training.losses import dice_bce
from tests.medvision.models.small import settings_of

aten = torch.ops.aten
# They give a number to Python, or a tensor whose shape depends on values: both wait for a GPU.
WAITING = {
    aten._local_scalar_dense,
    aten.nonzero,
    aten.masked_select,
    aten._unique2,
    aten.unique_dim,
    aten.equal,
    aten.is_nonzero,
}


LARGE = {"Swin-UNet", "UNETR", "UNet++"}  # half a minute together


class Operations(TorchDispatchMode):
    """Collects what is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        self.seen.append(func.overloadpacket)
        return func(*args, **(kwargs or {}))


def operations_of_a_step(model: torch.nn.Module, size: tuple[int, int, int]) -> list[Any]:
    images, masks = torch.rand(2, 1, *size), (torch.rand(2, 1, *size) > 0.5).float()
    model.train()
    with Operations() as operations:
        loss = dice_bce(model(images), masks).sum()
        loss.backward()
    return operations.seen


@pytest.mark.parametrize(
    "label",
    [
        pytest.param(label, marks=pytest.mark.slow) if label in LARGE else label
        for label in MODEL_LABELS
    ],
)
def test_a_step_can_be_captured(label: str, tiny_llama: Path) -> None:
    size = (32, 32, 32)
    model = build_model(
        label, image_size=size, patch_size=(8, 8, 8), **settings_of(label, tiny_llama)
    )
    seen = operations_of_a_step(model, size)
    assert len(seen) > 50
    assert not WAITING & set(seen)


def test_what_waits_is_seen() -> None:
    class Waits(torch.nn.Linear):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            found = super().forward(images)
            return found * float(found.detach().max())

    assert WAITING & set(operations_of_a_step(Waits(4, 4), (4, 4, 4)))
