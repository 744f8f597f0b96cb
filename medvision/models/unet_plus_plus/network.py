"""UNet++ from MONAI."""

from __future__ import annotations

import torch
from monai.networks.nets import BasicUNetPlusPlus
from torch import nn

from medvision.models.language.bottleneck import AtBottleneck, bridge_at
from medvision.models.layers.padded import Padded
from medvision.models.sizes import Sizes
from medvision.models.unet_plus_plus.settings import LEAST, MULTIPLE, UNetPlusPlusSettings


class _UNetPlusPlus(BasicUNetPlusPlus):
    """MONAI's, whose outputs are in the order in which the losses count them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [B, G, X, Y, Z]; in training with deep supervision those of the four nodes, the
        last one first, [B, 4, G, X, Y, Z].
        """
        outputs = super().forward(x)
        if self.deep_supervision and self.training:
            return torch.stack(outputs[::-1], 1)
        return outputs[-1]


def unet_plus_plus(settings: UNetPlusPlusSettings, sizes: Sizes) -> nn.Module:
    """UNet++ (Zhou et al. 2018, arXiv 1807.10165) on images padded to multiples of 16; patches play
    no role.

    Without deep supervision only the last node's output is trained: the heads of the others are
    left out.
    """
    channels = (sizes.in_channels, sizes.out_channels)
    network = _UNetPlusPlus(
        3, *channels, features=settings.features, deep_supervision=settings.deep_supervision
    )
    earlier = [f"final_conv_0_{node}" for node in (3, 2, 1)]
    for name in () if settings.deep_supervision else earlier:
        setattr(network, name, nn.Identity())
    if settings.llm:
        bridge = bridge_at(settings.coarsest(sizes), settings.llm, settings.mapper, settings.lora)
        network.conv_4_0 = AtBottleneck(network.conv_4_0, bridge)
    return Padded(
        network,
        image_size=sizes.image,
        multiples=(MULTIPLE,) * 3,
        least=LEAST,
        head="final_conv_0_4",
        further_heads=earlier if settings.deep_supervision else (),
        checkpointed=[
            name for name, _ in network.named_children() if name.startswith(("conv_", "upcat_"))
        ],
    )
