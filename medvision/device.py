"""The device that a person names, the way to it, and the precision of what runs on it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from medvision.errors import DataError
from medvision.settings import Precision

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
        raise DataError(
            f"--device {name}: cannot be used here: {str(error).splitlines()[0]}"
        ) from error
    return device


def make_deterministic() -> None:
    """Let this process compute the same numbers each time, on a GPU as far as torch has
    deterministic algorithms (it warns where it has none), and in full float32: without TF32, which
    cuDNN would use by default and cuBLAS would not.
    """
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Nothing here reads memory that was not written, and filling it takes a kernel each time.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def moved(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The values on the device. A GPU takes them from pinned memory, so that the CPU need not wait
    for the work before.
    """
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """A context in which matrix products run in `precision`, the same in training, prediction and
    activation maps; parameters stay float32.
    """
    import torch

    kind = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, kind, enabled=precision != "fp32")
