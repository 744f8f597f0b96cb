"""Rotation by cubic splines, against scipy's; the linear one stands beside `grid_sample` in
test_augment.py.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.utils._python_dispatch import TorchDispatchMode

from medvision.data import augment as augmenting
from medvision.data.augment import augment
from medvision.data.rotation import Rotation, rotated


@pytest.mark.parametrize("plane", ["xy", "yz"])
@pytest.mark.parametrize("degrees", [-5.0, 3.3, 40.0, 90.0])
def test_a_cubic_rotation_is_scipys(degrees: float, plane: str) -> None:
    volumes = np.random.default_rng(0).random((2, 1, 9, 12, 7))
    angles = torch.tensor([np.deg2rad(degrees), 0.0])
    found = rotated(torch.from_numpy(volumes), angles, border=False, order="cubic", plane=plane)
    axes = {"xy": (0, 1), "yz": (1, 2)}[plane]
    expected = ndimage.rotate(volumes[0, 0], degrees, axes=axes, reshape=False)
    inside = np.ones_like(expected, bool)
    if degrees == 90:  # on the very border, where rounding decides what is outside
        inside = (expected != 0) & (found[0, 0].numpy() != 0)
    np.testing.assert_allclose(found[0, 0].numpy()[inside], expected[inside], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found[1].numpy(), volumes[1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 2), (2, 2, 3)])
def test_thin_volumes_are_turned_by_nothing(shape: tuple[int, int, int]) -> None:
    volumes = torch.rand(1, 2, *shape, dtype=torch.float64)
    found = rotated(volumes, torch.zeros(1), border=False, order="cubic")
    torch.testing.assert_close(found, volumes)


class Largest(TorchDispatchMode):
    """The most numbers that any tensor made inside of it has."""

    numbers = 0

    def __torch_dispatch__(self, operation, types, values=(), named=None):
        made = operation(*values, **(named or {}))
        if isinstance(made, torch.Tensor):
            self.numbers = max(self.numbers, made.numel())
        return made


def test_a_cubic_rotation_makes_nothing_much_larger_than_the_volumes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the optional opt_einsum too, which decides the order of a product of three."""
    monkeypatch.setattr(torch.backends.opt_einsum, "enabled", False)
    volumes = torch.rand(1, 1, 20, 20, 3)
    with Largest() as largest:
        rotated(volumes, torch.tensor([0.1]), border=False, order="cubic")
    assert largest.numbers <= 16 * 20 * 20  # 16 rows for every row; the two filters: 160,000


@pytest.mark.parametrize("order", ["linear", "cubic"])
def test_image_and_mask_share_the_tables_of_a_rotation(
    order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each is as if it had been turned alone."""
    images = torch.rand(2, 3, 11, 7, 5)
    masks, angles = (images[:, :1] > 0.5).float(), list[torch.Tensor]()

    def made(given: torch.Tensor, like: torch.Tensor, order: str) -> Rotation:
        angles.append(given)
        return Rotation(given, like, order)

    monkeypatch.setattr(augmenting, "Rotation", made)
    changes = {"rotation_degrees": 40.0, "rotation": order, "intensity": 0.0}
    found = augment(images, masks, ["a", "b"], seed=0, epoch=0, **changes)
    assert len(angles) == 1
    turned = [
        rotated(volumes, angles[0], border=border, order=order)
        for volumes, border in ((images, True), (masks, False))
    ]
    assert torch.equal(found[0], turned[0])
    assert torch.equal(found[1], turned[1].ge(0.5).float())
