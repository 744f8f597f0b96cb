"""UNETR and Swin UNETR from MONAI."""

from __future__ import annotations

from monai.networks.nets import UNETR, SwinUNETR
from torch import nn

from medvision.models.compared import SwinUNetSettings, UnetrSettings
from medvision.models.padded import Padded
from medvision.models.sizes import SWIN_LEAST, SWIN_MULTIPLE, UNETR_PATCH, padded_size

Size = tuple[int, int, int]


def unetr(
    settings: UnetrSettings,
    *,
    image_size: Size,
    patch_size: Size,
    in_channels: int,
    out_channels: int,
) -> nn.Module:
    """UNETR (Hatamizadeh et al. 2022, arXiv 2103.10504), with its own patches of 16 voxels whatever
    `patch_size` says.

    As in `medvision.models.vit`, attention runs through `scaled_dot_product_attention` and its
    dropout follows the projection. MONAI fixes the number of layers at 12.
    """
    del patch_size
    multiples = (UNETR_PATCH,) * 3
    network = UNETR(
        in_channels,
        out_channels,
        img_size=padded_size(image_size, multiples),
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
    names = [f"vit.blocks.{index}" for index in range(len(network.vit.blocks))]
    names += [f"encoder{index}" for index in (1, 2, 3, 4)] + [
        f"decoder{index}" for index in (2, 3, 4, 5)
    ]
    return Padded(
        network,
        image_size=image_size,
        multiples=multiples,
        least=1,
        head="out.conv.conv",
        checkpointed=names,
    )


def swin_unet(
    settings: SwinUNetSettings,
    *,
    image_size: Size,
    patch_size: Size,
    in_channels: int,
    out_channels: int,
) -> nn.Module:
    """Swin UNETR (arXiv 2201.01266), the 3D form in which Swin-UNet's idea is at hand; its own
    patches of 2 voxels.

    It halves an axis five times, so images are padded to multiples of 32 and to 64 at least: an
    instance norm over one voxel is not defined. Its attention over windows is MONAI's own, with a
    learned bias: MONAI has `scaled_dot_product_attention` for it without gradients only. No dropout
    is inside it; `dropout` is that of the projections.
    """
    del patch_size
    network = SwinUNETR(
        in_channels,
        out_channels,
        depths=settings.depths,
        window_size=settings.window,
        num_heads=settings.heads,
        feature_size=settings.feature_size,
        drop_rate=settings.dropout,
    )
    names = [f"swinViT.layers{stage}.0" for stage in (1, 2, 3, 4)]
    names += [f"encoder{index}" for index in (1, 2, 3, 4, 10)] + [
        f"decoder{index}" for index in (1, 2, 3, 4, 5)
    ]
    return Padded(
        network,
        image_size=image_size,
        multiples=(SWIN_MULTIPLE,) * 3,
        least=SWIN_LEAST,
        head="out.conv.conv",
        checkpointed=names,
    )
