"""The transformer block of the vision transformers.

Attention runs through `scaled_dot_product_attention`. Dropout is applied after the attention's
projection, unless it is wanted inside the attention, which forces the slow path on CPU (11 times
slower at 2,048 tokens).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from medvision.models.layers.dropout import Dropout
from medvision.models.sizes import Size


class Mlp(nn.Sequential):
    """Linear, GELU, linear, each layer followed by dropout; with `inside`, only the second."""

    def __init__(self, dim: int, ratio: float, dropout: float, *, inside: bool = False) -> None:
        hidden = int(dim * ratio)
        super().__init__(
            nn.Linear(dim, hidden),
            nn.GELU(),
            Dropout(0.0 if inside else dropout),
            nn.Linear(hidden, dim),
            Dropout(dropout),
        )


class Attention(nn.Module):
    """Multi-head self-attention over all tokens, [B, T, C] to [B, T, C].

    Args:
        inside: dropout falls on the attention's weights, not on its output.
        xavier: initial weights as torch's MultiheadAttention has them: Xavier uniform over queries,
            keys and values together (Glorot and Bengio 2010), all biases zero.
    """

    def __init__(
        self, dim: int, heads: int, dropout: float, *, inside: bool = False, xavier: bool = False
    ) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.projection = nn.Linear(dim, dim)
        self.dropout = Dropout(0.0 if inside else dropout)
        self.inside = dropout if inside else 0.0
        if xavier:
            nn.init.xavier_uniform_(self.qkv.weight)
            nn.init.zeros_(self.qkv.bias)
            nn.init.zeros_(self.projection.bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        batch, count, dim = tokens.shape
        query, key, value = (
            self.qkv(tokens)
            .view(batch, count, 3, self.heads, dim // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        mixed = F.scaled_dot_product_attention(
            query, key, value, dropout_p=self.inside if self.training else 0.0
        )
        return self.dropout(self.projection(mixed.transpose(1, 2).reshape(batch, count, dim)))


class LocalBranch(nn.Module):
    """What neighbouring tokens say, [B, T, C] to [B, T, C]: a depthwise 3x3x3 convolution, GELU,
    and a linear map.

    Added to the attention over all tokens, it makes the attention hybrid, as the paper's first
    version has it (arXiv 2410.02458v1). That version describes it in words and has no code, so this
    is our reading of it, written small.
    """

    def __init__(self, dim: int, grid: Size, dropout: float) -> None:
        super().__init__()
        self.grid = grid
        self.neighbours = nn.Conv3d(dim, dim, 3, padding=1, groups=dim)
        self.activation = nn.GELU()
        self.projection = nn.Linear(dim, dim)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mixed = self.neighbours(tokens.transpose(1, 2).unflatten(2, self.grid))
        return self.dropout(self.projection(self.activation(mixed.flatten(2).transpose(1, 2))))


class Block(nn.Module):
    """Pre-norm transformer block; given the tokens' grid, with a local branch beside the
    attention.

    Args:
        inside: dropout only on the attention's weights and at the end of the MLP.
        xavier: as of `Attention`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp_ratio: float,
        dropout: float,
        *,
        local: Size | None = None,
        inside: bool = False,
        xavier: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, dropout, inside=inside, xavier=xavier)
        self.local = LocalBranch(dim, local, 0.0 if inside else dropout) if local else None
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, mlp_ratio, dropout, inside=inside)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        normed = self.norm1(tokens)
        mixed = self.attention(normed)
        if self.local is not None:
            mixed = mixed + self.local(normed)
        tokens = tokens + mixed
        return tokens + self.mlp(self.norm2(tokens))
