"""A study on GPUs: mixed precision, two trials on one GPU, and one trial on two GPUs with NCCL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.run import main
from orchestrator.spec_file import load_spec
from orchestrator.study import open_store
from reports.store import read_results

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]


def gpus() -> int:
    import torch

    return torch.cuda.device_count()


def run(tiny_spec: Path, *changes: str) -> list[dict[str, Any]]:
    """Run the spec with changes; the finished attempts, each with its cost."""
    assert main([str(tiny_spec), *(word for change in changes for word in ("--set", change))]) == 0
    store = open_store(load_spec(tiny_spec, list(changes)))
    assert read_results(store, "cases")["dice"].between(0, 1).all()
    commits = list(store.commits().values())
    assert len(commits) == 6
    assert all(marker["attempt"]["device"] != "cpu" for marker in commits)
    assert all(marker["cost"]["peak_memory_bytes"] > 0 for marker in commits)
    return [marker["attempt"] for marker in commits]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_trial_on_one_gpu(tiny_spec: Path, precision: str) -> None:
    if not gpus():
        pytest.skip("no CUDA device")
    run(tiny_spec, "resources.gpus_per_worker=1", f"training.precision={precision}")


def test_two_trials_share_one_gpu(tiny_spec: Path) -> None:
    if not gpus():
        pytest.skip("no CUDA device")
    attempts = run(tiny_spec, "resources.gpus_per_worker=0.5", "resources.max_lanes=2")
    assert len({attempt["pid"] for attempt in attempts}) == 2


def test_one_trial_on_two_gpus(tiny_spec: Path) -> None:
    if gpus() < 2:
        pytest.skip(f"two CUDA devices are needed for NCCL, this machine has {gpus()}")
    attempts = run(tiny_spec, "resources.gpus_per_worker=1", "resources.workers=2")
    assert {attempt["world"] for attempt in attempts} == {2}
