"""What tiled key/value heads do to a frozen block: `python -m
benchmarks.tiled_heads [SOURCE]`.

The official code tiles the key/value heads over the query heads (i mod K), where the weights need
each one beside its group (i // (H / K)). Both are computed with the same weights on random tokens,
and beside each what plain tensor algebra makes of the checkpoint's own tensors.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch.nn import functional as F

from medvision.assets import AssetError
from medvision.llm.errors import BlockError
from medvision.llm.frozen import FrozenBlock
from medvision.models.language.bridge import open_block
from medvision.models.language.settings import LlmSettings
from record.command import begin_command

TOKENS = 512


def main() -> None:
    """Print the root mean squares."""
    begin_command()
    parser = argparse.ArgumentParser(description="What tiled key/value heads do to a Llama block.")
    parser.add_argument(
        "source",
        nargs="?",
        default="smollm2-135m",
        help="folder, file, asset or Hugging Face id of a checkpoint (smollm2-135m)",
    )
    source = parser.parse_args().source
    try:
        grouped, tiled = (
            open_block(LlmSettings.model_validate({"source": source, "kv_pairing": pairing}))[0]
            for pairing in ("grouped", "tiled")
        )
    except (AssetError, BlockError, ValueError) as error:
        parser.error(" ".join(str(error).split()))
    if not isinstance(grouped, FrozenBlock):
        parser.error(f"{source} has no layers that are loaded")
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(1, TOKENS, grouped.hidden_size, generator=generator)
    heads, kv_heads = grouped.heads, grouped.kv_heads
    group = heads // kv_heads
    own = sum(head % kv_heads == head // group for head in range(heads))
    with torch.no_grad():
        outputs = {"grouped": grouped(tokens), "tiled": tiled(tokens)}
        plain = {
            "grouped": _by_formula(grouped, tokens, [head // group for head in range(heads)]),
            "tiled": _by_formula(grouped, tokens, [head % kv_heads for head in range(heads)]),
        }
    print(f"{source}: {heads} query heads, {kv_heads} key/value heads; tiled, {own} meet their own")
    print(f"RMS of the output: {_rms(outputs['grouped']):.3g}")
    difference = _rms(outputs["tiled"] - outputs["grouped"])
    print(f"RMS of the difference, tiled and grouped: {difference:.3g}")
    for name, output in outputs.items():
        print(f"RMS of the difference, {name} and its formula: {_rms(output - plain[name]):.2g}")


def _rms(values: torch.Tensor) -> float:
    return float(values.double().square().mean().sqrt())


def _by_formula(block: FrozenBlock, x: torch.Tensor, pairs: list[int]) -> torch.Tensor:
    """A Llama layer without positions and mask, query head i over key/value head pairs[i], and the
    final norm.
    """
    layer: Any = block.layers[0]
    norm, attention, mlp = block.norm, layer.self_attn, layer.mlp

    def normed(x: torch.Tensor, of: Any) -> torch.Tensor:
        eps = of.variance_epsilon
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * of.weight

    y = normed(x, layer.input_layernorm)
    q, k, v = (
        F.linear(y, projection.weight).view(*x.shape[:2], -1, attention.head_dim)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    mixed = [
        (q[:, :, head] @ k[:, :, other].mT / attention.head_dim**0.5).softmax(-1) @ v[:, :, other]
        for head, other in enumerate(pairs)
    ]
    x = x + F.linear(torch.cat(mixed, -1), attention.o_proj.weight)
    y = normed(x, layer.post_attention_layernorm)
    gate = F.silu(F.linear(y, mlp.gate_proj.weight)) * F.linear(y, mlp.up_proj.weight)
    x = x + F.linear(gate, mlp.down_proj.weight)
    return x if norm is None else normed(x, norm)


if __name__ == "__main__":
    main()
