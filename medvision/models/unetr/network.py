"""UNETR from MONAI."""

from __future__ import annotations

from monai.networks.nets import UNETR
from torch import nn

from medvision.models.language.bottleneck import bridge_at
from medvision.models.layers.padded import Padded
from medvision.models.sizes import Sizes
from medvision.models.unetr.settings import PATCH, UnetrSettings


def unetr(settings: UnetrSettings, sizes: Sizes) -> nn.Module:
    """UNETR (Hatamizadeh et al. 2022, arXiv 2103.10504), with its own patches of 16 voxels whatever
    `patch_size` says.

    As in `medvision.models.vit`, attention runs through `scaled_dot_product_attention` and its
    dropout follows the projection. MONAI fixes the number of layers at 12.
    """
    network = UNETR(
        sizes.in_channels,
        sizes.out_channels,
        img_size=sizes.padded(PATCH),
        feature_size=settings.feature_size,
        hidden_size=settings.embed_dim,
        mlp_dim=settings.mlp_dim,
        num_heads=settings.heads,
        dropout_rate=settings.dropout,
    )
    for block in network.vit.blocks:
        block.norm_cross_attn = (
            nn.Identity()
        )  # MONAI makes it without using it, which DistributedDataParallel refuses
        block.attn.use_flash_attention = True
        block.attn.dropout_rate = (
            0.0  # of the weights, which MONAI would drop in evaluation too; its output's stays
        )
    if settings.llm:  # over the tokens that the transformer gives, which the decoder begins with
        bridge = bridge_at(settings.coarsest(sizes), settings.llm, settings.mapper, settings.lora)
        network.vit.norm = nn.Sequential(network.vit.norm, bridge)
    names = [f"vit.blocks.{index}" for index in range(len(network.vit.blocks))]
    names += ["vit.norm"] if settings.llm else []
    names += [f"encoder{index}" for index in (1, 2, 3, 4)] + [
        f"decoder{index}" for index in (2, 3, 4, 5)
    ]
    return Padded(
        network,
        image_size=sizes.image,
        multiples=(PATCH,) * 3,
        least=1,
        head="out.conv.conv",
        checkpointed=names,
    )
