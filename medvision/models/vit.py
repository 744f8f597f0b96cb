"""The paper's 3D vision transformer, with or without a frozen language-model block (arXiv
2410.02458).

Attention runs through `scaled_dot_product_attention`. Dropout is applied after the attention's
projection, not inside the attention, because a dropout inside forces the slow path on CPU (11 times
slower at 2,048 tokens).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from medvision.models.bridge import LanguageBridge, open_block
from medvision.models.dropout import Dropout
from medvision.models.hybrid import LocalBranch, MultiScaleFusion
from medvision.models.matching import matched
from medvision.models.settings import LlmViTSettings, ViTSettings

Size = tuple[int, int, int]


class Mlp(nn.Sequential):
    """Linear, GELU, linear, each followed by dropout."""

    def __init__(self, dim: int, ratio: float, dropout: float) -> None:
        hidden = int(dim * ratio)
        super().__init__(
            nn.Linear(dim, hidden),
            nn.GELU(),
            Dropout(dropout),
            nn.Linear(hidden, dim),
            Dropout(dropout),
        )


class DeepMlp(nn.Sequential):
    """An MLP with two inner layers of one width, with dropout at its end."""

    def __init__(self, dim: int, width: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(dim, width),
            nn.GELU(),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, dim),
            Dropout(dropout),
        )


class Attention(nn.Module):
    """Multi-head self-attention over all tokens, [B, T, C] to [B, T, C]."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.projection = nn.Linear(dim, dim)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        batch, count, dim = tokens.shape
        query, key, value = (
            self.qkv(tokens)
            .view(batch, count, 3, self.heads, dim // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.dropout(self.projection(mixed.transpose(1, 2).reshape(batch, count, dim)))


class Block(nn.Module):
    """Pre-norm transformer block; given the tokens' grid, with a local branch beside the
    attention.
    """

    def __init__(
        self, dim: int, heads: int, mlp_ratio: float, dropout: float, *, local: Size | None = None
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, dropout)
        self.local = LocalBranch(dim, local, dropout) if local else None
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, mlp_ratio, dropout)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        normed = self.norm1(tokens)
        mixed = self.attention(normed)
        if self.local is not None:
            mixed = mixed + self.local(normed)
        tokens = tokens + mixed
        return tokens + self.mlp(self.norm2(tokens))


class VisionTransformer(nn.Module):
    """Patch embedding, positions, blocks, linear projection back to voxels.

    With a language-model block, `encoder-decoder` puts it between the first and the second half of
    the blocks (as the paper draws it), `after-embedding` straight after the patch embedding, before
    the positions (as the official code).
    """

    def __init__(
        self,
        settings: ViTSettings | LlmViTSettings,
        *,
        image_size: Size,
        patch_size: Size,
        in_channels: int,
        out_channels: int,
        opened: tuple[nn.Module, int] | None = None,
    ) -> None:
        super().__init__()
        if settings.params:
            settings = self._matched(settings, image_size, patch_size, in_channels, out_channels)
        dim = settings.embed_dim
        self.patch_size = tuple(patch_size)
        gx, gy, gz = (size // patch for size, patch in zip(image_size, patch_size, strict=True))
        self.grid = (gx, gy, gz)
        self.out_channels = out_channels
        self.embedding = nn.Conv3d(in_channels, dim, self.patch_size, stride=self.patch_size)
        self.positions = nn.Parameter(torch.zeros(1, math.prod(self.grid), dim))
        self.dropout = Dropout(settings.dropout)
        local = self.grid if settings.attention == "hybrid" else None
        self.blocks = nn.ModuleList(
            Block(dim, settings.heads, settings.mlp_ratio, settings.dropout, local=local)
            for _ in range(settings.depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.extra_mlp: nn.Module | None = None
        if settings.extra_width:
            self.extra_mlp = DeepMlp(dim, settings.extra_width, settings.dropout)
        elif settings.extra_mlp:
            self.extra_mlp = Mlp(dim, settings.mlp_ratio, settings.dropout)
        self.fusion = MultiScaleFusion(dim, self.grid) if settings.fusion else None
        self.head = nn.Linear(dim, math.prod(self.patch_size) * out_channels)
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.bridge: LanguageBridge | None = None
        self.bridge_at: int | None = (
            None  # number of blocks before the bridge; None: before the positions
        )
        if isinstance(settings, LlmViTSettings):
            self.bridge = LanguageBridge(dim, settings, opened)
            self.bridge_at = (
                settings.depth // 2 if settings.placement == "encoder-decoder" else None
            )
        parts = [f"blocks.{index}" for index in range(settings.depth)]
        self.checkpointed = tuple(parts if self.bridge is None else [*parts, "bridge"])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits [B, out_channels, X, Y, Z] of images [B, in_channels, X, Y, Z]."""
        tokens = self.embedding(image).flatten(2).transpose(1, 2)
        if self.bridge is not None and self.bridge_at is None:
            tokens = self.bridge(tokens)
        tokens = self.dropout(tokens + self.positions)
        for index, block in enumerate(self.blocks):
            if self.bridge is not None and self.bridge_at == index:
                tokens = self.bridge(tokens)
            tokens = block(tokens)
        tokens = self.norm(tokens)
        if self.extra_mlp is not None:
            tokens = tokens + self.extra_mlp(tokens)
        if self.fusion is not None:
            tokens = self.fusion(tokens)
        return self._to_voxels(self.head(tokens))

    def set_output_bias(self, logits: torch.Tensor) -> None:
        """Start every voxel of output channel g at `logits[g]`, [out_channels]."""
        with torch.no_grad():
            self.head.bias.copy_(logits.repeat_interleave(math.prod(self.patch_size)))

    @staticmethod
    def _matched(
        settings: ViTSettings,
        image_size: Size,
        patch_size: Size,
        in_channels: int,
        out_channels: int,
    ) -> ViTSettings:
        """The settings resized to the parameters of the model that `params` names, which is built
        without weights.
        """
        assert settings.params  # noqa: S101
        sizes: dict[str, Any] = {"image_size": image_size, "patch_size": patch_size}
        sizes |= {"in_channels": in_channels, "out_channels": out_channels}
        opened = open_block(
            settings.params.match.llm, empty=True
        )  # asks the checkpoint, which counting does not
        with torch.device("meta"):
            target = VisionTransformer(settings.params.match, opened=opened, **sizes)
        total = sum(parameter.numel() for parameter in target.parameters())
        return matched(settings, total, **sizes)

    def _to_voxels(self, patches: torch.Tensor) -> torch.Tensor:
        (gx, gy, gz), (px, py, pz) = self.grid, self.patch_size
        voxels = patches.view(-1, gx, gy, gz, self.out_channels, px, py, pz).permute(
            0, 4, 1, 5, 2, 6, 3, 7
        )
        return voxels.reshape(-1, self.out_channels, gx * px, gy * py, gz * pz)
