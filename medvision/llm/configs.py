"""A checkpoint's configuration in transformers' terms, whatever its format. No torch, no tensor is
read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medvision.llm.errors import BlockError
from medvision.llm.families import gguf_family, meta_family, row_of
from medvision.llm.quantisation import quantisation, refusal
from medvision.llm.sources import Checkpoint, locate, open_checkpoint

# GGUF's key below its architecture's name -> transformers' name. Shared by all families here.
_GGUF = {
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.layer_norm_epsilon": "layer_norm_eps",
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "context_length": "max_position_embeddings",
    "rope.freq_base": "rope_theta",
}
_NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads")
# What families call their sizes beside transformers' common names.
_OTHER_NAMES = {
    "hidden_size": ("n_embd", "d_model", "dim"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "intermediate_size": ("n_inner", "d_ff", "ffn_dim", "hidden_dim", "ffn_hidden_size"),
}
_MOST = 100_000  # layers, heads or channels: more means a damaged file


def describe_block(source: str | Path) -> dict[str, Any]:
    """What a checkpoint holds, read from its configuration or header alone.

    Args:
        source: as for `load_block`.

    Returns:
        family, hidden_size, layers, heads, kv_heads, head_dim, intermediate_size, gated (whether
        the feed-forward part has three matrices, or else two) and format (safetensors, torch, meta
        or gguf).

    Raises:
        BlockError: nothing there, or nothing supported.
        medvision.assets.AssetError: an asset that has not been fetched.
    """
    checkpoint = open_checkpoint(locate(source))
    raw = read_config(checkpoint)
    family = row_of(raw, checkpoint.where)
    config, name = (raw, family.name) if family else _sizes(raw, checkpoint.where)
    width, heads = config["hidden_size"], config["num_attention_heads"]
    return {
        "family": name,
        "hidden_size": width,
        "layers": config["num_hidden_layers"],
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or width // heads,
        "intermediate_size": config.get("intermediate_size") or 4 * width,
        "gated": family.gated if family else any("rms" in key for key in config),
        "format": checkpoint.layout.format,
    }


def _sizes(raw: Mapping[str, Any], where: str) -> tuple[dict[str, Any], str]:
    """The sizes of a family without a row, and transformers' name of what holds the layers.

    They are read off the file where it states them all, and asked of transformers (and so torch)
    where it leaves some to the defaults.
    """
    inside = raw.get("text_config", raw)
    config = dict(inside) if isinstance(inside, Mapping) else {}
    for name, others in _OTHER_NAMES.items():
        stated = [config[other] for other in (name, *others) if config.get(other) is not None]
        if stated:
            config[name] = stated[0]
    if config.get("num_hidden_groups") == 1:  # ALBERT: the same layers again and again
        config["num_hidden_layers"] = config.get("inner_group_num", 1)
    if "vision_config" not in raw and all(isinstance(config.get(key), int) for key in _NEEDED):
        return config, str(config.get("model_type", raw["model_type"]))
    from medvision.llm.stacks import open_stack

    stack = open_stack(raw, where)
    found = stack.trunk.config
    names = [*_OTHER_NAMES, "num_key_value_heads", "head_dim"]
    sizes = {name: getattr(found, name, None) for name in names}
    return {**stack.config()["settings"], **sizes}, stack.family


def read_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The configuration, with transformers' names; at least the family, and of families with a row
    the sizes, are in it.

    Raises:
        BlockError: unreadable, incomplete, of an unsupported family, or quantised in a way that
            is not read (`medvision.llm.quantised`).
    """
    if checkpoint.layout.format == "gguf":
        config = from_gguf(
            checkpoint.gguf_header.settings, f"{checkpoint.where}/{checkpoint.layout.config}"
        )
    elif checkpoint.layout.format == "meta":
        config = from_meta(checkpoint.json(checkpoint.layout.config), checkpoint.where)
    else:
        config = checkpoint.json(checkpoint.layout.config)
        how = quantisation(config)
        why = refusal(how) if how else ""
        if how and not why and checkpoint.layout.format != "safetensors":
            why = "it is no safetensors file"
        if why:
            raise BlockError(
                f"{checkpoint.where} is quantised in a way that is not read ({why}; "
                f"{str(how)[:200]}): take the original checkpoint, or a GGUF file of it"
            )
    if row_of(config, checkpoint.where) is None:
        return config
    for key in _NEEDED:
        if not isinstance(config.get(key), int) or not 1 <= config[key] <= _MOST:
            raise BlockError(
                f"{checkpoint.where}: {key} is {config.get(key)!r} in {checkpoint.layout.config}"
            )
    return config


def from_meta(params: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Meta's params.json (also Mistral's, which has its layout) in transformers' terms.

    The width of the feed-forward part follows Meta's model code: two thirds of four widths, times
    ffn_dim_multiplier, rounded up to multiple_of; Mistral states it as hidden_dim. Llama 3.1's
    scaled rotary embedding (use_scaled_rope) has a factor of 8 unless rope_scaling_factor says
    otherwise.

    Raises:
        BlockError: a size is missing.
    """
    params = {key: value for key, value in params.items() if value is not None}  # null: not set
    missing = [
        key for key in ("dim", "n_layers", "n_heads") if not isinstance(params.get(key), int)
    ]
    if missing:
        raise BlockError(
            f"{where}: params.json lacks {', '.join(missing)}; is it of a Llama or Mistral "
            "checkpoint?"
        )
    if "moe" in params or params.get("vision_chunk_size") not in (None, 0, -1):
        raise BlockError(
            f"{where}: params.json describes a mixture of experts or an image model; not supported"
        )
    dim, heads = params["dim"], params["n_heads"]
    width = params.get("hidden_dim")
    if width is None:
        multiplier, multiple = (
            params.get("ffn_dim_multiplier") or 1.0,
            params.get("multiple_of", 256),
        )
        if not (_number(multiplier) and isinstance(multiple, int) and multiple > 0):
            raise BlockError(
                f"{where}: params.json says ffn_dim_multiplier {multiplier!r} and multiple_of "
                f"{multiple!r}, of which no width can be made"
            )
        width = math.ceil(int(multiplier * int(2 * 4 * dim / 3)) / multiple) * multiple
    family = meta_family(params)
    config: dict[str, Any] = {
        "model_type": family.name,
        "hidden_size": dim,
        "intermediate_size": width,
        "num_hidden_layers": params["n_layers"],
        "num_attention_heads": heads,
        "num_key_value_heads": params.get("n_kv_heads") or heads,
        "head_dim": params.get("head_dim") or dim // heads,
        "rms_norm_eps": params.get("norm_eps", 1e-5),
        "rope_theta": params.get("rope_theta") or 10000.0,
        "max_position_embeddings": 131072,
    }
    if family.windowed:
        config["sliding_window"] = params.get("sliding_window")
    if params.get("use_scaled_rope"):
        config["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": float(params.get("rope_scaling_factor") or 8.0),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
    return config


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 < value < math.inf


def from_gguf(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """GGUF's settings in transformers' terms.

    Numbers are stored as float32 there; they are rounded back to the seven digits that float32
    holds, so that 1e-5 is the same epsilon in every format.

    Raises:
        BlockError: another architecture.
    """
    architecture = settings.get("general.architecture")
    family = gguf_family(architecture, where)
    if (parts := settings.get("split.count", 1)) not in (0, 1):
        raise BlockError(
            f"{where} is one of {parts} parts: join them with llama-gguf-split --merge"
        )
    config: dict[str, Any] = {"model_type": family.name}
    for key, name in _GGUF.items():
        value = settings.get(f"{architecture}.{key}")
        if value is not None:
            config[name] = float(f"{value:.7g}") if isinstance(value, float) else value
    scaling = settings.get(f"{architecture}.rope.scaling.type", "none")
    if scaling != "none":
        config["rope_scaling"] = {
            "rope_type": scaling,
            "factor": settings.get(f"{architecture}.rope.scaling.factor", 1.0),
            "original_max_position_embeddings": settings.get(
                f"{architecture}.rope.scaling.original_context_length",
                config.get("max_position_embeddings"),
            ),
        }
    return config | family.gguf_settings(config)
