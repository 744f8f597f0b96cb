"""Why Ray does not start on this machine: the cause and the remedy, and "less busy" only where that
would help.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.executors.base import ClusterError
from orchestrator.executors.lanes import cluster


def refused(monkeypatch: pytest.MonkeyPatch, error: Exception) -> str:
    def init(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster.ray, "init", init)
    with pytest.raises(ClusterError) as told, cluster.cluster(None):
        pytest.fail("started")
    line = str(told.value)
    assert line.startswith("Ray did not start on this machine: ")
    assert "\n" not in line
    return line


SOCKET = (
    "validate_socket_filename failed: AF_UNIX path length cannot exceed 107 bytes: "
    "/very/long/ray/session_2026-01-01/sockets/plasma_store"
)


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_long_temporary_folder_is_named(
    variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    line = refused(monkeypatch, OSError(SOCKET))
    assert f"{variable} is {tmp_path}, too long a name for the sockets" in line
    assert "Set RAY_TMPDIR to a short one, such as /tmp" in line
    assert "less busy" not in line


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT, errno.EROFS, errno.ENOSPC])
@pytest.mark.parametrize("variable", ["HOME", "TMPDIR"])
def test_a_folder_that_cannot_be_written_is_named(
    variable: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/somewhere/tmp")
    monkeypatch.setenv("HOME", "/proc/nohome")
    folder = {"HOME": "/proc/nohome", "TMPDIR": "/somewhere/tmp"}[variable]
    for file in (folder, f"{folder}/.ray/auth_token"):
        line = refused(monkeypatch, OSError(number, "as the system says", file))
        assert f"{variable} is {folder}, where Ray has to write {file}" in line
        assert f"Set {variable} to a folder that you can write to" in line
        assert "less busy" not in line


def test_a_busy_machine_is_to_be_tried_again_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = Exception("The current node timed out during startup.\nThis could happen because ...")
    assert refused(monkeypatch, slow).endswith("Try again when it is less busy")
    other = refused(monkeypatch, RuntimeError("port 6379 is taken"))
    assert "less busy" not in other
    assert "port 6379 is taken. Ray's logs are in " in other


@pytest.mark.slow
def test_ray_itself_fails_as_these_tests_say(tmp_path: Path) -> None:
    """In a process of its own: Ray reads its token once."""
    long = tmp_path / ("t" * 60) / ("u" * 60)
    long.mkdir(parents=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"TMPDIR": str(long), "HOME": "/proc/nohome"}  # it needs no home
    code = "from orchestrator.executors.lanes.cluster import cluster\nwith cluster(None): pass"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert "ClusterError: Ray did not start on this machine: TMPDIR is " in done.stderr
