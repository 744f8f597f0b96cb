"""What differs between the families of language models: names of classes, tensors and settings.

The layers themselves are transformers' own classes, looked up by these names; no layer is
reimplemented here. A family without a row is built by `medvision.llm.stacks`; a row is needed for
GGUF files and Meta's, and keeps the fingerprints that its blocks have. No other module asks for a
family by its name: whatever is particular to a family is in its row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
_GEMMA2_27B_LAYERS = 46


def _gemma2_query_scale(config: Mapping[str, Any]) -> dict[str, Any]:
    """Gemma-2's scale of the queries, which GGUF does not store.

    As in llama.cpp it is the width of a head, or hidden size over heads for the 27B model.
    """
    if not {"hidden_size", "num_attention_heads"} <= config.keys():
        return {}
    per_head = config["hidden_size"] // config["num_attention_heads"]
    big = config.get("num_hidden_layers") == _GEMMA2_27B_LAYERS
    return {"query_pre_attn_scalar": per_head if big else config.get("head_dim", per_head)}


@dataclass(frozen=True)
class Family:
    """One family, as transformers and the checkpoints spell it.

    Attributes:
        name: its `model_type` and transformers' folder.
        title: how transformers' classes of it begin.
        marks: keys that a configuration without `model_type` is known by.
        prefixes: what may come before a tensor's name.
        layers: name of the list of layers in the checkpoint.
        layer_class: how the class of a layer ends.
        norm: name of the final norm in the checkpoint; None where the model has none.
        norm_class: class of the final norm: a module's `<title>RMSNorm`, or torch's `LayerNorm`.
        norm_offset: what the norms add to their weight before they multiply by it. GGUF stores the
            sum.
        rotary: has a rotary position embedding.
        windowed: every layer slides the configuration's `sliding_window` (others say it for each
            layer, or have none).
        attention: path of the attention in a layer.
        projections: paths of q, k, v and o in a layer.
        eager: attention cannot run through `scaled_dot_product_attention`.
        gated: the feed-forward part has three matrices, not two.
        fields: settings of the checkpoint's configuration that can change a layer's numbers. Only
            they are kept with a block and enter its fingerprint, so neither vocabulary nor token
            ids nor dropout do.
        gguf: its architecture's name in GGUF files; None where there are no such files.
        gguf_permuted: GGUF stores query and key rows as neighbouring pairs.
        gguf_settings: settings that GGUF does not store, from those that it does.
        meta_mark: key by which Meta's params.json is known to be of this family; `""` stands for
            every one without another family's key, None for a family without such checkpoints.
    """

    name: str
    title: str
    marks: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ("model.", "")
    layers: str = "layers"
    layer_class: str = "DecoderLayer"
    norm: str | None = "norm"
    norm_class: str = "RMSNorm"
    norm_offset: int = 0
    rotary: bool = True
    windowed: bool = False
    attention: str = "self_attn"
    projections: Mapping[str, str] = field(default_factory=lambda: _SELF_ATTENTION)
    eager: bool = False
    gated: bool = True
    fields: tuple[str, ...] = tuple(_DECODER.split())
    gguf: str | None = None
    gguf_permuted: bool = False
    gguf_settings: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda config: {}
    meta_mark: str | None = None

    @property
    def module(self) -> str:
        """Import path of transformers' modelling module."""
        return f"transformers.models.{self.name}.modeling_{self.name}"


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("llama", "Llama", gguf="llama", gguf_permuted=True, meta_mark=""),
        # GGUF files of Mistral say llama.
        Family("mistral", "Mistral", windowed=True, gguf="llama", meta_mark="hidden_dim"),
        Family("qwen2", "Qwen2", gguf="qwen2"),
        Family("qwen3", "Qwen3", gguf="qwen3"),
        Family(
            "gemma2",
            "Gemma2",
            norm_offset=1,
            gguf="gemma2",
            gguf_settings=_gemma2_query_scale,
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
            marks=("type_vocab_size",),  # the first BERT checkpoints name no type
            gguf="bert",
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
            norm_class="LayerNorm",
            rotary=False,
            gated=False,
            projections=MappingProxyType({**_SELF_ATTENTION, "o": "self_attn.out_proj"}),
            # BioGPT's layers ignore layer_norm_eps and keep PyTorch's 1e-5.
            fields=("hidden_size", "intermediate_size", "num_attention_heads", "hidden_act"),
        ),
    )
}


def row_of(config: Mapping[str, Any], where: str) -> Family | None:
    """The family that a checkpoint's configuration names; None for one without a row here, whose
    layers transformers builds by itself.

    Raises:
        BlockError: the configuration names none.
    """
    name = config.get("model_type")
    if name is None:
        architectures = " ".join(map(str, config.get("architectures") or ()))
        families = FAMILIES.values()
        titled = [family.name for family in families if architectures.startswith(family.title)]
        marked = [family.name for family in families if config.keys() & set(family.marks)]
        name = next(iter(titled + marked), None)
    if not isinstance(name, str):
        raise BlockError(
            f"{where}: the configuration names no model family (model_type is {name!r}), and is "
            f"none of {', '.join(FAMILIES)} by its keys"
        )
    return FAMILIES.get(name)


def gguf_family(architecture: object, where: str) -> Family:
    """The family whose layers a GGUF file of this architecture holds.

    Raises:
        BlockError: another architecture.
    """
    by_name: dict[str, list[Family]] = {}
    for family in FAMILIES.values():
        if family.gguf is not None:
            by_name.setdefault(family.gguf, []).append(family)
    if not isinstance(architecture, str) or architecture not in by_name:
        *most, last = (
            name + "".join(f" ({other.title} too)" for other in others)
            for name, (_, *others) in by_name.items()
        )
        raise BlockError(
            f"{where}: the GGUF architecture {architecture!r} is not supported; "
            f"{', '.join(most)} and {last} are"
        )
    return by_name[architecture][0]


def meta_family(params: Mapping[str, Any]) -> Family:
    """The family that a params.json in Meta's layout is of."""
    families = [family for family in FAMILIES.values() if family.meta_mark is not None]
    marked = [family for family in families if family.meta_mark in params]
    return (marked or [family for family in families if not family.meta_mark])[0]
