"""What differs between the families of language models: names of classes, tensors and settings.

The layers themselves are transformers' own classes, looked up by these names; no layer is written
anew here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from medvision.llm.errors import BlockError

_SELF_ATTENTION = MappingProxyType(
    {
        "q": "self_attn.q_proj",
        "k": "self_attn.k_proj",
        "v": "self_attn.v_proj",
        "o": "self_attn.o_proj",
    }
)
_DECODER = (
    "hidden_size intermediate_size num_attention_heads num_key_value_heads head_dim rms_norm_eps "
    "hidden_act attention_bias mlp_bias rope_parameters max_position_embeddings sliding_window "
    "use_sliding_window max_window_layers layer_types"
)


@dataclass(frozen=True)
class Family:
    """One family, as transformers and the checkpoints spell it.

    `fields` are the settings of the checkpoint's configuration that can change a layer's numbers;
    only they are kept with a block and enter its fingerprint (so neither vocabulary nor token ids
    nor dropout do). `gated` feed-forward parts have three matrices, others two.
    """

    name: str
    title: str
    prefixes: tuple[str, ...] = ("model.", "")
    layers: str = "layers"
    layer_class: str = "DecoderLayer"
    norm: str | None = "norm"
    rotary: bool = True
    attention: str = "self_attn"
    projections: Mapping[str, str] = field(default_factory=lambda: _SELF_ATTENTION)
    eager: bool = False
    gated: bool = True
    fields: tuple[str, ...] = tuple(_DECODER.split())

    @property
    def module(self) -> str:
        """Import path of transformers' modelling module."""
        return f"transformers.models.{self.name}.modeling_{self.name}"


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("llama", "Llama"),
        Family("mistral", "Mistral"),
        Family("qwen2", "Qwen2"),
        Family("qwen3", "Qwen3"),
        Family(
            "gemma2",
            "Gemma2",
            eager=True,  # scaled_dot_product_attention has no soft cap on the attention logits
            fields=(
                *_DECODER.split(),
                "hidden_activation",
                "query_pre_attn_scalar",
                "attn_logit_softcapping",
            ),
        ),
        Family(
            "bert",
            "Bert",
            prefixes=("bert.", ""),
            layers="encoder.layer",
            layer_class="Layer",
            norm=None,
            rotary=False,
            gated=False,
            attention="attention.self",
            projections=MappingProxyType(
                {
                    "q": "attention.self.query",
                    "k": "attention.self.key",
                    "v": "attention.self.value",
                    "o": "attention.output.dense",
                }
            ),
            fields=(
                "hidden_size",
                "intermediate_size",
                "num_attention_heads",
                "hidden_act",
                "layer_norm_eps",
            ),
        ),
        Family(
            "biogpt",
            "BioGpt",
            prefixes=("biogpt.", ""),
            norm="layer_norm",
            rotary=False,
            gated=False,
            projections=MappingProxyType({**_SELF_ATTENTION, "o": "self_attn.out_proj"}),
            # BioGPT's layers ignore layer_norm_eps and keep PyTorch's 1e-5.
            fields=("hidden_size", "intermediate_size", "num_attention_heads", "hidden_act"),
        ),
    )
}


def family_of(config: Mapping[str, Any], where: str) -> Family:
    """The family that a checkpoint's configuration names.

    Raises:
        BlockError: the configuration names another family, or none.
    """
    name = config.get("model_type")
    if name is None:  # the first BERT checkpoints name no type
        architectures = " ".join(map(str, config.get("architectures") or ()))
        matches = [
            family.name for family in FAMILIES.values() if architectures.startswith(family.title)
        ]
        name = matches[0] if matches else "bert" if "type_vocab_size" in config else None
    if not isinstance(name, str) or name not in FAMILIES:
        raise BlockError(
            f"{where}: the model family {name!r} is not supported; a block can come from "
            f"{', '.join(FAMILIES)}"
        )
    return FAMILIES[name]
