"""What a trial's process uses, measured at the end of each epoch; MLflow shows these as system
metrics.
"""

from __future__ import annotations

import psutil
import torch

MIB = 2**20


class SystemMetrics:
    """Called once an epoch: mean CPU use since the last call, memory now, and the GPU where there
    is one.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.process = device, psutil.Process()
        self.process.cpu_percent()  # the first call only starts the measurement

    def __call__(self) -> dict[str, float]:
        """`system/...` by name: percent of one core, MiB, and on CUDA the MiB that torch has taken
        at most.
        """
        measured = {
            "system/cpu_percent": self.process.cpu_percent(),
            "system/memory_rss_mib": self.process.memory_info().rss / MIB,
        }
        if self.device.type == "cuda":
            measured["system/gpu_memory_peak_mib"] = (
                torch.cuda.max_memory_allocated(self.device) / MIB
            )
            measured["system/gpu_memory_mib"] = torch.cuda.memory_allocated(self.device) / MIB
            free, total = torch.cuda.mem_get_info(self.device)
            measured["system/gpu_memory_all_processes_mib"] = (total - free) / MIB
        return measured
