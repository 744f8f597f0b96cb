"""The language-model block inside a vision network, between its two mappers."""

from __future__ import annotations

import torch
from torch import nn

from medvision.llm.errors import BlockError
from medvision.llm.frozen import FrozenBlock
from medvision.models.language.mappers import low_rank, make_mapper
from medvision.models.language.settings import (
    STAND_INS,
    LlmSettings,
    LoraSettings,
    Mapper,
    stand_in_width,
)
from medvision.models.language.shared import shared
from medvision.models.language.stand_ins import LinearStandIn, MlpStandIn


class LanguageBridge(nn.Module):
    """Mapper, language-model block with a residual around it, mapper: [B, T, C] to [B, T, C].

    The block's width comes from its checkpoint. Unless `llm.trainable`, its weights take no
    gradient, but gradients pass through it to the first mapper, and its weights are no part of what
    a trial saves: they are read from the checkpoint (or drawn from `llm.random_seed`) whenever the
    model is built. It always runs in evaluation mode.
    """

    def __init__(
        self, dim: int, block: nn.Module, width: int, mapper: Mapper, lora: LoraSettings
    ) -> None:
        """`block`, of this width, between mappers from and to tokens of the width `dim`."""
        super().__init__()
        self.mapper1 = make_mapper(dim, width, mapper, lora)
        self.block = block
        self.mapper2 = make_mapper(width, dim, mapper, lora)
        for target in lora.block_targets:
            if target not in block.projections:
                raise BlockError(
                    f"lora.targets names {target} of the block, but a layer of {block.family} has "
                    f"no linear map for it alone; it has {', '.join(block.projections) or 'none'}"
                )
            for path in block.projections[target]:
                parent, _, name = path.rpartition(".")
                holder = block.get_submodule(parent)
                setattr(holder, name, low_rank(getattr(holder, name), lora))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.mapper1(tokens)
        return self.mapper2(hidden + self.block(hidden))


def open_block(llm: LlmSettings, *, tokens: int = 1, empty: bool = False) -> tuple[nn.Module, int]:
    """The block and its width, or what a control puts in its place for so many `tokens`.

    `empty`, or on torch's meta device, where only sizes are wanted, no weight is read.

    On the meta device the paper's own checkpoints are known and need no network (`python -m
    medvision.models`).
    """
    from medvision.llm.relative import position_only
    from medvision.llm.shapes import empty_block

    counted = torch.get_default_device().type == "meta"
    if llm.block == "identity":
        return nn.Identity(), empty_block(llm.source, llm.layer, known=counted).hidden_size
    if llm.control in STAND_INS:
        size = empty_block(llm.source, llm.layer, final_norm=llm.final_norm, known=counted)
        if llm.control == "mlp":
            inner = stand_in_width(llm, size.hidden_size, size.active_parameters, tokens)
            return MlpStandIn(size.hidden_size, inner), size.hidden_size
        count = sum(parameter.numel() for parameter in size.parameters())
        inner = stand_in_width(llm, size.hidden_size, count, tokens)
        return LinearStandIn(size.hidden_size, inner), size.hidden_size
    if empty or counted:
        block = empty_block(llm.source, llm.layer, final_norm=llm.final_norm, known=counted)
    elif llm.seeded and llm.random_seed is None:
        # A seed from torch's global state, as all weights that are drawn.
        block = _loaded(llm.drawn(int(torch.randint(2**62, ()))))
    elif llm.trainable:
        block = _loaded(llm)
    else:
        block = shared(llm, _loaded)
    for name, parameter in block.named_parameters():
        # What has no part in the result would wait for a gradient for ever.
        parameter.requires_grad_(llm.trainable and (llm.rope or not position_only(name)))
    return block, block.hidden_size


def _loaded(llm: LlmSettings) -> FrozenBlock:
    """The block out of its checkpoint, with what the settings change of it."""
    from medvision.llm.loading import load_block
    from medvision.llm.scrambled import keep_spectrum, permute_weights

    block = load_block(
        llm.source, llm.layer, rope=llm.rope, causal=llm.causal, final_norm=llm.final_norm
    )
    if llm.seeded:
        seed = int(llm.random_seed or 0)
        if llm.weights == "random":
            block.randomise(seed)
        elif llm.control == "permuted":
            permute_weights(block, seed)
        else:
            keep_spectrum(block, seed)
    if llm.kv_pairing == "tiled":
        block.tile_kv_heads()
    if llm.final_norm_weights == "ones":
        block.reset_final_norm()
    return block if llm.trainable else block.keep_halves()
