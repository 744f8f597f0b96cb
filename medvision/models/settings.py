"""Every model's settings as values, and the labels that users type; imports no torch.

Sizes default to the paper's (arXiv 2410.02458). A label's own defaults are one row of `PRESETS`; two settings classes
serve all labels, one for plain vision transformers and one for those with a language-model block.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

Placement = Literal["encoder-decoder", "after-embedding"]

PRESETS: dict[str, dict[str, Any]] = {
    "ViT_Baseline": {},
    "ViT_Depth": {"embed_dim": 1024, "depth": 20, "heads": 32, "dropout": 0.1},
    "ViT_MLP": {"extra_mlp": True},
    "MedVisionLlama": {},
    "MedVisionLlama_Frozen": {"mapper": "linear"},
    "MedVision_BioBERT": {},
    "MedVision_BioGPT": {},
    "MedVision_ClinicalBERT": {},
}
MODEL_LABELS = tuple(PRESETS)


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LoraSettings(_Settings):
    """Low-rank adaptation of the two mappers (Hu et al. 2021): W x + (alpha / rank) B A x, W frozen."""

    rank: PositiveInt = 4
    alpha: float = Field(default=4.0, gt=0, description="scale of the trained part is alpha / rank")


class LlmSettings(_Settings):
    """One frozen layer of a pre-trained language model."""

    source: str = Field(
        min_length=1,
        description="a checkpoint's folder or file, an asset's name (smollm2-135m), or a Hugging Face id",
    )
    layer: int | list[int] = Field(default=-1, description="index of the layer, negative from the end, or a list")
    rope: bool = Field(default=False, description="rotary positions inside the block; the paper has none")
    causal: bool = Field(default=False, description="causal attention inside the block; the paper has none")
    final_norm: bool = Field(default=True, description="apply the checkpoint's final norm after the layer")


class ViTSettings(_Settings):
    """A plain 3D vision transformer: patch embedding, positions, pre-norm blocks, linear un-patching."""

    label: Literal["ViT_Baseline", "ViT_Depth", "ViT_MLP"]
    name: str | None = Field(default=None, description="shown in tables; by default the label")
    embed_dim: PositiveInt = 64
    depth: PositiveInt = 16
    heads: PositiveInt = 4
    mlp_ratio: float = Field(default=4.0, gt=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    extra_mlp: bool = Field(default=False, description="one more MLP before the projection (ViT_MLP)")

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        return PRESETS.get(str(values.get("label")), {}) | values if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _divisible(self) -> ViTSettings:
        if self.embed_dim % self.heads:
            raise ValueError(f"embed_dim {self.embed_dim} must be a multiple of heads {self.heads}")
        return self


class LlmViTSettings(ViTSettings):
    """A vision transformer with mapper, frozen language-model block, mapper (MedVisionLlama and its kin)."""

    label: Literal[  # type: ignore[assignment]  # pydantic narrows a field by redefining it
        "MedVisionLlama",
        "MedVisionLlama_Frozen",
        "MedVision_BioBERT",
        "MedVision_BioGPT",
        "MedVision_ClinicalBERT",
    ]
    llm: LlmSettings
    placement: Placement = "encoder-decoder"
    mapper: Literal["lora", "linear"] = "lora"
    lora: LoraSettings = LoraSettings()


ModelSettings = Annotated[ViTSettings | LlmViTSettings, Field(discriminator="label")]


def canonical_label(label: str) -> str:
    """The label as the paper spells it; case and `-`/`_` are forgiven.

    Raises:
        ValueError: no such label; the message names the closest and all known ones.
    """
    plain = {_fold(known): known for known in MODEL_LABELS}
    if (folded := _fold(label)) in plain:
        return plain[folded]
    close = difflib.get_close_matches(folded, plain, n=1, cutoff=0.5)
    hint = f"; did you mean {plain[close[0]]}?" if close else ""
    raise ValueError(f"unknown model label {label!r}{hint} Known labels: {', '.join(MODEL_LABELS)}")


def _fold(label: str) -> str:
    return label.lower().replace("-", "").replace("_", "").replace(" ", "")


def resolve_settings(label: str, **settings: Any) -> ViTSettings | LlmViTSettings:
    """Validated settings of one label with its defaults filled in.

    Raises:
        ValueError: unknown label, unknown or wrong setting; a missing `llm` is named.
    """
    label = canonical_label(label)
    family = LlmViTSettings if label in _LLM_LABELS else ViTSettings
    if family is LlmViTSettings and not settings.get("llm"):
        raise ValueError(
            f"{label} needs a language-model block: give the setting llm={{'source': ...}} (a checkpoint's folder, "
            "an asset such as smollm2-135m, or a Hugging Face id)"
        )
    return family(label=label, **settings)  # type: ignore[arg-type]


_LLM_LABELS = frozenset(LlmViTSettings.model_fields["label"].annotation.__args__)  # type: ignore[union-attr]
