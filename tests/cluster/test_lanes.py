"""What a lane's own processes check before their first trial, on a real Ray."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from orchestrator.executors.lanes import driver
from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.spec.yaml_file import load_spec

pytestmark = pytest.mark.slow


def test_a_machine_without_the_data_stops_the_run_with_its_name(
    tiny_spec: Path,
    spheres: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The data vanish after the check of the start, as if the lane's machine had joined later
    without them.
    """
    data, real = tmp_path / "data", driver.check_machines
    shutil.copytree(spheres, data)

    def then_gone(*given: Any) -> None:
        real(*given)
        shutil.rmtree(data)

    monkeypatch.setattr(driver, "check_machines", then_gone)
    settings = (f"data.root={data}", "tracking.enabled=false")
    words = [str(tiny_spec), *(word for text in settings for word in ("--set", text))]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"error: {socket.gethostname()} has no data at {data}: fetch the tasks there"
    )
    assert not open_store(load_spec(tiny_spec)).failures()  # no trial's fault
