"""What the machines of a cluster hold, now and once it has grown; a trial that none can ever hold
is refused at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import torch
import yaml

from orchestrator.executors.base import ClusterError
from orchestrator.executors.lanes.scheduler import capacity, impossible
from orchestrator.spec.resources import WorkerResources
from orchestrator.spec.study import Spec
from record.events import Emit, Message, WaitsForMachines

HEAD_RESOURCE = "node:__internal_head__"  # Ray's own, one per cluster
BOOTSTRAP = Path(
    "~/ray_bootstrap_config.yaml"
)  # `ray up` leaves its configuration here on the head
KINDS = ("CPU", "GPU")
SPREAD = (
    "Such a trial sends its gradients, four bytes a trained parameter, between machines in every "
    "step; with a large model that can take longer than one worker would."
)
WAITS = "Such trials wait for machines that can hold them"


def nodes() -> list[dict[str, float]]:
    """CPUs and GPUs of every living machine."""
    living = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [{kind: float(node.get(kind, 0)) for kind in KINDS} for node in living]


def with_gpus(spec: Spec, emit: Emit) -> Spec:
    """The spec with what `gpus_per_worker: auto` stands for on these machines; says so, and where
    GPUs are there that no trial asks for.
    """
    # a torch without CUDA, as on many a laptop, has no use for them
    there = sum(machine["GPU"] for machine in nodes()) if torch.version.cuda else 0
    resources = spec.resources.with_gpus(there > 0)
    if there and spec.resources.asks_for_auto:
        emit(Message(f"The machines have {there:g} GPUs, and each worker gets one."))
    used = [resources.gpus_per_worker, *(shape.gpus_per_worker for shape in resources.shapes)]
    if there and not any(used):
        emit(
            Message(
                f"{there:g} GPUs lie idle: resources.gpus_per_worker is 0. `auto` gives one to "
                "each worker."
            )
        )
    return spec.model_copy(update={"resources": resources})


def is_our_own() -> bool:
    """Whether this process started its Ray, which then never grows."""
    node = ray._private.worker._global_node
    return node is not None and bool(node.head)


def check_shapes(shapes: Sequence[WorkerResources], max_lanes: int | None, emit: Emit) -> None:
    """Say at once what no machine can hold: an event `waiting` where a machine that can may still
    come, else an error.

    Raises:
        ClusterError: with the shape and what the machines hold.
    """
    now, ours = nodes(), is_our_own()
    grows = max_lanes is not None and not ours
    remedy = "Lower resources.workers, cpus_per_worker or gpus_per_worker"
    grown = machines_of_ray_up() if grows else None
    for shape in shapes:
        problem = impossible([shape], now)
        if problem is None:
            if shape.workers > 1 and not any(_holds_all(machine, shape) for machine in now):
                emit(Message(f"No machine holds {shape} alone. {SPREAD}"))
            continue
        if not grows:
            other = "" if ours else ", or set resources.max_lanes for a cluster that grows"
            raise ClusterError(f"{problem}. {remedy}{other}")
        if grown is not None and (never := impossible([shape], grown(shape))):
            raise ClusterError(f"{never}, with all that `ray up` may start ({BOOTSTRAP}). {remedy}")
        emit(WaitsForMachines(f"{problem}. {WAITS}"))


def _holds_all(machine: Mapping[str, float], shape: WorkerResources) -> bool:
    return all(machine[kind] >= shape.workers * each for kind, each in shape.worker.items())


def machines_of_ray_up() -> Callable[[WorkerResources], list[dict[str, float]]] | None:
    """The machines of the grown cluster, chosen so that they hold most of a shape; None where
    it is not known what may come.

    The configuration of `ray up` says so, and is read on the head only: on another machine it would
    be another cluster's.
    """
    here = ray.get_runtime_context().get_node_id()
    if not any(
        HEAD_RESOURCE in node["Resources"] for node in ray.nodes() if node["NodeID"] == here
    ):
        return None
    try:
        config = yaml.safe_load(BOOTSTRAP.expanduser().read_text(encoding="utf-8"))
        types, most = dict(config["available_node_types"]), int(config["max_workers"])
        head, workers = _held(types.pop(config["head_node_type"])), list[dict[str, float]]()
        for kind in types.values():
            count = min(most, kind.get("max_workers", most))
            if (
                count and not kind["resources"]
            ):  # such a machine reports what it has when it is there
                return None
            workers += [_held(kind)] * count
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return None

    def grown(shape: WorkerResources) -> list[dict[str, float]]:
        return [head, *sorted(workers, key=lambda machine: -capacity(shape, machine))[:most]]

    return grown


def _held(kind: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(kind["resources"].get(name, 0)) for name in KINDS}
