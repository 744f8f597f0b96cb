"""Blocks without weights: their shapes alone, for counting parameters."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch

from medvision.llm import block_cache as cache
from medvision.llm.block import RowBlock, resolve_config
from medvision.llm.configs import read_config
from medvision.llm.errors import BlockError
from medvision.llm.families import FAMILIES, row_of
from medvision.llm.frozen import FrozenBlock
from medvision.llm.layer_index import Layer, as_written, from_zero
from medvision.llm.native_block import NativeBlock
from medvision.llm.sources import locate, open_checkpoint
from medvision.llm.stacks import open_stack

_BERT_BASE = MappingProxyType(
    {
        "model_type": "bert",
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
    }
)
# The paper's language models by their hub ids, as their config.json files state them: for tables
# and estimates, and where no configuration is at hand. What is built asks the checkpoint.
PAPER_CONFIGS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "meta-llama/Llama-3.1-8B": {
            "model_type": "llama",
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "num_hidden_layers": 32,
            "rms_norm_eps": 1e-5,
        },
        "dmis-lab/biobert-base-cased-v1.2": _BERT_BASE,
        "emilyalsentzer/Bio_ClinicalBERT": _BERT_BASE,
        "microsoft/biogpt": {
            "model_type": "biogpt",
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_attention_heads": 16,
            "num_hidden_layers": 24,
        },
    }
)


def empty_block(
    source: str, layer: Layer = -1, *, final_norm: bool = True, known: bool = False
) -> FrozenBlock:
    """The block that `load_block` would give, on the meta device: shapes and no weights.

    Only its configuration is read: from the cache of blocks, otherwise from the checkpoint.

    Args:
        known: take the paper's own checkpoints from `PAPER_CONFIGS`, without cache or network.
            Without it that is done only where the checkpoint cannot be reached.

    Raises:
        BlockError: nothing there, nothing supported, or a layer that the model does not have.
        medvision.assets.AssetError: an asset that has not been fetched.
    """
    table = PAPER_CONFIGS.get(source)
    if known and table is not None:
        raw, where = table, source
    elif stored := cache.find(cache.key(locate(source), as_written(layer))):
        with torch.device("meta"):
            if stored.native:
                return NativeBlock(stored.config, stored.layers, final_norm=final_norm)
            return RowBlock(
                FAMILIES[stored.family], stored.config, stored.layers, final_norm=final_norm
            )
    else:
        raw, where = _config(source, table)
    family = row_of(raw, where)
    if family is None:
        stack = open_stack(raw, where)
        layers = from_zero(as_written(layer), len(stack.layers), where)
        with torch.device("meta"):
            return NativeBlock(stack.config(), layers, final_norm=final_norm)
    layers = from_zero(as_written(layer), raw["num_hidden_layers"], where)
    config = resolve_config(family, raw, layers, where)
    with torch.device("meta"):
        return RowBlock(family, config, layers, final_norm=final_norm)


def _config(source: str, table: Mapping[str, Any] | None) -> tuple[Mapping[str, Any], str]:
    """The checkpoint's configuration, or `table` where it cannot be reached, and what to call it in
    messages.
    """
    try:
        checkpoint = open_checkpoint(locate(source))
        return read_config(checkpoint), checkpoint.where
    except BlockError:
        if table is None:
            raise
        return table, source
