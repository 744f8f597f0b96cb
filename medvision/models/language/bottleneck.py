"""A language-model block at the coarsest level of a convolutional network."""

from __future__ import annotations

import torch
from torch import nn

from medvision.models.language.bridge import LanguageBridge, open_block
from medvision.models.language.settings import LlmSettings, LoraSettings, Mapper


class AtBottleneck(nn.Module):
    """A part of a network, and a bridge over what it gives, a token a voxel: as `part` does, to
    [B, C, X, Y, Z].
    """

    def __init__(self, part: nn.Module, bridge: LanguageBridge) -> None:
        super().__init__()
        self.part = part
        self.bridge = bridge

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        volume: torch.Tensor = self.part(features)
        tokens = self.bridge(volume.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).reshape(volume.shape)


def bridge_at(
    level: tuple[int, int], llm: LlmSettings, mapper: Mapper, lora: LoraSettings
) -> LanguageBridge:
    """The bridge of a level of so many channels and voxels."""
    width, tokens = level
    return LanguageBridge(width, *open_block(llm, tokens=tokens), mapper, lora)
