"""The energy that a GPU has used, where its driver counts it (NVML, since Volta). A GPU shared by
trials counts for each.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch

LIBRARY = "libnvidia-ml.so.1"


def joules(device: torch.device, library: Any = None) -> float | None:
    """Joules since the driver was loaded; None on a CPU, and where NVML or the counter is missing.

    Args:
        library: NVML, by default the driver's.
    """
    if device.type != "cuda":
        return None
    try:
        nvml = library or ctypes.CDLL(LIBRARY)
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
        handle, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
        if (
            nvml.nvmlInit_v2()
            or nvml.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(handle))
            or nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules))
        ):
            return None
        return millijoules.value / 1000
    except (OSError, AttributeError, RuntimeError):
        return None
