"""The paper's 3D vision transformer, with or without a frozen language-model block (arXiv
2410.02458).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import nn

from medvision.models.language.bridge import LanguageBridge, open_block
from medvision.models.layers.dropout import Dropout
from medvision.models.layers.transformer import Block, Mlp
from medvision.models.sizes import Sizes
from medvision.models.vit.fusion import MultiScaleFusion
from medvision.models.vit.settings import LlmViTSettings, ViTSettings


class WidthsMlp(nn.Sequential):
    """An MLP through inner layers of these widths, GELU between them, with dropout at its end."""

    def __init__(self, dim: int, widths: Sequence[int], dropout: float) -> None:
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise([dim, *widths, dim]):
            layers += [nn.Linear(before, after), nn.GELU()]
        super().__init__(*layers[:-1], Dropout(dropout))


class VisionTransformer(nn.Module):
    """Patch embedding, positions, blocks, linear projection back to voxels.

    With a language-model block, `encoder-decoder` puts it between the first and the second half of
    the blocks (as the paper draws it), `after-embedding` straight after the patch embedding, before
    the positions (as the official code). With `every` it stands at several places, always the same
    block, between mappers of their own.
    """

    def __init__(
        self,
        settings: ViTSettings | LlmViTSettings,
        sizes: Sizes,
        *,
        opened: tuple[nn.Module, int] | None = None,
    ) -> None:
        """`opened`: the block and its width, where they are known already (`open_block`)."""
        super().__init__()
        if settings.params:
            settings = self._matched(settings, sizes)
        dim = settings.embed_dim
        self.patch_size, self.grid = sizes.patch, sizes.grid
        self.out_channels = sizes.out_channels
        self.embedding = nn.Conv3d(sizes.in_channels, dim, self.patch_size, stride=self.patch_size)
        self.positions = nn.Parameter(torch.zeros(1, math.prod(self.grid), dim))
        inside, xavier = settings.dropout_at == "attention", settings.attention_start == "xavier"
        self.dropout = Dropout(0.0 if inside else settings.dropout)
        local = self.grid if settings.attention == "hybrid" else None
        self.blocks = nn.ModuleList(
            Block(
                dim,
                settings.heads,
                settings.mlp_ratio,
                settings.dropout,
                local=local,
                inside=inside,
                xavier=xavier,
            )
            for _ in range(settings.depth)
        )
        # An Identity has no numbers, and who looks at the tokens here finds them all the same.
        self.norm = nn.LayerNorm(dim) if settings.last_norm else nn.Identity()
        self.extra_mlp: nn.Module | None = None
        if settings.mlp_widths:
            self.extra_mlp = WidthsMlp(dim, settings.mlp_widths, settings.dropout)
        elif settings.extra_mlp:
            self.extra_mlp = Mlp(dim, settings.mlp_ratio, settings.dropout, inside=inside)
        self.extra_residual = settings.extra_residual
        self.fusion = MultiScaleFusion(dim, self.grid) if settings.fusion else None
        self.head = nn.Linear(dim, math.prod(self.patch_size) * sizes.out_channels)
        if settings.position_std == 0.02:
            nn.init.trunc_normal_(self.positions, std=0.02)  # on which the golden losses stand
        else:
            nn.init.normal_(self.positions, std=settings.position_std)
        parts = [f"blocks.{index}" for index in range(settings.depth)]
        self.bridge: LanguageBridge | None = None
        self._bridges: dict[int | None, str] = {}  # their names by their places
        if isinstance(settings, LlmViTSettings):
            opened = opened or open_block(settings.llm, tokens=math.prod(self.grid))
            for number, place in enumerate(settings.places):
                self._bridges[place] = name = f"bridge{number or ''}"
                # One block for all places, whose low-rank parts came with the first.
                lora = settings.lora if number == 0 else settings.lora.of_mappers
                setattr(self, name, LanguageBridge(dim, *opened, settings.mapper, lora))
        self.checkpointed = (*parts, *self._bridges.values())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits [B, out_channels, X, Y, Z] of images [B, in_channels, X, Y, Z]."""
        tokens = self.embedding(image).flatten(2).transpose(1, 2)
        tokens = self.dropout(self._bridged(None, tokens) + self.positions)
        for index, block in enumerate(self.blocks):
            tokens = block(self._bridged(index, tokens))
        tokens = self.norm(tokens)
        if self.extra_mlp is not None:
            extra = self.extra_mlp(tokens)
            tokens = tokens + extra if self.extra_residual else extra
        if self.fusion is not None:
            tokens = self.fusion(tokens)
        return self._to_voxels(self.head(tokens))

    def _bridged(self, place: int | None, tokens: torch.Tensor) -> torch.Tensor:
        """The tokens, through the bridge of a place where there is one."""
        name = self._bridges.get(place)
        return tokens if name is None else getattr(self, name)(tokens)

    def set_output_bias(self, logits: torch.Tensor) -> None:
        """Start every voxel of output channel g at `logits[g]`, [out_channels]."""
        with torch.no_grad():
            self.head.bias.copy_(logits.repeat_interleave(math.prod(self.patch_size)))

    @staticmethod
    def _matched(settings: ViTSettings, sizes: Sizes) -> ViTSettings:
        """The settings resized to the parameters of the model that `params` names, which is built
        without weights.
        """
        assert settings.params  # noqa: S101
        model = settings.params.match
        # It asks the checkpoint, which counting does not.
        opened = open_block(model.llm, tokens=math.prod(sizes.grid), empty=True)
        with torch.device("meta"):
            target = VisionTransformer(model, sizes, opened=opened)
        return settings.matched(sum(parameter.numel() for parameter in target.parameters()), sizes)

    def _to_voxels(self, patches: torch.Tensor) -> torch.Tensor:
        (gx, gy, gz), (px, py, pz) = self.grid, self.patch_size
        voxels = patches.view(-1, gx, gy, gz, self.out_channels, px, py, pz).permute(
            0, 4, 1, 5, 2, 6, 3, 7
        )
        return voxels.reshape(-1, self.out_channels, gx * px, gy * py, gz * pz)
