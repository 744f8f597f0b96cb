"""One attempt: what its failures are called, and what it cost together with those before it."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from medvision.training.state import Trained, TrainingState, unpacked
from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.spec.yaml_file import load_spec
from orchestrator.trial import attempt
from orchestrator.trial import context as trial_context
from orchestrator.trial.attempt import failure_of
from record.store import Store

ONE_MODEL = "models=[{label: ViT_Baseline, embed_dim: 16, depth: 1, heads: 2}]"


@pytest.fixture
def options(tiny_spec: Path) -> list[str]:
    """One model in this process, a checkpoint after every epoch."""
    settings = (
        ONE_MODEL,
        "comparisons=[]",
        "tracking.enabled=false",
        "training.checkpoint_epochs=1",
    )
    return [
        str(tiny_spec),
        "--in-process",
        *(word for setting in settings for word in ("--set", setting)),
    ]


@pytest.fixture
def store(tiny_spec: Path) -> Store:
    return open_store(load_spec(tiny_spec))


@pytest.mark.parametrize(
    "words",
    [
        "[enforce fail at alloc_cpu.cpp:128] . DefaultCPUAllocator: can't allocate memory: you "
        "tried to allocate 8 bytes.",
        "[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: not enough memory: you "
        "tried to allocate 8 bytes.",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some "
        "other API call",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "GET was unable to find an engine to execute this computation",
        "NCCL error in: ProcessGroupNCCL.cpp:3690, unhandled cuda error\nncclUnhandledCudaError: "
        "Call to CUDA function failed.\nLast error:\nCuda failure 2 'out of memory'",
        "Triton Error [CUDA]: out of memory",
        "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`",
    ],
)
def test_torch_on_linux_elsewhere_and_on_a_gpu_lacks_memory_in_its_own_words(words: str) -> None:
    assert failure_of(RuntimeError(words)).kind == "memory"


@pytest.mark.parametrize(
    "words",
    [
        "another error",
        "CUDA error: an illegal memory access was encountered",
        "NCCL error: unhandled system error, NCCL version 2.27",
        "cuDNN error: CUDNN_STATUS_BAD_PARAM",
        "the printer is out of paper and memory",
    ],
)
def test_other_errors_are_no_lack_of_memory(words: str) -> None:
    assert failure_of(RuntimeError(words)).kind == "exception"


def break_once(monkeypatch: pytest.MonkeyPatch, epoch: int, error: Exception) -> None:
    """Let the first training fail after so many epochs."""
    real, broken = trial_context.train, []

    def train(*args: Any, on_epoch: Any, **given: Any) -> Any:
        def watch(now: int, metrics: Any) -> None:
            on_epoch(now, metrics)
            if now == epoch and not broken:
                broken.append(True)
                logging.getLogger("a.library").warning("it smells of smoke")
                warnings.warn("it is hot", stacklevel=1)
                raise error

        return real(*args, on_epoch=watch, **given)

    monkeypatch.setattr(trial_context, "train", train)


def test_a_trial_costs_what_all_its_attempts_cost(
    options: list[str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_once(monkeypatch, 3, RuntimeError("the machine was taken away"))
    monkeypatch.setattr(
        attempt, "_meter", lambda ranks: lambda: {"seconds": 1000.0, "energy_joules": 7.0}
    )
    assert main(options) == 0
    costs = sorted(
        (marker.cost for marker in store.commits().values()), key=lambda cost: cost.seconds
    )
    assert [cost.energy_joules for cost in costs] == [7.0, 7.0, 14.0]
    assert [cost.seconds > 1000.0 for cost in costs] == [False, False, True]


def test_the_last_log_lines_are_kept_with_a_failure(
    options: list[str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_once(monkeypatch, 1, RuntimeError("fire"))
    assert main([*options, "--set", "resources.max_attempts=1"]) == 1
    ((failure,),) = store.failures().values()
    trace, _, lines = failure.details.partition("Last log lines:")
    assert "RuntimeError: fire" in trace
    assert "WARNING  a.library  it smells of smoke" in lines
    assert "it is hot" in lines


def test_what_was_spent_is_summed_over_checkpoints_and_absent_in_old_ones() -> None:
    def state() -> TrainingState:
        model = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        return TrainingState(
            model, optimizer, None, torch.amp.GradScaler("cpu", enabled=False), Trained({}, 0, [])
        )

    first, second, third = state(), state(), state()
    saved = unpacked(first.to_bytes({"seconds": 2.0}))
    assert saved is not None
    second.restore(saved)
    assert second.best.spent == {"seconds": 2.0}
    third.restore(unpacked(second.to_bytes({"seconds": 3.0, "energy_joules": 1.0})) or {})
    assert third.best.spent == {"seconds": 5.0, "energy_joules": 1.0}

    del saved["spent"]  # as checkpoints once were
    third.restore(saved)
    assert third.best.spent == {}
