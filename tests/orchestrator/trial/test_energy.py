"""Energy: NVML's counter where there is one, nothing elsewhere."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from orchestrator.trial.energy import joules


class Nvml:
    """Answers as NVML does: 0 is success, values come back through pointers."""

    def __init__(self, error: int = 0) -> None:
        self.error = error
        self.asked: list[bytes] = []

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, handle: Any) -> int:
        self.asked.append(uuid)
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: ctypes.c_void_p, value: Any) -> int:
        value._obj.value = 12_500
        return self.error


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="12ab")
    )
    return torch.device("cuda", 0)


def test_a_gpu_tells_its_energy_in_joules(gpu: torch.device) -> None:
    nvml = Nvml()
    assert joules(gpu, nvml) == 12.5
    assert nvml.asked == [b"GPU-12ab"]


def test_without_a_counter_nothing_is_told(gpu: torch.device) -> None:
    assert joules(gpu, Nvml(error=3)) is None
    assert joules(gpu, object()) is None  # an NVML without these functions
    assert joules(torch.device("cpu")) is None
