"""What machines are asked before they may run trials, and a machine that joins later."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.exceptions

from orchestrator.executors.base import ClusterError
from orchestrator.executors.lanes import preflight as remote
from orchestrator.executors.lanes.preflight import problems_of_lane
from orchestrator.spec.yaml_file import load_spec
from record.store import Store


def test_a_machine_that_joins_later_is_checked_by_its_lane(tmp_path: Path) -> None:
    here, data = socket.gethostname(), tmp_path / "data"
    study = Store(str(tmp_path / "study"))
    (unseen,) = problems_of_lane(study.uri)
    assert unseen.startswith(f"{here} does not see {study.uri}: set storage to")
    data.mkdir()
    study.write_json("study.json", {})
    needs = {"uri": study.uri, "root": str(data), "embedded": False, "assets": [], "versions": {}}
    study.write_json("needs.json", needs)
    assert problems_of_lane(study.uri) == []
    data.rmdir()
    (line,) = problems_of_lane(study.uri)
    assert line.startswith(f"{here} has no data at {data}: fetch the tasks there")


def test_what_the_machines_answer_is_told_and_one_that_is_lost_is_not(
    tmp_path: Path, tiny_spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = ray.exceptions

    class Cluster:
        """Ray's answers of five machines beside this one."""

        exceptions = errors
        answers: Mapping[str, Any] = {
            "good": [],
            "poor": ["poor has no data"],
            "broken": errors.RayTaskError(
                "problems_here", "Traceback ...\nOSError: the mount is stale", OSError("x")
            ),
            "lost": errors.TaskUnschedulableError("its node is gone"),
            "mute": None,
        }

        def get_runtime_context(self) -> Any:
            return SimpleNamespace(get_node_id=lambda: "here")

        def nodes(self) -> list[dict[str, Any]]:
            names = ["here", *self.answers]
            return [
                {"NodeID": name, "NodeManagerAddress": f"{name}.lan", "Alive": True}
                for name in names
            ]

        def remote(self, function: Any) -> Any:
            def options(scheduling_strategy: Any, **_: Any) -> Any:
                return SimpleNamespace(remote=lambda wanted: scheduling_strategy.node_id)

            return SimpleNamespace(options=options)

        def wait(self, asked: list[str], **_: Any) -> tuple[list[str], list[str]]:
            return [name for name in asked if name != "mute"], ["mute"]

        def get(self, name: str) -> list[str]:
            if isinstance(answer := self.answers[name], Exception):
                raise answer
            return answer

    monkeypatch.setattr(remote, "ray", Cluster())
    monkeypatch.setattr(
        remote, "NodeAffinitySchedulingStrategy", lambda node, soft: SimpleNamespace(node_id=node)
    )
    events: list[Any] = []
    with pytest.raises(ClusterError) as told:
        remote.check_machines(load_spec(tiny_spec), Store(str(tmp_path / "study")), events.append)
    assert [event.reason.partition(".")[0] for event in events] == ["mute"]
    assert "mute.lan (Ray's node mute) has not answered within 300 s" in events[0].reason
    assert str(told.value).splitlines() == [
        "poor has no data",
        "broken.lan (Ray's node broken) cannot look what it has: OSError: the mount is stale",
    ]
