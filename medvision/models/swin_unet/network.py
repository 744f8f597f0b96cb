"""Swin UNETR from MONAI."""

from __future__ import annotations

import torch
from monai.networks.nets import SwinUNETR
from torch import nn

from medvision.models.language.bottleneck import AtBottleneck, bridge_at
from medvision.models.layers.padded import Padded
from medvision.models.sizes import Sizes
from medvision.models.swin_unet.settings import LEAST, MULTIPLE, SwinUNetSettings


def swin_unet(settings: SwinUNetSettings, sizes: Sizes) -> nn.Module:
    """Swin UNETR (arXiv 2201.01266), the 3D form in which Swin-UNet's idea is at hand; its own
    patches of 2 voxels.

    It halves an axis five times, so images are padded to multiples of 32 and to 64 at least: an
    instance norm over one voxel is not defined. Its attention over windows is MONAI's own, with a
    learned bias: MONAI has `scaled_dot_product_attention` for it without gradients only. No dropout
    is inside it; `dropout` is that of the projections.
    """
    with torch.device("cpu"):  # MONAI asks a tensor for its values, which the meta device has not
        network = SwinUNETR(
            sizes.in_channels,
            sizes.out_channels,
            depths=settings.depths,
            window_size=settings.window,
            num_heads=settings.heads,
            feature_size=settings.feature_size,
            drop_rate=settings.dropout,
        )
    if settings.llm:
        bridge = bridge_at(settings.coarsest(sizes), settings.llm, settings.mapper, settings.lora)
        network.encoder10 = AtBottleneck(network.encoder10, bridge)
    names = [f"swinViT.layers{stage}.0" for stage in (1, 2, 3, 4)]
    names += [f"encoder{index}" for index in (1, 2, 3, 4, 10)] + [
        f"decoder{index}" for index in (1, 2, 3, 4, 5)
    ]
    return Padded(
        network,
        image_size=sizes.image,
        multiples=(MULTIPLE,) * 3,
        least=LEAST,
        head="out.conv.conv",
        checkpointed=names,
    )
