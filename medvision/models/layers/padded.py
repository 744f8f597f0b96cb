"""Networks that take only some sizes, for images of any size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from medvision.models.sizes import padded_size


class Padded(nn.Module):
    """A network on images padded with zeros at the end of each axis; its logits are cropped back.

    Args:
        network: images [B, C, X, Y, Z] to logits of the same size, or to a list of them of which
            the first counts.
        image_size: voxels (X, Y, Z) of the images that will come.
        multiples: the network's axes must be multiples of these.
        least: and at least this long, where an instance norm at the bottom needs more than one
            voxel.
        head: name of the network's last convolution, whose bias is the output's.
        checkpointed: names of the parts that gradient checkpointing computes twice.
        further_heads: last convolutions of deep supervision.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        image_size: Sequence[int],
        multiples: Sequence[int],
        least: int,
        head: str,
        checkpointed: Sequence[str],
        further_heads: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.network = network
        self.image_size = tuple(image_size)
        padded = padded_size(image_size, multiples, least)
        self._padding = [
            width
            for size, to in zip(reversed(image_size), reversed(padded), strict=True)
            for width in (0, to - size)
        ]
        self._heads = (head, *further_heads)
        self.checkpointed = tuple(f"network.{name}" for name in checkpointed)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits [B, out_channels, X, Y, Z] of images [B, in_channels, X, Y, Z]; in training with
        deep supervision those of all heads, [B, H, out_channels, X, Y, Z], the network's first.
        """
        logits = self.network(F.pad(image, self._padding))
        if isinstance(logits, list):
            logits = logits[0]
        x, y, z = self.image_size
        return logits[..., :x, :y, :z]

    def set_output_bias(self, logits: torch.Tensor) -> None:
        """Start output channel g at `logits[g]`, [out_channels]."""
        with torch.no_grad():
            for head in self._heads:
                self.network.get_submodule(head).bias.copy_(logits)
