"""How a driver ends before its study does: asked to, without its Ray, without a cluster."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.spec.yaml_file import load_spec
from tests.waiting import PATIENCE_SECONDS, Barrier, ended_at_last


@pytest.mark.slow
def test_ctrl_c_once_lets_the_lane_write_its_checkpoint_and_the_same_command_goes_on(
    tiny_spec: Path, tmp_path: Path, barrier: Barrier, capsys: pytest.CaptureFixture[str]
) -> None:
    """Epochs follow each other without a pause; after the last but one it waits for the word."""
    settings = [
        "models=[{label: ViT_Baseline, embed_dim: 16, depth: 1, heads: 2}]",
        "tracking.enabled=false",
    ]
    settings += ["training.epochs=400", "training.checkpoint_epochs=400", "folds=2"]
    options = [
        str(tiny_spec),
        "--json",
        *(word for setting in settings for word in ("--set", setting)),
    ]
    barrier.hold(399)
    with driver_of(options, tmp_path) as process:
        events: list[dict[str, Any]] = []
        for line in process.stdout:
            events.append(json.loads(line))
            if events[-1]["event"] == "epoch" and events[-1]["epoch"] == 3:
                process.send_signal(signal.SIGINT)  # once: a second one would end it at once
        assert process.wait(PATIENCE_SECONDS) == 130, (tmp_path / "stderr").read_text()
    kinds = [event["event"] for event in events]
    assert "stopping" in kinds
    assert kinds[-2:] == ["interrupted", "ended"]
    store = open_store(load_spec(tiny_spec))
    assert len(store.names("checkpoints")) == 1
    assert not store.commits()
    assert not (Path(store.root) / "lock.json").exists()

    assert main([*options, "--in-process"]) == 0
    again = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    name, reached = next(
        (event["eval_id"], event["epoch"])
        for event in reversed(events)
        if event["event"] == "epoch"
    )
    resumed = (
        event["epoch"] for event in again if event["event"] == "epoch" and event["eval_id"] == name
    )
    assert next(resumed) == reached + 1
    assert not store.names("checkpoints")


@pytest.mark.slow
def test_a_driver_whose_ray_dies_ends_and_says_so(
    tiny_spec: Path, tmp_path: Path, barrier: Barrier
) -> None:
    settings = ["tracking.enabled=false", "resources.max_lanes=1"]
    options = [
        str(tiny_spec),
        "--json",
        *(word for setting in settings for word in ("--set", setting)),
    ]
    barrier.hold(1)
    with driver_of(options, tmp_path) as process:
        for line in process.stdout:
            if '"event": "epoch"' in line:
                break
        (raylet,) = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if "raylet/raylet" in words_of(child)
        ]
        raylet.kill()
        process.stdout.read()
        assert process.wait(PATIENCE_SECONDS) == 2
    told = (tmp_path / "stderr").read_text()
    assert "error: Ray ended on the driver's machine" in told
    assert "run the same command" in told
    assert "Traceback" not in told


def words_of(process: psutil.Process) -> str:
    """Its command line; empty where it has ended meanwhile."""
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


@contextlib.contextmanager
def driver_of(options: list[str], folder: Path) -> Iterator[Any]:
    """A driver in a process of its own, which ends with the block; its stderr is a file."""
    command = [sys.executable, "-m", "orchestrator.run", *options]
    with (folder / "stderr").open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    with ended_at_last(process):
        yield process


def test_an_address_without_a_cluster_is_a_clear_error(
    tiny_spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tiny_spec), "--address", "127.0.0.1:1"]) == 2
    assert "no Ray cluster answers at 127.0.0.1:1" in capsys.readouterr().err
