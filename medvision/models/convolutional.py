"""Convolutional networks that the paper compares with, from MONAI."""

from __future__ import annotations

import math

from monai.networks.nets import BasicUNetPlusPlus, DynUNet
from torch import nn

from medvision.models.compared import NnUNetSettings, UNetPlusPlusSettings
from medvision.models.padded import Padded
from medvision.models.sizes import UNET_PLUS_PLUS_LEAST, UNET_PLUS_PLUS_MULTIPLE, nnunet_strides

Size = tuple[int, int, int]


def unet_plus_plus(
    settings: UNetPlusPlusSettings,
    *,
    image_size: Size,
    patch_size: Size,
    in_channels: int,
    out_channels: int,
) -> nn.Module:
    """UNet++ (Zhou et al. 2018, arXiv 1807.10165) on images padded to multiples of 16; patches play
    no role.

    Only the last node's output is trained: the heads that deep supervision would need are left out.
    """
    del patch_size
    network = BasicUNetPlusPlus(3, in_channels, out_channels, features=settings.features)
    for node in (1, 2, 3):
        setattr(network, f"final_conv_0_{node}", nn.Identity())
    return Padded(
        network,
        image_size=image_size,
        multiples=(UNET_PLUS_PLUS_MULTIPLE,) * 3,
        least=UNET_PLUS_PLUS_LEAST,
        head="final_conv_0_4",
        checkpointed=[
            name for name, _ in network.named_children() if name.startswith(("conv_", "upcat_"))
        ],
    )


def nnu_net(
    settings: NnUNetSettings,
    *,
    image_size: Size,
    patch_size: Size,
    in_channels: int,
    out_channels: int,
) -> nn.Module:
    """nnU-Net's plain network (Isensee et al. 2021) on the whole image; patches play no role.

    Its levels follow nnU-Net's planning rule: an axis is halved until its features would be shorter
    than 4 voxels. Without deep supervision and without nnU-Net's own training, because one recipe
    trains every model here.
    """
    del patch_size
    strides = nnunet_strides(image_size, len(settings.features))
    network = DynUNet(
        3,
        in_channels,
        out_channels,
        kernel_size=[(3, 3, 3)] * len(strides),
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=settings.features[: len(strides)],
    )
    names = ["input_block", "bottleneck"]
    names += [
        f"{kind}.{index}"
        for kind in ("downsamples", "upsamples")
        for index in range(len(getattr(network, kind)))
    ]
    return Padded(
        network,
        image_size=image_size,
        multiples=[math.prod(stride[axis] for stride in strides) for axis in range(3)],
        least=1,
        head="output_block.conv.conv",
        checkpointed=names,
    )
