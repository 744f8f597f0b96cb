"""Every model's settings as values; imports no torch.

Sizes default to the paper's (arXiv 2410.02458). A label's own defaults are one row of
`labels.PRESETS`; a settings class serves a family of labels and names the code that builds it. The
union `ModelSettings` is the registry.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from medvision.models.compared import (
    MissFormerSettings,
    NnUNetSettings,
    SwinUNetSettings,
    TransUNetSettings,
    UNetPlusPlusSettings,
    UnetrSettings,
)
from medvision.models.registry import NetworkSettings, canonical_label
from medvision.settings import NotInIds, Settings, Since

Placement = Literal["encoder-decoder", "after-embedding"]
LoraTarget = Literal["mappers", "q", "k", "v", "o"]


class LoraSettings(Settings):
    """Low-rank adaptation (Hu et al. 2021): W x + (alpha / rank) B A x, W frozen."""

    rank: PositiveInt = Field(default=4, description="of the trained part")
    alpha: float = Field(default=4.0, gt=0, description="scale of the trained part is alpha / rank")
    targets: Annotated[tuple[LoraTarget, ...], Since("0.1", before=("mappers",))] = Field(
        default=("mappers",),
        description="what gets a low-rank part: the mappers, and on request the block's q, k, v "
        "and o projections",
    )


class LlmSettings(Settings):
    """One layer of a language model, frozen unless `trainable`, or one of its controls."""

    source: Annotated[str, NotInIds("counted by the fingerprint of its weights")] = Field(
        min_length=1,
        description="a checkpoint's folder or file, an asset's name (smollm2-135m), or a Hugging "
        "Face id",
    )
    layer: int | list[int] = Field(
        default=-1, description="index of the layer, negative from the end, or a list"
    )
    rope: bool = Field(
        default=False, description="rotary positions inside the block; the paper has none"
    )
    causal: bool = Field(
        default=False, description="causal attention inside the block; the paper has none"
    )
    final_norm: bool = Field(
        default=True, description="apply the checkpoint's final norm after the layer"
    )
    block: Annotated[Literal["layer", "identity"], Since("0.1", before="layer")] = Field(
        default="layer",
        description="identity: a control that keeps the mappers and the width, without the layer",
    )
    weights: Annotated[Literal["pretrained", "random"], Since("0.1", before="pretrained")] = Field(
        default="pretrained",
        description="random: a control of the same architecture with untrained weights",
    )
    random_seed: Annotated[int, Since("0.1", before=0)] = Field(
        default=0, description="decides the random weights, the same in every trial"
    )
    trainable: Annotated[bool, Since("0.1", before=False)] = Field(
        default=False, description="train the block with the rest; a control, the paper freezes it"
    )

    @model_validator(mode="after")
    def _identity_has_no_weights(self) -> LlmSettings:
        if self.block == "identity" and (self.trainable or self.weights == "random"):
            raise ValueError(
                "block: identity has no weights, so neither trainable nor weights: random goes "
                "with it"
            )
        return self


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
                raise ValueError(f"params reads `match NAME`, got {values!r}")
            return {
                "match": {
                    "label": canonical_label(label),
                    "llm": {"source": "meta-llama/Llama-3.1-8B"},
                }
            }
        return values


class ViTSettings(NetworkSettings):
    """A plain 3D vision transformer: patch embedding, positions, pre-norm blocks, linear
    un-patching.
    """

    network = "medvision.models.vit:VisionTransformer"
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
    extra_mlp: bool = Field(
        default=False, description="one more MLP before the projection (ViT_MLP)"
    )
    extra_width: Annotated[PositiveInt | None, Since("0.1", before=None)] = Field(
        default=None,
        description="gives the extra MLP two inner layers of this width instead of one",
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
        if self.extra_width and not self.extra_mlp:
            raise ValueError("extra_width is the extra MLP's: it needs extra_mlp: true")
        return self


class LlmViTSettings(ViTSettings):
    """A vision transformer with mapper, frozen language-model block, mapper (MedVisionLlama and its
    kin).
    """

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
    mapper: Literal["lora", "linear"] = Field(
        default="lora",
        description="maps tokens to the block's width and back: a frozen base with a low-rank "
        "part, or trained whole",
    )
    lora: LoraSettings = Field(default=LoraSettings(), description="of mapper: lora")

    @model_validator(mode="after")
    def _targets_fit(self) -> LlmViTSettings:
        if self.mapper == "lora" and "mappers" not in self.lora.targets:
            raise ValueError(
                "mapper: lora needs `mappers` among lora.targets; for plain mappers say mapper: "
                "linear"
            )
        if self.block_targets and (self.llm.block == "identity" or self.llm.trainable):
            held = (
                "block: identity has no projections"
                if self.llm.block == "identity"
                else "trainable trains them whole"
            )
            raise ValueError(
                f"lora.targets names {', '.join(self.block_targets)} of the block, but llm.{held}"
            )
        return self

    @property
    def block_targets(self) -> tuple[str, ...]:
        """The block's projections that get a low-rank part."""
        return tuple(target for target in self.lora.targets if target != "mappers")


ViTSettings.model_rebuild()
LlmViTSettings.model_rebuild()


ModelSettings = Annotated[
    ViTSettings
    | LlmViTSettings
    | UNetPlusPlusSettings
    | NnUNetSettings
    | UnetrSettings
    | SwinUNetSettings
    | TransUNetSettings
    | MissFormerSettings,
    Field(discriminator="label"),
]
_FAMILIES: dict[str, type[NetworkSettings]] = {
    label: family
    for family in ModelSettings.__origin__.__args__  # type: ignore[attr-defined]
    for label in family.model_fields["label"].annotation.__args__
}


def block_of(settings: Any) -> LlmSettings | None:
    """The language-model block that a model's numbers depend on: its own, or that of the model it
    matches in size.
    """
    if isinstance(settings, LlmViTSettings):
        return settings.llm
    params = getattr(settings, "params", None)
    return params.match.llm if params else None


def resolve_settings(label: str, **settings: Any) -> Any:
    """Validated settings of one label with its defaults filled in, an instance of one member of
    `ModelSettings`.

    Raises:
        ValueError: unknown label, unknown or wrong setting; a missing `llm` is named.
    """
    label = canonical_label(label)
    family = _FAMILIES[label]
    if family is LlmViTSettings and not settings.get("llm"):
        raise ValueError(
            f"{label} needs a language-model block: give the setting llm={{'source': ...}} (a "
            "checkpoint's folder, an asset such as smollm2-135m, or a Hugging Face id)"
        )
    return family(label=label, **settings)  # type: ignore[call-arg]
