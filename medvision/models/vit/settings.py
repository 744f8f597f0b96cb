"""Settings of the paper's vision transformers; sizes default to the paper's (arXiv 2410.02458).
Imports no torch.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from medvision.models.arithmetic import (
    Layer,
    depthwise,
    linear,
    mlp,
    norm,
    repeated,
    transformer_block,
)
from medvision.models.labels import find_label
from medvision.models.language.settings import (
    BIOBERT,
    BIOGPT,
    CLINICALBERT,
    LLAMA,
    PAPER_SIZES,
    STAND_INS,
    BlockSize,
    LlmSettings,
    LoraSettings,
    Mapper,
    bridge_layers,
    check_targets,
)
from medvision.models.sizes import Sizes
from medvision.models.vit.matching import (
    blocks_for,
    smallest_block,
    width_for,
    widths_mlp,
)
from medvision.models.vit.parts import PartSettings
from medvision.models.vit.recipes import OFFICIAL, OFFICIAL_LANGUAGE
from medvision.settings import Settings, Since

Placement = Literal["encoder-decoder", "after-embedding"]


class MatchSettings(Settings):
    """Another model whose number of parameters, frozen ones included, is to be reached."""

    match: LlmViTSettings

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, values: Any) -> Any:
        """`match LABEL` is the paper's model of that label; in a spec, the study's model of that
        name comes first.
        """
        if isinstance(values, str):
            word, _, label = values.partition(" ")
            if word != "match" or not label:
                raise ValueError(f"expected `match NAME`, got {values!r}")
            known = find_label(label, LlmViTSettings.labels()) or label
            return {"match": {"label": known, "llm": {"source": LLAMA}}}
        return values


class ViTSettings(PartSettings):
    """A plain 3D vision transformer: patch embedding, positions, pre-norm blocks, linear
    un-patching.
    """

    code = "medvision.models.vit.network:VisionTransformer"
    gpu_rates = (2.5e13, 2e14)
    recipes = OFFICIAL
    presets = MappingProxyType(
        {
            "ViT_Depth": {"embed_dim": 1024, "depth": 20, "heads": 32, "dropout": 0.1},
            "ViT_MLP": {"extra_mlp": True},
        }
    )
    label: Literal["ViT_Baseline", "ViT_Depth", "ViT_MLP"]
    embed_dim: PositiveInt = Field(default=64, description="width of a token")
    depth: PositiveInt = Field(default=16, description="transformer blocks")
    heads: PositiveInt = Field(
        default=4, description="attention heads of a block; they divide embed_dim"
    )
    mlp_ratio: float = Field(
        default=4.0, gt=0, description="hidden width of a block's MLP in multiples of embed_dim"
    )
    dropout: float = Field(
        default=0.2, ge=0, lt=1, description="after the embedding, the attention and the MLPs"
    )
    params: Annotated[MatchSettings | None, Since("0.1", before=None)] = Field(
        default=None,
        description="`match NAME`: resized to the parameters of that model of the study "
        "(ViT_Depth, ViT_MLP)",
        json_schema_extra={
            "anyOf": [
                {"type": "string", "pattern": "^match .+"},
                {"type": "object"},
                {"type": "null"},
            ]
        },
    )
    attention: Annotated[Literal["global", "hybrid"], Since("0.1", before="global")] = Field(
        default="global",
        description="hybrid adds a local branch, a 3x3x3 convolution over neighbouring tokens",
    )
    fusion: Annotated[bool, Since("0.1", before=False)] = Field(
        default=False, description="multi-scale fusion of the tokens before the projection"
    )

    @model_validator(mode="after")
    def _divisible(self) -> ViTSettings:
        if self.embed_dim % self.heads:
            raise ValueError(f"embed_dim {self.embed_dim} must be a multiple of heads {self.heads}")
        if self.params and self.label not in ("ViT_Depth", "ViT_MLP"):
            raise ValueError(f"params resizes ViT_Depth and ViT_MLP only, not {self.label}")
        if self.params and self.extra_widths:
            raise ValueError("extra_widths and params both size the extra MLP: give one of them")
        return self

    @property
    def block(self) -> LlmSettings | None:
        """The block of the model that `params` names, on whose size the model's own depends."""
        return self.params.match.llm if self.params else None

    def tokens(self, sizes: Sizes) -> int:
        """Patches of the image."""
        return math.prod(sizes.grid)

    def all_layers(self, sizes: Sizes, block: BlockSize | None) -> Iterator[Layer]:
        """The network, resized where `params` says so and it can be: what cannot is said when the
        model is built, and an estimate never fails.
        """
        settings = self
        if self.params:
            with contextlib.suppress(ValueError):
                settings = self.matched(self.params.match.parameters(sizes, block), sizes)
        return settings.layers(sizes)

    def matched(self, target: int, sizes: Sizes) -> ViTSettings:
        """The settings, resized to `target` parameters in all as nearly as whole units allow.

        With `extra_mlp` (ViT_MLP) the extra MLP gets two inner layers of one width, which is solved
        for: a single inner layer would have to be so wide that its activations fit no memory.
        Otherwise (ViT_Depth) the number of blocks is chosen, and then the width of their MLPs.

        Raises:
            ValueError: even the smallest such model has more parameters.
        """
        dim, local = self.embed_dim, self.attention == "hybrid"
        own = {"extra_mlp": False, "extra_width": None} if self.extra_mlp else {"depth": 0}
        plain = self.model_copy(update={**own, "params": None})
        rest = plain.parameters(sizes)
        if self.extra_mlp:
            width = least = width_for(target - rest, dim)
            found: dict[str, Any] = {"extra_mlp": True, "extra_width": width}
        else:
            depth, ratio, least = blocks_for(target - rest, dim, self.mlp_ratio, local=local)
            found = {"depth": depth, "mlp_ratio": ratio}
            rest += smallest_block(dim, local=local)
        if least < 1:
            raise ValueError(
                f"{self.label} with embed_dim {dim} has at least {rest:,} parameters, more than "
                f"the {target:,} to be matched: give it a smaller embed_dim"
            )
        return plain.model_copy(update=found)

    def layers(self, sizes: Sizes) -> Iterator[Layer]:
        """The transformer as these settings say, whatever `params`."""
        dim, tokens, patch = self.embed_dim, self.tokens(sizes), math.prod(sizes.patch)
        yield linear(sizes.in_channels * patch, dim, tokens)
        yield Layer(tokens * dim)  # positions
        local = self.attention == "hybrid"
        yield repeated(self.depth, transformer_block(dim, self.mlp_ratio, tokens, local=local))
        if self.last_norm:
            yield norm(dim)
        if self.mlp_widths:
            yield widths_mlp(dim, self.mlp_widths, tokens)
        elif self.extra_mlp:
            yield mlp(dim, self.mlp_ratio, tokens)
        if self.fusion:
            yield from (
                norm(dim),
                repeated(3, [depthwise(dim, tokens)]),
                linear(3 * dim, dim, tokens),
            )
        yield linear(dim, patch * sizes.out_channels, tokens)


class LlmViTSettings(ViTSettings):
    """A vision transformer with mapper, frozen language-model block, mapper (MedVisionLlama and its
    kin).
    """

    presets = MappingProxyType(
        {
            "MedVisionLlama_Frozen": {"mapper": "linear"},
            "MedVisionLlama_Hybrid": {"attention": "hybrid", "fusion": True},
        }
    )
    sources = MappingProxyType(
        {
            "MedVisionLlama": LLAMA,
            "MedVisionLlama_Frozen": LLAMA,
            "MedVisionLlama_Hybrid": LLAMA,
            "MedVision_BioBERT": BIOBERT,
            "MedVision_BioGPT": BIOGPT,
            "MedVision_ClinicalBERT": CLINICALBERT,
        }
    )
    recipes = MappingProxyType(dict.fromkeys(sources, OFFICIAL_LANGUAGE))
    label: Literal[  # type: ignore[assignment]  # pydantic narrows a field by redefining it
        "MedVisionLlama",
        "MedVisionLlama_Frozen",
        "MedVisionLlama_Hybrid",
        "MedVision_BioBERT",
        "MedVision_BioGPT",
        "MedVision_ClinicalBERT",
    ]
    llm: LlmSettings = Field(description="the language-model block; required")
    placement: Placement = Field(
        default="encoder-decoder",
        description="of the block: between the halves of the transformer (the paper), or before "
        "the positions (official code)",
    )
    every: Annotated[PositiveInt | None, Since("0.2", before=None)] = Field(
        default=None,
        description="the block after so many of the transformer's, again and again, not once; each "
        "place has its own mappers",
    )
    mapper: Mapper = Field(
        default="lora",
        description="maps tokens to the block's width and back: a frozen base with a low-rank "
        "part, or trained whole",
    )
    lora: LoraSettings = Field(default=LoraSettings(), description="of mapper: lora")

    @model_validator(mode="after")
    def _fits(self) -> LlmViTSettings:
        check_targets(self.llm, self.mapper, self.lora)
        if self.every and self.placement != "encoder-decoder":
            raise ValueError(
                f"every and placement: {self.placement} name two places: leave one out"
            )
        if self.every and self.every >= self.depth:
            raise ValueError(f"every: {self.every} is no place between {self.depth} blocks")
        return self

    @classmethod
    def official(cls, label: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """As for all; what stands in for a block has neither heads nor a final norm."""
        found, llm = super().official(label, given), given.get("llm")
        if isinstance(llm, Mapping) and llm.get("control") in STAND_INS:
            found["llm"] = dict(llm)
        return found

    @classmethod
    def require(cls, label: str, settings: Mapping[str, Any]) -> None:
        """Say what `llm` is, to a caller who left it out."""
        if not settings.get("llm"):
            raise ValueError(
                f"{label} needs a language-model block: give the setting llm={{'source': ...}} (a "
                "checkpoint's folder, an asset such as smollm2-135m, or a Hugging Face id)"
            )

    def drawn(self, seed: int) -> Self:
        """With the seed of a block's random weights."""
        return self.model_copy(update={"llm": self.llm.drawn(seed)})

    @property
    def places(self) -> tuple[int | None, ...]:
        """After how many of the transformer's blocks it stands, None before the positions."""
        if self.every:
            return tuple(range(self.every, self.depth, self.every))
        return (self.depth // 2 if self.placement == "encoder-decoder" else None,)

    @property
    def block(self) -> LlmSettings:
        """The block between the mappers."""
        return self.llm

    def all_layers(self, sizes: Sizes, block: BlockSize | None) -> Iterator[Layer]:
        """The transformer, then mappers and block."""
        yield from self.layers(sizes)
        size = block or PAPER_SIZES[self.sources[self.label]]
        width, tokens, places = self.embed_dim, self.tokens(sizes), len(self.places)
        yield from bridge_layers(width, self.llm, self.mapper, self.lora, tokens, size, places)


ViTSettings.model_rebuild()
LlmViTSettings.model_rebuild()
