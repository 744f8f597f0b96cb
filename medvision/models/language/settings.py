"""Settings of a language-model block and of what maps to it and back. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from medvision.models.arithmetic import Layer, attention, linear, repeated
from medvision.settings import NotInIds, Settings, Since

LoraTarget = Literal["mappers", "q", "k", "v", "o"]
Mapper = Literal["lora", "linear"]
# `hidden_size` and `parameters` of one layer of a language model
BlockSize = Mapping[str, Any]

# The paper's language models as Hugging Face ids, and the size of one of their layers, for
# estimates where the checkpoint is not here to be asked.
LLAMA = "meta-llama/Llama-3.1-8B"
BIOBERT = "dmis-lab/biobert-base-cased-v1.2"
BIOGPT = "microsoft/biogpt"
CLINICALBERT = "emilyalsentzer/Bio_ClinicalBERT"
PAPER_SIZES: Mapping[str, BlockSize] = {
    LLAMA: {"hidden_size": 4096, "parameters": 218_000_000},
    BIOBERT: {"hidden_size": 768, "parameters": 7_100_000},
    BIOGPT: {"hidden_size": 1024, "parameters": 12_600_000},
    CLINICALBERT: {"hidden_size": 768, "parameters": 7_100_000},
}


class LoraSettings(Settings):
    """Low-rank adaptation (Hu et al. 2021): W x + (alpha / rank) B A x, W frozen."""

    rank: PositiveInt = Field(default=4, description="of the trained part")
    alpha: float = Field(default=4.0, gt=0, description="scale of the trained part is alpha / rank")
    targets: Annotated[tuple[LoraTarget, ...], Since("0.1", before=("mappers",))] = Field(
        default=("mappers",),
        description="what gets a low-rank part: the mappers, and on request the block's q, k, v "
        "and o projections",
    )

    @property
    def block_targets(self) -> tuple[str, ...]:
        """The block's projections that get a low-rank part."""
        return tuple(target for target in self.targets if target != "mappers")


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
    final_norm_weights: Annotated[
        Literal["checkpoint", "ones"], Since("0.2", before="checkpoint")
    ] = Field(
        default="checkpoint",
        description="ones: the final norm only normalises; the official code loads no weights for "
        "it",
    )
    kv_pairing: Annotated[Literal["grouped", "tiled"], Since("0.2", before="grouped")] = Field(
        default="grouped",
        description="key/value heads that the query heads meet: grouped as the model was trained, "
        "or tiled, a defect of the official code; the same where each has its own",
    )
    block: Annotated[Literal["layer", "identity"], Since("0.1", before="layer")] = Field(
        default="layer",
        description="identity: a control that keeps the mappers and the width, without the layer",
    )
    weights: Annotated[Literal["pretrained", "random"], Since("0.1", before="pretrained")] = Field(
        default="pretrained",
        description="random: a control of the same architecture with untrained weights",
    )
    random_seed: Annotated[int | None, Since("0.1", before=None)] = Field(
        default=None,
        description="decides random weights, the same in every trial; by default each training "
        "draws its own, from its seed, task, fold and cases",
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

    def drawn(self, seed: int) -> LlmSettings:
        """The settings with random weights decided: by `random_seed`, or else by `seed`."""
        if self.weights != "random" or self.random_seed is not None:
            return self
        return self.model_copy(update={"random_seed": seed})


def bridge_layers(
    dim: int, llm: LlmSettings, mapper: Mapper, lora: LoraSettings, tokens: int, block: BlockSize
) -> Iterator[Layer]:
    """Mappers and block in numbers; parameters of low-rank parts inside the block are left out.

    Args:
        dim: width of the tokens outside.
        block: size of one of the block's layers.
    """
    width, rank = block["hidden_size"], lora.rank
    for inputs, outputs in ((dim, width), (width, dim)):
        if mapper == "lora":
            yield linear(inputs, outputs, tokens)
            yield linear(inputs, rank, tokens, bias=False)
            yield linear(rank, outputs, tokens, bias=False)
        else:
            yield linear(inputs, outputs, tokens, bias=False)
    if llm.block == "layer":
        layer = (
            Layer(block["parameters"], 2 * tokens * block["parameters"]),
            attention(tokens, tokens, width),
            Layer(0, 2 * tokens * len(lora.block_targets) * 2 * rank * width),
        )
        yield repeated(len(llm.layer) if isinstance(llm.layer, list) else 1, layer)
