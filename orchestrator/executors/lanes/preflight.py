"""What the other machines of a cluster need: this checkout's code, the same versions, the storage
and the data.

The code travels with a run. Data and weights do not: every machine has them, or fetches them once.
`check_machines` asks those that are there at the start, `problems_of_lane` those that come later,
when a lane's process starts on them.
"""

from __future__ import annotations

import importlib.metadata
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from medvision.assets import ASSETS, AssetError, fetch
from medvision.cache import alone
from medvision.data.embedded import TASK_NAME, write_embedded_task
from orchestrator.executors.base import ClusterError
from orchestrator.planning.inputs import EMBEDDED, data_root
from orchestrator.spec.study import Spec
from record import paths
from record.events import Emit, WaitsForMachines
from record.local_files import cache_root
from record.manifest import Needs
from record.store import Store, StoreError

ROOMS = ("medvision", "orchestrator", "record", "reports")
VERSIONS = (
    "ray",
    "torch",
    "numpy",
)  # what a mixture of changes numbers, or breaks the messages between machines
LOOK_SECONDS = 300.0  # a machine may have to fetch an asset first


def runtime_env(variables: Mapping[str, str]) -> dict[str, Any]:
    """Ray's runtime environment: the packages of this checkout, before those installed on a
    machine, and settings of Ray's.
    """
    root = Path(__file__).resolve().parents[3]
    modules = [str(root / room) for room in ROOMS]
    return {"py_modules": modules, "excludes": ["__pycache__"], "env_vars": dict(variables)}


def check_machines(spec: Spec, store: Store, emit: Emit) -> None:
    """Let every other living machine fetch what it lacks, and say before the start
    what is wrong with each of them.

    Needs a connected Ray and a study that is written. A machine that is lost meanwhile is not
    a problem of this check, and one that does not answer in time is only reported, as an event
    `waiting`: its lanes ask again.

    Raises:
        ClusterError: one line per machine and problem.
    """
    mine = ray.get_runtime_context().get_node_id()
    others = {
        node["NodeID"]: node["NodeManagerAddress"]
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] != mine
    }
    wanted = Needs(
        uri=store.uri,
        root=str(data_root(spec)),
        embedded=spec.data.root == EMBEDDED,
        assets=sorted(
            {llm.source for model in spec.models if (llm := model.block) and llm.source in ASSETS}
        ),
        versions={name: importlib.metadata.version(name) for name in VERSIONS},
    )
    store.save(paths.NEEDS, wanted)
    look = ray.remote(problems_here)
    requests = {
        look.options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        ).remote(wanted): f"{address} (Ray's node {node[:12]})"
        for node, address in others.items()
    }
    answered, silent = (
        ray.wait(list(requests), num_returns=len(requests), timeout=LOOK_SECONDS)
        if requests
        else ([], [])
    )
    for answer in silent:
        reason = (
            f"{requests[answer]} has not answered within {LOOK_SECONDS:.0f} s. Its first trials "
            "look again what it lacks"
        )
        emit(WaitsForMachines(reason))
    found = []
    for answer in answered:
        try:
            found += ray.get(answer)
        except (ray.exceptions.RayTaskError, ray.exceptions.RuntimeEnvSetupError) as error:
            found.append(
                f"{requests[answer]} cannot look what it has: {str(error).strip().splitlines()[-1]}"
            )
        except ray.exceptions.RayError:
            continue  # it was lost; the lanes of one that comes back ask again
    if found:
        raise ClusterError("\n".join(found))


def problems_of_lane(uri: str) -> list[str]:
    """What the machine of this process lacks for a study whose driver has asked `check_machines`;
    cheap where all is there.
    """
    if problems := _unseen(uri):
        return problems
    wanted = Store(uri).load(paths.NEEDS, Needs)
    return problems_here(wanted) if wanted else []


def _unseen(uri: str) -> list[str]:
    here = socket.gethostname()
    try:
        if Store(uri).read(paths.STUDY) is None:
            return [
                f"{here} does not see {uri}: set storage to a folder that all machines share, or "
                "to s3://"
            ]
    except (StoreError, OSError) as error:
        return [f"{here} cannot read {uri}: {error}"]
    return []


def problems_here(wanted: Needs) -> list[str]:
    """What this machine lacks for a study, as lines that name it; fetches assets where they are
    missing.
    """
    here = socket.gethostname()
    problems = []
    for name, version in wanted.versions.items():
        if (installed := importlib.metadata.version(name)) != version:
            problems.append(
                f"{here} has {name} {installed}, the driver {version}: install the same "
                "constraints.txt"
            )
    problems += _unseen(wanted.uri)
    root = wanted.root
    try:
        with alone(
            cache_root() / "assets"
        ):  # lanes that start together on a new machine fetch once
            for asset in wanted.assets:
                fetch(asset)
            there = Path(root, TASK_NAME, "dataset.json").is_file()
            if wanted.embedded and not there and (own := str(write_embedded_task())) != root:
                problems.append(
                    f"{here} keeps its cache under {own}, the driver under {root}: set "
                    "MEDVISION_CACHE alike"
                )
    except (AssetError, OSError) as error:
        problems.append(f"{here}: {error}")
    if not Path(root).is_dir() and not wanted.embedded:
        problems.append(
            f"{here} has no data at {root}: fetch the tasks there, to the same path, or share the "
            "folder"
        )
    return problems
