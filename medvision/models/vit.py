"""The paper's 3D vision transformer, with or without a frozen language-model block (arXiv 2410.02458).

Attention runs through `scaled_dot_product_attention`. Dropout is applied after the attention's projection, not inside
the attention, because a dropout inside forces the slow path on CPU (11 times slower at 2,048 tokens).
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from medvision.models.dropout import Dropout
from medvision.models.mappers import make_mapper
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
        query, key, value = self.qkv(tokens).view(batch, count, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.dropout(self.projection(mixed.transpose(1, 2).reshape(batch, count, dim)))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, dropout)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, mlp_ratio, dropout)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class LanguageBridge(nn.Module):
    """Mapper, frozen language-model block with a residual around it, mapper: [B, T, C] to [B, T, C].

    The block's width comes from its checkpoint. Its weights take no gradient, but gradients pass through it to the
    first mapper. It always runs in evaluation mode, and its weights are no part of the state dict: they are read from the
    checkpoint whenever the model is built.
    """

    def __init__(self, dim: int, settings: LlmViTSettings) -> None:
        super().__init__()
        from medvision.llm import load_block

        llm = settings.llm
        block = load_block(llm.source, llm.layer, rope=llm.rope, causal=llm.causal, final_norm=llm.final_norm)
        self.mapper1 = make_mapper(dim, block.hidden_size, settings)
        self.block = block
        self.mapper2 = make_mapper(block.hidden_size, dim, settings)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.mapper1(tokens)
        return self.mapper2(hidden + self.block(hidden))


class VisionTransformer(nn.Module):
    """Patch embedding, positions, blocks, linear projection back to voxels.

    With a language-model block, `encoder-decoder` puts it between the first and the second half of the blocks (as the
    paper draws it), `after-embedding` straight after the patch embedding, before the positions (as the official code).

    Raises:
        ValueError: `image_size` is no multiple of `patch_size`.
    """

    def __init__(
        self,
        settings: ViTSettings | LlmViTSettings,
        *,
        image_size: Size,
        patch_size: Size,
        in_channels: int,
        out_channels: int,
    ) -> None:
        super().__init__()
        if any(size % patch for size, patch in zip(image_size, patch_size, strict=True)):
            raise ValueError(f"image_size {tuple(image_size)} must be a multiple of patch_size {tuple(patch_size)}")
        dim = settings.embed_dim
        self.patch_size = tuple(patch_size)
        self.grid = tuple(size // patch for size, patch in zip(image_size, patch_size, strict=True))
        self.out_channels = out_channels
        self.embedding = nn.Conv3d(in_channels, dim, self.patch_size, stride=self.patch_size)
        self.positions = nn.Parameter(torch.zeros(1, math.prod(self.grid), dim))
        self.dropout = Dropout(settings.dropout)
        self.blocks = nn.ModuleList(
            Block(dim, settings.heads, settings.mlp_ratio, settings.dropout) for _ in range(settings.depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.extra_mlp = Mlp(dim, settings.mlp_ratio, settings.dropout) if settings.extra_mlp else None
        self.head = nn.Linear(dim, math.prod(self.patch_size) * out_channels)
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.bridge: LanguageBridge | None = None
        self.bridge_at: int | None = None  # number of blocks before the bridge; None: before the positions
        if isinstance(settings, LlmViTSettings):
            self.bridge = LanguageBridge(dim, settings)
            self.bridge_at = settings.depth // 2 if settings.placement == "encoder-decoder" else None

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
        return self._to_voxels(self.head(tokens))

    def set_output_bias(self, logits: torch.Tensor) -> None:
        """Start every voxel of output channel g at `logits[g]`, [out_channels]."""
        with torch.no_grad():
            self.head.bias.copy_(logits.repeat_interleave(math.prod(self.patch_size)))

    def _to_voxels(self, patches: torch.Tensor) -> torch.Tensor:
        (gx, gy, gz), (px, py, pz) = self.grid, self.patch_size
        voxels = patches.view(-1, gx, gy, gz, self.out_channels, px, py, pz).permute(0, 4, 1, 5, 2, 6, 3, 7)
        return voxels.reshape(-1, self.out_channels, gx * px, gy * py, gz * pz)
