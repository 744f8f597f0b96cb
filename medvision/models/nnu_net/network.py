"""nnU-Net's network from MONAI."""

from __future__ import annotations

from monai.networks.nets import DynUNet
from torch import nn

from medvision.models.language.bottleneck import AtBottleneck, bridge_at
from medvision.models.layers.padded import Padded
from medvision.models.nnu_net.settings import NnUNetSettings, heads, multiples, strides
from medvision.models.sizes import Sizes


def nnu_net(settings: NnUNetSettings, sizes: Sizes) -> nn.Module:
    """nnU-Net's plain network (Isensee et al. 2021) on the whole image; patches play no role.

    Its levels follow nnU-Net's planning rule: an axis is halved until its features would be shorter
    than 4 voxels. Without nnU-Net's own training, because one recipe trains every model here
    (`recipe: strong` is close to it).
    """
    levels = strides(sizes.image, len(settings.features))
    network = DynUNet(
        3,
        sizes.in_channels,
        sizes.out_channels,
        kernel_size=[(3, 3, 3)] * len(levels),
        strides=levels,
        upsample_kernel_size=levels[1:],
        filters=settings.features[: len(levels)],
        deep_supervision=settings.deep_supervision,
        deep_supr_num=heads(levels),
    )
    further = range(heads(levels) if settings.deep_supervision else 0)
    if settings.llm:
        level = network.skip_layers
        while level.next_layer is not network.bottleneck:
            level = level.next_layer
        bridge = bridge_at(settings.coarsest(sizes), settings.llm, settings.mapper, settings.lora)
        network.bottleneck = level.next_layer = AtBottleneck(network.bottleneck, bridge)
    names = ["input_block", "bottleneck"]
    names += [
        f"{kind}.{index}"
        for kind in ("downsamples", "upsamples")
        for index in range(len(getattr(network, kind)))
    ]
    return Padded(
        network,
        image_size=sizes.image,
        multiples=multiples(levels),
        least=1,
        head="output_block.conv.conv",
        checkpointed=names,
        further_heads=[f"deep_supervision_heads.{index}.conv.conv" for index in further],
    )
