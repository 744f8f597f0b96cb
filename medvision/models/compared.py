"""Settings of the networks that the paper compares with; sizes default to those of their own
papers. Imports no torch.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from medvision.models.registry import NetworkSettings
from medvision.settings import Since


class UNetPlusPlusSettings(NetworkSettings):
    """UNet++ (Zhou et al. 2018), MONAI's BasicUNetPlusPlus without deep supervision."""

    network = "medvision.models.convolutional:unet_plus_plus"
    label: Literal["UNet++"]
    features: Annotated[tuple[PositiveInt, ...], Field(min_length=6, max_length=6)] = Field(
        default=(32, 32, 64, 128, 256, 32),
        description="channels of the five levels, then of the last node",
    )


class NnUNetSettings(NetworkSettings):
    """nnU-Net's network (Isensee et al. 2021), MONAI's DynUNet planned by nnU-Net's rule; one
    recipe for all models here.
    """

    network = "medvision.models.convolutional:nnu_net"
    label: Literal["nnU-Net"]
    features: Annotated[tuple[PositiveInt, ...], Field(min_length=3)] = Field(
        default=(32, 64, 128, 256, 320, 320),
        description="channels of the levels; small images use the first ones",
    )


class UnetrSettings(NetworkSettings):
    """UNETR (Hatamizadeh et al. 2022), MONAI's, with its own patches of 16 voxels; MONAI fixes the
    depth at 12 layers.
    """

    network = "medvision.models.unetr:unetr"
    label: Literal["UNETR"]
    feature_size: PositiveInt = Field(
        default=16, description="channels of the first convolutional level"
    )
    embed_dim: PositiveInt = Field(default=768, description="width of a token")
    mlp_dim: PositiveInt = Field(default=3072, description="hidden width of a layer's MLP")
    heads: PositiveInt = Field(
        default=12, description="attention heads of a layer; they divide embed_dim"
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="after the attention and in the MLPs"
    )

    @model_validator(mode="after")
    def _divisible(self) -> UnetrSettings:
        if self.embed_dim % self.heads:
            raise ValueError(f"embed_dim {self.embed_dim} must be a multiple of heads {self.heads}")
        return self


class SwinUNetSettings(NetworkSettings):
    """Swin-UNet in 3D as Swin UNETR (Hatamizadeh et al. 2022, arXiv 2201.01266), MONAI's; Swin-UNet
    itself is 2D.
    """

    network = "medvision.models.unetr:swin_unet"
    label: Literal["Swin-UNet"]
    feature_size: PositiveInt = Field(
        default=48, multiple_of=12, description="width of the first stage"
    )
    depths: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = Field(
        default=(2, 2, 2, 2), description="blocks of the four stages"
    )
    heads: Annotated[
        tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt],
        Since("0.1", before=(3, 6, 12, 24)),
    ] = Field(
        default=(3, 6, 12, 24),
        description="heads of the four stages, whose widths are 1, 2, 4 and 8 times feature_size",
    )
    window: PositiveInt = Field(
        default=7, description="edge of the windows of attention, in tokens"
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="after the attention and in the MLPs"
    )

    @model_validator(mode="after")
    def _divisible(self) -> SwinUNetSettings:
        widths = [self.feature_size * 2**stage for stage in range(4)]
        if any(width % heads for width, heads in zip(widths, self.heads, strict=True)):
            raise ValueError(
                f"the stages' widths {widths} must be multiples of their heads {list(self.heads)}"
            )
        return self


class TransUNetSettings(NetworkSettings):
    """A 3D adaptation of TransUNet (Chen et al. 2021, arXiv 2102.04306), which is 2D."""

    network = "medvision.models.transunet:trans_unet"
    label: Literal["TransUNet"]
    features: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = Field(
        default=(32, 64, 128, 256),
        description="channels at 1/2, 1/4, 1/8 and 1/16 of the image, multiples of 8",
    )
    embed_dim: PositiveInt = Field(default=768, description="width of a token")
    depth: PositiveInt = Field(default=12, description="transformer blocks")
    heads: PositiveInt = Field(
        default=12, description="attention heads of a block; they divide embed_dim"
    )
    mlp_ratio: float = Field(
        default=4.0, gt=0, description="hidden width of a block's MLP in multiples of embed_dim"
    )
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="after the attention and in the MLPs"
    )

    @model_validator(mode="after")
    def _divisible(self) -> TransUNetSettings:
        if self.embed_dim % self.heads:
            raise ValueError(f"embed_dim {self.embed_dim} must be a multiple of heads {self.heads}")
        if any(feature % 8 for feature in self.features):
            raise ValueError(
                f"features {list(self.features)} must be multiples of 8, the groups of its norms"
            )
        return self


class MissFormerSettings(NetworkSettings):
    """A 3D adaptation of MISSFormer (Huang et al. 2021, arXiv 2109.07162), which is 2D."""

    network = "medvision.models.missformer:miss_former"
    label: Literal["MissFormer"]
    base_dim: int = Field(default=64, ge=2, description="width of one head and of the bridge")
    # The ids of the first results left out such heads whatever the network, so they still do.
    heads: Annotated[
        tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt],
        Since("0.1", before=(3, 6, 12, 24)),
    ] = Field(
        default=(1, 2, 5, 8),
        description="heads of the four stages; a stage is base_dim times as wide",
    )
    depth: PositiveInt = Field(default=2, description="blocks of every stage")
    bridge_depth: PositiveInt = Field(
        default=4, description="layers of the context bridge between the scales"
    )
    mlp_ratio: float = Field(
        default=4.0, gt=0, description="hidden width of an MLP in multiples of its stage's width"
    )
