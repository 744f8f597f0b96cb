"""The device that a person names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medvision.data.msd import DataError

if TYPE_CHECKING:
    import torch


def usable_device(name: str) -> torch.device:
    """The device of this name, after a first tensor on it.

    Raises:
        DataError: it cannot be used here.
    """
    import torch

    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # a torch without CUDA asserts
        raise DataError(f"--device {name}: cannot be used here: {str(error).splitlines()[0]}") from error
    return device
