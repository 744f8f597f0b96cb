"""Builds a network of one's own, and tries it before anything is trained."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from medvision.models.arithmetic import Layer
from medvision.models.custom.settings import CustomSettings
from medvision.models.sizes import Sizes
from medvision.own_code import OwnCodeError, arguments, check_call, loaded, where

BATCH = 2  # of a trial, as an instance or batch norm may want


class OwnNetwork(nn.Module):
    """The network of somebody's class, with what training asks of every network.

    One without `set_output_bias` gets a bias for each output channel here, trained with the rest;
    one without `checkpointed` has no parts that are computed twice.
    """

    def __init__(self, settings: CustomSettings, sizes: Sizes) -> None:
        super().__init__()
        self.network = _built(settings, sizes)
        parts = getattr(self.network, "checkpointed", ())
        self.checkpointed = tuple(f"network.{name}" for name in parts)
        self.bias = (
            None
            if hasattr(self.network, "set_output_bias")
            else nn.Parameter(torch.zeros(sizes.out_channels))
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits [B, out_channels, X, Y, Z] of images [B, in_channels, X, Y, Z]."""
        logits: torch.Tensor = self.network(image)
        return logits if self.bias is None else logits + self.bias.view(-1, 1, 1, 1)

    def set_output_bias(self, logits: torch.Tensor) -> None:
        """Start output channel g at `logits[g]`, [out_channels]."""
        if self.bias is None:
            self.network.set_output_bias(logits)
        else:
            with torch.no_grad():
                self.bias.copy_(logits)


def counted(settings: CustomSettings, sizes: Sizes) -> Layer:
    """Parameters, and operations of one forward pass of one sample, of a network that is built and
    called on shapes alone, or where it needs values, on zeros.

    Raises:
        OwnCodeError: it cannot be imported, built or called, or gives anything but logits of the
            image's size.
    """
    return _counted(settings.model_dump_json(), sizes)


@functools.lru_cache(maxsize=256)
def _counted(text: str, sizes: Sizes) -> Layer:
    settings = CustomSettings.model_validate_json(text)
    try:
        return _tried(settings, sizes, "meta")
    except OwnCodeError:
        return _tried(settings, sizes, "cpu")  # it may look at values, which meta has not


def _tried(settings: CustomSettings, sizes: Sizes, device: str) -> Layer:
    name, state = settings.network, torch.random.get_rng_state()
    shape = (BATCH, sizes.in_channels, *sizes.image)
    try:
        with torch.device(device):
            model = OwnNetwork(settings, sizes)
            counter = FlopCounterMode(display=False)
            with torch.no_grad(), counter:
                logits = model.network(torch.zeros(shape))  # a bias hides too few channels
    except OwnCodeError:
        raise
    except Exception as error:
        raise OwnCodeError(f"{name}: given images {list(shape)}: {where(error)}") from error
    finally:
        torch.random.set_rng_state(state)
    expected = (BATCH, sizes.out_channels, *sizes.image)
    if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != expected:
        found = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise OwnCodeError(
            f"{name}: given images {list(shape)} (batch, in_channels, X, Y, Z) it returned "
            f"{found}, expected logits {list(expected)} (batch, out_channels, X, Y, Z)"
        )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Layer(parameters, counter.get_total_flops() / BATCH)


def _built(settings: CustomSettings, sizes: Sizes) -> Any:
    """The network itself.

    Raises:
        OwnCodeError: as `loaded`; a class that takes other arguments, or makes no torch module.
    """
    name = settings.network
    make = loaded(name, settings.files)
    given = {
        "in_channels": sizes.in_channels,
        "out_channels": sizes.out_channels,
        "image_size": sizes.image,
        "patch_size": sizes.patch,
    }
    if twice := sorted(given.keys() & settings.settings.keys()):
        raise OwnCodeError(f"{name}: {', '.join(twice)} is given by the study, not in `settings`")
    taken = arguments(name, make, given, required=("in_channels", "out_channels"))
    check_call(name, make, taken | settings.settings)
    network = make(**taken, **settings.settings)
    if not isinstance(network, nn.Module):
        raise OwnCodeError(f"{name}: made {type(network).__name__}, not a torch.nn.Module")
    return network
