"""What the ranks of a trial send each other stays on this machine, where the run is on one."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from orchestrator.executors.lanes import meeting, private

VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def test_gloo_and_nccl_take_the_loopback_interface_unless_another_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "environ", {"PATH": "", VARIABLES[1]: "ib0"})
    meeting.stay_on_loopback()
    assert os.environ[VARIABLES[0]] in ("lo", "lo0")
    assert os.environ[VARIABLES[1]] == "ib0"


def test_every_worker_does_so_before_the_group_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Group:
        def __len__(self) -> int:
            return 2

        def execute_single(self, rank: int, function: Any) -> str:
            return "/file"

        def execute(self, function: Any) -> None:
            done.append(function.__name__)

        def execute_single_async(self, rank: int, function: Any, **given: Any) -> None:
            done.append(f"group {rank} {given['init_method']}")

    monkeypatch.setattr(meeting.ray, "get", lambda waiting: None)
    meeting._Meeting().on_start(Group(), meeting.AtAFile(backend="gloo"))
    assert done.index("stay_on_loopback") < done.index("group 0 file:///file")
    assert done[-1] == "group 1 file:///file"


@pytest.mark.parametrize("before", [None, b"", b"whole"])
def test_a_token_that_was_cut_off_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes | None
) -> None:
    for name in (private.TOKEN, private.TOKEN_FILE):
        monkeypatch.delenv(name, raising=False)
    if before is not None:
        (tmp_path / "token").write_bytes(before)
        (tmp_path / "token").chmod(0o600)
    with private._token(tmp_path):
        assert os.environ[private.TOKEN_FILE] == str(tmp_path / "token")
    found = (tmp_path / "token").read_bytes()
    assert found == before if before else len(found) == 64
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["token"]
