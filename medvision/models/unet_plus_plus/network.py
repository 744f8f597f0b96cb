"""UNet++ from MONAI."""

from __future__ import annotations

from monai.networks.nets import BasicUNetPlusPlus
from torch import nn

from medvision.models.language.bottleneck import AtBottleneck, bridge_at
from medvision.models.layers.padded import Padded
from medvision.models.sizes import Sizes
from medvision.models.unet_plus_plus.settings import LEAST, MULTIPLE, UNetPlusPlusSettings


def unet_plus_plus(settings: UNetPlusPlusSettings, sizes: Sizes) -> nn.Module:
    """UNet++ (Zhou et al. 2018, arXiv 1807.10165) on images padded to multiples of 16; patches play
    no role.

    Only the last node's output is trained: the heads that deep supervision would need are left out.
    """
    network = BasicUNetPlusPlus(
        3, sizes.in_channels, sizes.out_channels, features=settings.features
    )
    for node in (1, 2, 3):
        setattr(network, f"final_conv_0_{node}", nn.Identity())
    if settings.llm:
        bridge = bridge_at(settings.coarsest(sizes), settings.llm, settings.mapper, settings.lora)
        network.conv_4_0 = AtBottleneck(network.conv_4_0, bridge)
    return Padded(
        network,
        image_size=sizes.image,
        multiples=(MULTIPLE,) * 3,
        least=LEAST,
        head="final_conv_0_4",
        checkpointed=[
            name for name, _ in network.named_children() if name.startswith(("conv_", "upcat_"))
        ],
    )
