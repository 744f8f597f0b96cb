"""`cluster/mps.sh` starts MPS once where it is, or says why not; what follows it runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "cluster" / "mps.sh"
# Stands for NVIDIA's program: `-d` starts a daemon, a file here, which answers questions then.
CONTROL = """#!/bin/sh
daemon="$CUDA_MPS_PIPE_DIRECTORY/daemon"
if [ "$1" = -d ]; then {start}; else [ -e "$daemon" ]; fi
"""


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)


def call(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """The script with the programs of the folder before all others."""
    surroundings = os.environ | {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "CUDA_MPS_PIPE_DIRECTORY": str(folder / "pipe"),
    }
    return subprocess.run(
        ["bash", SCRIPT, *command], env=surroundings, capture_output=True, text=True, check=False
    )


@pytest.fixture
def gpu(tmp_path: Path) -> Path:
    program(tmp_path, "nvidia-smi", "#!/bin/sh\n")
    program(tmp_path, "nvidia-cuda-mps-control", CONTROL.format(start='echo >>"$daemon"'))
    return tmp_path


def test_it_is_started_once_and_what_follows_knows_where_it_is(gpu: Path) -> None:
    shown = ("sh", "-c", 'echo "at $CUDA_MPS_PIPE_DIRECTORY"; exit 3')
    first, second = call(gpu, *shown), call(gpu)
    assert first.stdout.startswith("MPS: started on ")
    assert first.stdout.splitlines()[-1] == f"at {gpu / 'pipe'}"
    assert first.returncode == 3  # of what follows
    assert second.stdout.startswith("MPS: runs on ")
    assert second.returncode == 0
    assert (gpu / "pipe" / "daemon").read_text() == "\n"
    assert (gpu / "pipe").stat().st_mode & 0o077 == 0


def test_without_a_gpu_what_follows_runs(tmp_path: Path) -> None:
    program(tmp_path, "nvidia-smi", "#!/bin/sh\nexit 9\n")
    program(tmp_path, "nvidia-cuda-mps-control", CONTROL.format(start="exit 1"))
    found = call(tmp_path, "echo", "on")
    assert found.stdout.startswith("MPS: not on ")
    assert found.stdout.endswith("\non\n")
    assert found.returncode == 0
    assert not (tmp_path / "pipe").exists()


def test_one_that_does_not_start_is_said(gpu: Path) -> None:
    program(gpu, "nvidia-cuda-mps-control", CONTROL.format(start="exit 1"))
    found = call(gpu, "echo", "on")
    assert found.stdout.startswith("MPS: does not start on ")
    assert found.stdout.endswith("\non\n")
