"""Mappers between a transformer's width and a language model's: plain linear, or LoRA through
PEFT.
"""

from __future__ import annotations

from torch import nn

from medvision.llm.halves import widened
from medvision.models.language.settings import LoraSettings, Mapper


def make_mapper(inputs: int, outputs: int, mapper: Mapper, lora: LoraSettings) -> nn.Module:
    """A map [..., inputs] to [..., outputs].

    `linear` is a trained linear layer without bias (the paper's `_Frozen` model). `lora` is a
    frozen base with a trained low-rank part, W x + (alpha / rank) B A x (Hu et al. 2021), where the
    base W keeps torch's own initialisation of a linear layer (Kaiming uniform, drawn from the
    trial's seed; there is nothing pre-trained to put there) and B starts at zero, so that training
    starts from W. The base's bias is frozen, too, unless `lora.bias` says otherwise.
    """
    if mapper == "linear":
        return nn.Linear(inputs, outputs, bias=False)
    base = nn.Linear(inputs, outputs)
    layer = low_rank(base, lora)
    base.bias.requires_grad_(lora.bias == "trained")
    return layer


def low_rank(base: nn.Linear, settings: LoraSettings) -> nn.Module:
    """`base`, frozen, with a trained low-rank part beside it that starts at zero."""
    from peft import LoraConfig
    from peft.tuners.lora import Linear as LoraLinear

    base = widened(base)
    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha)
    layer = LoraLinear(base, "default", config=config, r=settings.rank, lora_alpha=settings.alpha)
    base.requires_grad_(False)
    return layer
