"""Settings of networks that can take a language-model block at their coarsest level. Imports no
torch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from medvision.models.arithmetic import Layer
from medvision.models.family import NetworkSettings
from medvision.models.language.settings import (
    LLAMA,
    PAPER_SIZES,
    BlockSize,
    LlmSettings,
    LoraSettings,
    Mapper,
    bridge_layers,
    check_targets,
)
from medvision.models.sizes import Sizes
from medvision.settings import Since


class BottleneckSettings(NetworkSettings):
    """A network whose coarsest level can be tokens of a block, one a voxel; a family says which
    level that is (`coarsest`).
    """

    llm: Annotated[LlmSettings | None, Since("0.2", before=None)] = Field(
        default=None, description="a language-model block; by default the network has none"
    )
    placement: Annotated[Literal["bottleneck"], Since("0.2", before="bottleneck")] = Field(
        default="bottleneck",
        description="of the block: after the coarsest level, whose voxels are its tokens",
    )
    mapper: Annotated[Mapper, Since("0.2", before="lora")] = Field(
        default="lora",
        description="of a block: maps tokens to its width and back, as in MedVisionLlama",
    )
    lora: Annotated[LoraSettings, Since("0.2", before=LoraSettings())] = Field(
        default=LoraSettings(), description="of a block with mapper: lora"
    )

    @model_validator(mode="after")
    def _of_a_block(self) -> Self:
        if self.llm is not None:
            check_targets(self.llm, self.mapper, self.lora)
        elif self.mapper != "lora" or self.lora != LoraSettings():
            raise ValueError("mapper and lora belong to a block: give llm, or leave them out")
        return self

    def drawn(self, seed: int) -> Self:
        """With the seed of a block's random weights."""
        if self.llm is None:
            return self
        return self.model_copy(update={"llm": self.llm.drawn(seed)})

    @property
    def block(self) -> LlmSettings | None:
        """The block at the coarsest level, None without one."""
        return self.llm

    @abstractmethod
    def coarsest(self, sizes: Sizes) -> tuple[int, int]:
        """Channels and voxels of the coarsest level: width and number of the block's tokens."""

    def all_layers(self, sizes: Sizes, block: BlockSize | None) -> Iterator[Layer]:
        """The network, then mappers and block."""
        yield from self.layers(sizes)
        if self.llm is not None:
            size = block or PAPER_SIZES.get(self.llm.source, PAPER_SIZES[LLAMA])
            width, tokens = self.coarsest(sizes)
            yield from bridge_layers(width, self.llm, self.mapper, self.lora, tokens, size)
