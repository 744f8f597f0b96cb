"""What machines hold and will hold: Ray's answers are stood in for; `test_real_parts` asks a real
cluster.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.executors.base import ClusterError
from orchestrator.executors.lanes import machines
from orchestrator.executors.lanes.machines import (
    HEAD_RESOURCE,
    check_shapes,
    machines_of_ray_up,
    with_gpus,
)
from orchestrator.spec.resources import WorkerResources
from orchestrator.spec.study import Spec

ROOT = Path(__file__).parents[3]
GPU, WIDE, TOO_WIDE, HUGE = (
    WorkerResources(1, 8, 1.0),
    WorkerResources(8, 8, 1.0),
    WorkerResources(9, 8, 1.0),
    WorkerResources(1, 512, 0.0),
)


class Ray:
    """A head without CPUs, on which this process runs, and nothing else yet."""

    def __init__(self, resources: dict[str, float]) -> None:
        self.resources = resources

    def nodes(self) -> list[dict[str, Any]]:
        dead = {"NodeID": "dead", "Alive": False, "Resources": {"CPU": 1024.0}}
        return [{"NodeID": "head", "Alive": True, "Resources": self.resources}, dead]

    def get_runtime_context(self) -> Ray:
        return self

    def get_node_id(self) -> str:
        return "head"


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Ray:
    found = Ray({HEAD_RESOURCE: 1.0})
    monkeypatch.setattr(machines, "ray", found)
    monkeypatch.setattr(machines, "is_our_own", lambda: False)
    return found


def test_the_machines_that_ray_up_may_start_are_those_of_its_file(
    head: Ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grown(text: str) -> list[dict[str, float]] | None:
        (tmp_path / "bootstrap.yaml").write_text(text)
        monkeypatch.setattr(machines, "BOOTSTRAP", tmp_path / "bootstrap.yaml")
        found = machines_of_ray_up()
        return found and found(GPU)

    text = (ROOT / "cluster.yaml").read_text()
    config = yaml.safe_load(text)
    assert grown(text) == [
        {"CPU": 0.0, "GPU": 0.0},
        *[{"CPU": 8.0, "GPU": 1.0}] * config["max_workers"],
    ]
    head.resources = {"CPU": 4.0}  # not the head: the file would be another cluster's
    assert machines_of_ray_up() is None
    head.resources = {HEAD_RESOURCE: 1.0}
    config["available_node_types"]["gpu-spot"]["resources"] = {}  # found out when it is there
    assert grown(yaml.safe_dump(config)) is None
    assert grown("available_node_types: [") is None
    monkeypatch.setattr(machines, "BOOTSTRAP", tmp_path / "missing.yaml")
    assert machines_of_ray_up() is None


def test_a_shape_that_only_machines_to_come_can_hold_waits_and_an_impossible_one_is_refused(
    head: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Any] = []
    with pytest.raises(
        ClusterError, match=r"1 GPU.*or set resources.max_lanes for a cluster that grows"
    ):
        check_shapes([GPU], None, events.append)
    monkeypatch.setattr(machines, "BOOTSTRAP", ROOT / "cluster.yaml")
    check_shapes([GPU, WIDE], 8, events.append)
    assert [event.word for event in events] == ["waiting", "waiting"]
    with pytest.raises(
        ClusterError, match=r"asks for 9 x \(8 CPU and 1 GPU\).*with all that `ray up` may start"
    ):
        check_shapes(
            [TOO_WIDE], 9, events.append
        )  # 8 machines at most, of whatever type, running or not
    with pytest.raises(ClusterError, match=r"512 CPU.*with all that `ray up` may start"):
        check_shapes([GPU, HUGE], 8, events.append)
    monkeypatch.setattr(machines, "BOOTSTRAP", ROOT / "missing.yaml")
    events.clear()
    check_shapes([HUGE], 8, events.append)  # nothing says what may come: it is told, and waits
    (event,) = events
    assert event.word == "waiting"
    assert "512 CPU, the cluster's machines hold: 1 with 0 CPU, 0 GPU" in event.reason
    monkeypatch.setattr(machines, "is_our_own", lambda: True)
    with pytest.raises(ClusterError, match="512 CPU") as refused:
        check_shapes([HUGE], 8, events.append)
    assert "grows" not in str(refused.value)


@pytest.mark.parametrize(
    ("gpus", "wanted", "given", "told"),
    [
        (0.0, {}, 0.0, []),
        (4.0, {}, 1.0, ["The machines have 4 GPUs, and each worker gets one."]),
        (4.0, {"gpus_per_worker": 0.5}, 0.5, []),
        (4.0, {"gpus_per_worker": 0}, 0.0, ["4 GPUs lie idle: resources.gpus_per_worker is 0."]),
        (
            4.0,
            {"gpus_per_worker": 0, "shapes": [{"gpus_per_worker": "auto"}]},
            1.0,
            ["4 GPUs, and"],
        ),
    ],
)
def test_each_trial_gets_a_gpu_where_there_are_any_and_idle_ones_are_told(
    gpus: float,
    wanted: dict[str, Any],
    given: float,
    told: list[str],
    head: Ray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head.resources = {"CPU": 8.0, "GPU": gpus}
    monkeypatch.setattr(machines.torch.version, "cuda", "12.8")
    events: list[Any] = []
    values = {"name": "s", "models": ["ViT_Baseline"], "tasks": ["T"], "resources": wanted}
    spec = with_gpus(Spec.model_validate(values), events.append)
    assert spec.resources.shape("ViT_Baseline", "T").gpus_per_worker == given
    assert len(events) == len(told)
    assert all(text in event.text for text, event in zip(told, events, strict=True))
    monkeypatch.setattr(machines.torch.version, "cuda", None)
    without = with_gpus(Spec.model_validate(values | {"resources": {}}), events.append)
    assert without.resources.gpus_per_worker == 0


@pytest.mark.parametrize(("gpus", "said"), [([1.0] * 4, 1), ([4.0], 0), ([1.0, 8.0], 0)])
def test_a_trial_that_no_machine_holds_alone_is_told_what_it_sends(
    monkeypatch: pytest.MonkeyPatch, gpus: list[float], said: int
) -> None:
    monkeypatch.setattr(machines, "nodes", lambda: [{"CPU": 64.0, "GPU": each} for each in gpus])
    monkeypatch.setattr(machines, "is_our_own", lambda: False)
    events: list[Any] = []
    check_shapes([WorkerResources(4, 8, 1.0), WorkerResources(1, 8, 1.0)], None, events.append)
    assert ["sends its gradients" in event.text for event in events] == [True] * said
