"""The Ray that lanes run on: an existing cluster, or one of our own on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ray

from orchestrator.executors.base import ClusterError
from orchestrator.executors.lanes.preflight import runtime_env
from orchestrator.executors.lanes.private import private_ray
from record.command import NO_TELEMETRY, default_variables

# Held by the head only, so that lanes run next to the driver and take no worker's CPU.
LANE_RESOURCE = "lane"
REACHABLE_SECONDS = 10.0
_SETTINGS = NO_TELEMETRY | {
    # a process per lane; the driver itself asks for draining machines
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # `stop_signals` lets the lanes write their checkpoints
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own experiment state is not our record
    "TUNE_MAX_PENDING_TRIALS_PG": "200",
    "RAY_DEDUP_LOGS": "1",
    # A lane starts about seven small processes at once; the default of one a core makes Ray
    # complain of them.
    "RAY_worker_maximum_startup_concurrency": "32",
}


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Ray, started on this machine unless an address (or RAY_ADDRESS) names a cluster.

    A local Ray is always our own (a bare `ray.init` could attach to somebody else's), and nobody
    else's: its folder is the user's alone, its ports are on loopback and ask for a token that only
    the user can read (`orchestrator.executors.lanes.private`).

    Raises:
        ClusterError: no cluster answers at the address, or Ray does not start here.
    """
    default_variables(_SETTINGS)
    address = address or os.environ.get("RAY_ADDRESS")
    with contextlib.ExitStack() as stack:
        if address and address != "local":
            try:
                check_reachable(address)
                quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
                ray.init(address=address, runtime_env=runtime_env(_SETTINGS), **quiet)
            except (OSError, ValueError, ray.exceptions.RayError) as error:
                raise ClusterError(f"no Ray cluster answers at {address}: {error}") from error
        else:
            try:
                ray.init(
                    address="local",
                    resources={LANE_RESOURCE: 10_000},
                    # Train's cleaner asks it which placement groups to give back
                    include_dashboard=True,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    **stack.enter_context(private_ray()),
                )
            except ClusterError:
                raise
            except Exception as error:  # Ray raises RuntimeError and bare Exception, too
                cause = _cause(error)
                raise ClusterError(f"Ray did not start on this machine: {cause}") from error
        stack.callback(ray.shutdown)
        yield


def _cause(error: Exception) -> str:
    """What kept Ray from starting, with what to do, in one line."""
    reason = " ".join(str(error).split())
    temporary = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    if "AF_UNIX path length" in reason:
        folder = os.environ.get(temporary, tempfile.gettempdir())
        return (
            f"{temporary} is {folder}, too long a name for the sockets that Ray makes there (a "
            "socket's path has at most 107 bytes). Set RAY_TMPDIR to a short one, such as /tmp"
        )
    named, errno = str(getattr(error, "filename", None) or ""), getattr(error, "errno", None) or 0
    for name in (temporary, "HOME"):  # sockets and logs; Ray's token, which only its owner reads
        folder = os.environ.get(name, "")
        if folder and named and (named + "/").startswith(folder.rstrip("/") + "/"):
            return (
                f"{name} is {folder}, where Ray has to write {named}: {os.strerror(errno)}. Set "
                f"{name} to a folder that you can write to"
            )
    if any(word in reason.lower() for word in ("timed out", "timeout", "took too long")):
        return f"{reason}. Try again when it is less busy"
    logs = Path(
        os.environ.get(temporary, tempfile.gettempdir()),
        f"mv-{os.getuid()}/ray/session_latest/logs",
    )
    return f"{reason}. Ray's logs are in {logs}"


def check_reachable(address: str) -> None:
    """Fail at once where nobody listens at HOST:PORT; Ray itself would go on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=REACHABLE_SECONDS).close()
