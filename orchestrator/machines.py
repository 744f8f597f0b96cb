"""What the machines of a cluster hold, now and once it has grown; a trial that none can ever hold is refused at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ray
import yaml

from orchestrator.execution import ClusterError, Emit
from orchestrator.packing import Shape, impossible

HEAD_RESOURCE = "node:__internal_head__"  # Ray's own, one per cluster
BOOTSTRAP = Path(
    "~/ray_bootstrap_config.yaml"
)  # where `ray up` leaves its configuration on the head, for the autoscaler
KINDS = ("CPU", "GPU")


def nodes() -> list[dict[str, float]]:
    """CPUs and GPUs of every living machine."""
    living = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [{kind: float(node.get(kind, 0)) for kind in KINDS} for node in living]


def is_our_own() -> bool:
    """Whether this process started its Ray, which then never grows."""
    node = ray._private.worker._global_node
    return node is not None and bool(node.head)


def check_shapes(shapes: Sequence[Shape], max_lanes: int | None, emit: Emit) -> None:
    """Say at once what no machine can hold: an event `waiting` where a machine that can may still come, else an error.

    Raises:
        ClusterError: with the shape and what the machines hold.
    """
    problem, ours = impossible(shapes, nodes()), is_our_own()
    if problem is None:
        return
    remedy = "Lower resources.workers, cpus_per_worker or gpus_per_worker"
    if ours or max_lanes is None:
        grows = "" if ours else ", or set resources.max_lanes for a cluster that grows"
        raise ClusterError(f"{problem}. {remedy}{grows}")
    to_come = machines_to_come()
    if to_come is None:
        emit({"event": "waiting", "reason": f"{problem}. Such trials wait for a machine that can hold them"})
    elif problem := impossible(shapes, [*nodes(), *to_come]):
        raise ClusterError(f"{problem}, with all that `ray up` may start ({BOOTSTRAP}). {remedy}")


def machines_to_come() -> list[dict[str, float]] | None:
    """CPUs and GPUs of the machines that the cluster's autoscaler may start; None where nothing says so.

    The configuration of `ray up` says so, and is read on the head only: on another machine it would be another cluster's.
    """
    here = ray.get_runtime_context().get_node_id()
    if not any(HEAD_RESOURCE in node["Resources"] for node in ray.nodes() if node["NodeID"] == here):
        return None
    try:
        config = yaml.safe_load(BOOTSTRAP.expanduser().read_text())
        types = dict(config["available_node_types"])
        del types[config["head_node_type"]]
        most, coming = config["max_workers"], []
        for kind in types.values():
            held = kind["resources"]
            count = min(most, kind.get("max_workers", most))
            if count and not held:  # such a machine says what it has when it is there
                return None
            coming += [{name: float(held.get(name, 0)) for name in KINDS}] * count
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return None
    return coming
