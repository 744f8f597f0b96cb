"""Settings of a language-model block and of what maps to it and back. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from medvision.models.arithmetic import Layer, attention, linear, repeated
from medvision.settings import NotInIds, Settings, Since

# One word for each control. The first three are other settings in one word; `layer` and `source`
# say another layer and another model.
Control = Literal[
    "none", "random", "identity", "trainable", "permuted", "spectrum", "linear", "mlp"
]
_IN_OTHER_WORDS: Mapping[str, tuple[str, Any]] = {
    "random": ("weights", "random"),
    "identity": ("block", "identity"),
    "trainable": ("trainable", True),
}
STAND_INS = ("linear", "mlp")  # no layer, and trained
LoraTarget = Literal["mappers", "q", "k", "v", "o"]
Mapper = Literal["lora", "linear"]
# `hidden_size` and `parameters` of one layer of a language model; `active`: those that a token
# meets, where a mixture has experts that it does not
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
# The same of the checkpoints that `medvision.assets` fetches, for estimates before it has.
PACKAGED_SIZES: Mapping[str, BlockSize] = {
    "smollm2-135m": {"hidden_size": 576, "parameters": 3_538_944},
    "minilm-l6": {"hidden_size": 384, "parameters": 1_769_472},
    "tiny-biogpt": {"hidden_size": 128, "parameters": 196_608},
}


class LoraSettings(Settings):
    """Low-rank adaptation (Hu et al. 2021): W x + (alpha / rank) B A x, W frozen."""

    rank: PositiveInt = Field(default=4, description="of the trained part")
    alpha: float = Field(
        default=4.0,
        gt=0,
        description="scale of the trained part is alpha / rank; the official code's alpha is 1",
    )
    targets: Annotated[tuple[LoraTarget, ...], Since("0.1", before=("mappers",))] = Field(
        default=("mappers",),
        description="what gets a low-rank part: the mappers, and on request the block's q, k, v "
        "and o projections",
    )

    bias: Annotated[Literal["frozen", "trained"], Since("0.2", before="frozen")] = Field(
        default="frozen",
        description="of the mappers; loralib, which the official code uses, leaves it trained",
    )

    @property
    def of_mappers(self) -> LoraSettings:
        """The same without the block's projections."""
        return self.model_copy(update={"targets": ("mappers",)})

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
        description="decides random, permuted and rotated weights, the same in every trial; by "
        "default each training draws its own, from its seed, task, fold and cases",
    )
    trainable: Annotated[bool, Since("0.1", before=False)] = Field(
        default=False, description="train the block with the rest; a control, the paper freezes it"
    )

    control: Annotated[Control, Since("0.2", before="none")] = Field(
        default="none",
        description="one word for what stands in the block's place: random, identity and trainable "
        "are weights: random, block: identity and trainable: true; permuted: each tensor's values "
        "in another order; spectrum: random matrices with the same singular values; linear: a "
        "trained linear map of as many parameters; mlp: a trained MLP of as many operations",
    )

    @model_validator(mode="before")
    @classmethod
    def _in_other_words(cls, values: Any) -> Any:
        """So that a control has one id, however it is written."""
        control = values.get("control") if isinstance(values, dict) else None
        if not isinstance(control, str) or control not in _IN_OTHER_WORDS:
            return values
        name, value = _IN_OTHER_WORDS[control]
        rest = {key: given for key, given in values.items() if key != "control"}
        if name in rest and rest[name] != value:
            raise ValueError(
                f"control: {values['control']} means {name}: {str(value).lower()}, and {name} is "
                f"{rest[name]!r}: leave one of them out"
            )
        return rest | {name: value}

    @model_validator(mode="after")
    def _one_control(self) -> LlmSettings:
        if self.control == "none":
            return self
        if self.block == "identity" or self.weights == "random":
            other = "block: identity" if self.block == "identity" else "weights: random"
            raise ValueError(f"control: {self.control} and {other} are two controls: take one")
        if self.control in STAND_INS and (self.trainable or self.final_norm_weights == "ones"):
            raise ValueError(
                f"control: {self.control} has no block: it is trained anyway, and has no final norm"
            )
        return self

    @property
    def layers(self) -> int:
        """How many layers it takes."""
        return len(self.layer) if isinstance(self.layer, list) else 1

    @property
    def seeded(self) -> bool:
        """Whether chance decides its weights, so that they are not the checkpoint's."""
        return self.weights == "random" or self.control in ("permuted", "spectrum")

    @model_validator(mode="after")
    def _identity_has_no_weights(self) -> LlmSettings:
        if self.block == "identity" and (self.trainable or self.weights == "random"):
            raise ValueError(
                "block: identity has no weights, so neither trainable nor weights: random goes "
                "with it"
            )
        return self

    def drawn(self, seed: int) -> LlmSettings:
        """The settings with all of the weights decided: by `random_seed`, or else by `seed`."""
        if not self.seeded or self.random_seed is not None:
            return self
        return self.model_copy(update={"random_seed": seed})


def check_targets(llm: LlmSettings, mapper: Mapper, lora: LoraSettings) -> None:
    """Raises ValueError where low-rank parts are asked for what has none, or none for mappers of
    `lora`.
    """
    if mapper == "lora" and "mappers" not in lora.targets:
        raise ValueError(
            "mapper: lora needs `mappers` among lora.targets; for plain mappers say mapper: linear"
        )
    left_out = llm.block == "identity" or llm.control in STAND_INS
    if lora.block_targets and (left_out or llm.trainable):
        what = f"control: {llm.control}" if llm.control in STAND_INS else "block: identity"
        held = f"{what} has no projections" if left_out else "trainable trains them whole"
        targets = ", ".join(lora.block_targets)
        raise ValueError(f"lora.targets names {targets} of the block, but llm.{held}")


def bridge_layers(
    dim: int,
    llm: LlmSettings,
    mapper: Mapper,
    lora: LoraSettings,
    tokens: int,
    block: BlockSize,
    places: int = 1,
) -> Iterator[Layer]:
    """Mappers and block in numbers; parameters of low-rank parts inside the block are left out.

    Args:
        dim: width of the tokens outside.
        block: size of one of the block's layers.
        places: how often it stands in the network: with mappers of their own, the block is one.
    """
    for layer in _mappers(dim, mapper, lora, tokens, block):
        yield repeated(places, [layer])
    for layer in _block(llm, lora, tokens, block):
        yield Layer(layer.parameters, places * layer.operations)


def _mappers(
    dim: int, mapper: Mapper, lora: LoraSettings, tokens: int, block: BlockSize
) -> Iterator[Layer]:
    width, rank = block["hidden_size"], lora.rank
    for inputs, outputs in ((dim, width), (width, dim)):
        if mapper == "lora":
            yield linear(inputs, outputs, tokens)
            yield linear(inputs, rank, tokens, bias=False)
            yield linear(rank, outputs, tokens, bias=False)
        else:
            yield linear(inputs, outputs, tokens, bias=False)


def _block(llm: LlmSettings, lora: LoraSettings, tokens: int, block: BlockSize) -> Iterator[Layer]:
    width, active = block["hidden_size"], block.get("active", block["parameters"])
    if llm.control in STAND_INS:
        whole = active if llm.control == "mlp" else block["parameters"]
        inner = stand_in_width(llm, width, llm.layers * whole, tokens)
        yield linear(width, inner, tokens, bias=False)
        yield linear(inner, width, tokens, bias=False)
    elif llm.block == "layer":
        layer = (
            Layer(block["parameters"], 2 * tokens * active),
            attention(tokens, tokens, width),
            Layer(0, 2 * tokens * len(lora.block_targets) * 2 * lora.rank * width),
        )
        yield repeated(llm.layers, layer)


def stand_in_width(llm: LlmSettings, width: int, parameters: int, tokens: int) -> int:
    """Inner width of `control: linear` with as many parameters as the block, or of `control: mlp`
    with as many operations on so many tokens, to the nearest whole unit.

    A layer of P parameters costs 2 T P operations on T tokens and 4 T T C for its attention; two
    matrices of the inner width W cost 4 T C W. So W = P / (2 C) + T for each layer.

    Args:
        width: C, of the block.
        parameters: of all its layers together.
    """
    attention_share = llm.layers * tokens if llm.control == "mlp" else 0
    return max(1, round(parameters / (2 * width)) + attention_share)
