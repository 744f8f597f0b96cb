"""The official networks as plain tensor algebra, for `test_official_networks.py`.

Written from what was read in the official code at commit 1b951b5. Its BERT and BioGPT models do not
run as they are; what stands here for them is the official MedVisionLlama with their layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

IMAGE, PATCH, WIDTH, HEADS = (8, 16, 8), (4, 8, 4), 16, 2
LLM = {
    "vocab_size": 20,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "max_position_embeddings": 64,
}
PLAIN = ("ViT_Baseline", "ViT_Depth", "ViT_MLP")
WITH_BLOCK = {
    "MedVisionLlama": "llama",
    "MedVisionLlama_Frozen": "llama",
    "MedVision_BioBERT": "bert",
    "MedVision_BioGPT": "biogpt",
    "MedVision_ClinicalBERT": "bert",
}
Weights = Mapping[str, torch.Tensor]


def part(weights: Weights, prefix: str) -> dict[str, torch.Tensor]:
    """The weights below a prefix, in double precision."""
    return {
        name.removeprefix(prefix): value.detach().double()
        for name, value in weights.items()
        if name.startswith(prefix)
    }


def layer_norm(x: torch.Tensor, w: Weights, name: str, eps: float = 1e-5) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def affine(x: torch.Tensor, w: Weights, name: str) -> torch.Tensor:
    y = x @ w[f"{name}.weight"].T
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def gelu(x: torch.Tensor) -> torch.Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, pairs: list[tuple[int, int]]
) -> torch.Tensor:
    """Query head i over key/value head j, for each pair; all [B, T, heads, size]."""
    mixed = []
    for own, other in pairs:
        scores = q[:, :, own] @ k[:, :, other].transpose(1, 2) / math.sqrt(q.shape[-1])
        weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
        mixed.append(weights @ v[:, :, other])
    return torch.cat(mixed, -1)


def split(x: torch.Tensor, size: int) -> torch.Tensor:
    return x.reshape(*x.shape[:2], -1, size)


def vit_block(x: torch.Tensor, w: Weights) -> torch.Tensor:
    y = layer_norm(x, w, "norm1")
    q, k, v = (split(one, WIDTH // HEADS) for one in affine(y, w, "attention.qkv").chunk(3, -1))
    own = [(head, head) for head in range(HEADS)]
    x = x + affine(attend(q, k, v, own), w, "attention.projection")
    hidden = gelu(affine(layer_norm(x, w, "norm2"), w, "mlp.0"))
    return x + affine(hidden, w, "mlp.3")


def llama_layer(x: torch.Tensor, w: Weights) -> torch.Tensor:
    """Without positions and mask; the 4 key/value heads are tiled over the 8 query heads."""

    def normed(x: torch.Tensor, weight: torch.Tensor | float) -> torch.Tensor:
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6) * weight

    y, size = normed(x, w["input_layernorm.weight"]), 32 // 8
    q, k, v = (split(affine(y, w, f"self_attn.{one}_proj"), size) for one in "qkv")
    x = x + affine(attend(q, k, v, [(i, i % 4) for i in range(8)]), w, "self_attn.o_proj")
    y = normed(x, w["post_attention_layernorm.weight"])
    gate = affine(y, w, "mlp.gate_proj")
    x = x + affine(gate * torch.sigmoid(gate) * affine(y, w, "mlp.up_proj"), w, "mlp.down_proj")
    return normed(x, 1.0)


def bert_layer(x: torch.Tensor, w: Weights) -> torch.Tensor:
    q, k, v = (split(affine(x, w, f"attention.self.{one}"), 4) for one in ("query", "key", "value"))
    mixed = affine(attend(q, k, v, [(i, i) for i in range(8)]), w, "attention.output.dense")
    x = layer_norm(x + mixed, w, "attention.output.LayerNorm", 1e-12)
    hidden = gelu(affine(x, w, "intermediate.dense"))
    return layer_norm(x + affine(hidden, w, "output.dense"), w, "output.LayerNorm", 1e-12)


def biogpt_layer(x: torch.Tensor, w: Weights) -> torch.Tensor:
    y = layer_norm(x, w, "self_attn_layer_norm")
    q, k, v = (split(affine(y, w, f"self_attn.{one}_proj"), 4) for one in "qkv")
    x = x + affine(attend(q, k, v, [(i, i) for i in range(8)]), w, "self_attn.out_proj")
    hidden = gelu(affine(layer_norm(x, w, "final_layer_norm"), w, "fc1"))
    x = x + affine(hidden, w, "fc2")
    start = {"norm.weight": torch.ones(32).double(), "norm.bias": torch.zeros(32).double()}
    return layer_norm(x, start, "norm")


LAYERS: dict[str, tuple[Callable[[torch.Tensor, Weights], torch.Tensor], str]] = {
    "llama": (llama_layer, "model.layers.1."),
    "bert": (bert_layer, "bert.encoder.layer.1."),
    "biogpt": (biogpt_layer, "biogpt.layers.1."),
}


def mapped(x: torch.Tensor, w: Weights) -> torch.Tensor:
    """A plain linear map, or loralib's: rank 4, its default alpha of 1."""
    if "weight" in w:
        return x @ w["weight"].T
    low = x @ w["lora_A.default.weight"].T @ w["lora_B.default.weight"].T
    return x @ w["base_layer.weight"].T + w["base_layer.bias"] + low / 4


def official(
    weights: Weights, image: torch.Tensor, depth: int, layer: Callable[[Any], Any] | None = None
) -> torch.Tensor:
    """What the official module puts through its sigmoid, [B, 1, X, Y, Z]."""
    w = part(weights, "")
    blocks = image.double()
    for axis, size in enumerate(PATCH, start=2):
        blocks = blocks.unfold(axis, size, size)
    grid = blocks.shape[2:5]
    patches = blocks.reshape(len(image), math.prod(grid), -1)
    x = patches @ w["embedding.weight"].flatten(1).T + w["embedding.bias"]
    if layer is not None:
        x = mapped(x, part(w, "bridge.mapper1."))
        x = layer(x) + x
        x = mapped(x, part(w, "bridge.mapper2."))
    x = x + w["positions"]
    for index in range(depth):
        x = vit_block(x, part(w, f"blocks.{index}."))
    extra = part(w, "extra_mlp.")
    for index in range(0, len(extra), 2):
        x = affine(x if index == 0 else gelu(x), extra, str(index))
    y = affine(x, w, "head").reshape(len(image), *grid, *PATCH)
    return y.permute(0, 1, 4, 2, 5, 3, 6).reshape(len(image), 1, *IMAGE)
