"""Where the processes of a trial meet: on this machine at a file that only its user can reach.

PyTorch's usual meeting point is a server on all of the machine's addresses that asks nobody for
anything (`torch.distributed.TCPStore`). A cluster needs it; one machine does not.
"""

from __future__ import annotations

import os
import socket
import uuid
from typing import Any

import ray
from ray.train.torch import TorchConfig
from ray.train.torch.config import (
    _set_torch_distributed_env_vars,
    _setup_torch_process_group,
    _TorchBackend,
)
from ray.util import get_node_ip_address

from orchestrator.executors.lanes.private import LOOPBACK


def torch_config(backend: str, timeout_s: int) -> TorchConfig:
    """How the processes of a trial find each other, on the Ray that this process is in.

    Args:
        backend: what carries their tensors, such as `gloo`.
        timeout_s: how long one waits for the others.
    """
    kind = AtAFile if get_node_ip_address() == LOOPBACK else TorchConfig
    return kind(backend=backend, timeout_s=timeout_s)


class AtAFile(TorchConfig):
    """They meet at a file in the folder of the Ray of this machine."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _Meeting


class _Meeting(_TorchBackend):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Ray's, with a file in place of an address and a port."""
        file = worker_group.execute_single(0, _file)
        worker_group.execute(stay_on_loopback)
        worker_group.execute(_set_torch_distributed_env_vars)
        ray.get(
            [
                worker_group.execute_single_async(
                    rank,
                    _setup_torch_process_group,
                    backend=backend_config.backend,
                    world_rank=rank,
                    world_size=len(worker_group),
                    init_method=f"file://{file}",
                    timeout_s=backend_config.timeout_s,
                )
                for rank in range(len(worker_group))
            ]
        )


def stay_on_loopback() -> None:
    """Let what this process sends other ranks of its trial go over the loopback interface, unless
    the user named another; by default Gloo and NCCL listen on the address of the machine's name,
    with a single rank as well.
    """
    names = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        if names:
            os.environ.setdefault(variable, names[0])


def _file() -> str:
    """A new name in this Ray's folder."""
    folder = ray._private.worker.global_worker.node.get_session_dir_path()
    return f"{folder}/meeting-{uuid.uuid4().hex}"
