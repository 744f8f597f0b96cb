"""Checkpoints are written while the training goes on, and hold what was there when it went on."""

from __future__ import annotations

import hashlib
import threading
import tracemalloc

import pytest
import torch

from medvision.models import build_model
from medvision.training.optimizer import make_optimizer
from medvision.training.settings import Training
from medvision.training.state import Checkpoints, Trained, TrainingState, sealed, unpacked
from medvision.training.watch import Interrupted, Watch
from tests.medvision.training.test_training import run

RECIPE = Training(epochs=4, batch_size=2, checkpoint_epochs=2)


def test_a_checkpoint_is_written_while_the_training_goes_on() -> None:
    """Each waits until the next epoch has ended, and the last one for nothing."""
    ends = [threading.Event() for _ in range(5)]
    ends[4].set()
    saved, order = list[bytes](), list[str]()

    def save(content: bytes) -> None:
        assert ends[len(saved) * 2 + 2].wait(60)
        saved.append(content)
        order.append("saved")

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        order.append(f"epoch {epoch}")
        ends[epoch - 1].set()

    whole = run(RECIPE, checkpoints=Checkpoints(save=save), on_epoch=on_epoch)
    assert order[-1] == "saved"  # the training is not over before
    assert order.index("saved") > order.index("epoch 3")
    for content in saved:  # what was there at its epoch, though it was written later
        resumed = run(RECIPE, checkpoints=Checkpoints(load=lambda content=content: content))  # type: ignore[misc]
        assert resumed.history == whole.history
        assert all(torch.equal(resumed.state[name], whole.state[name]) for name in whole.state)


@pytest.mark.parametrize("epoch", [2, 4])
def test_a_checkpoint_that_cannot_be_written_ends_the_training(epoch: int) -> None:
    calls = list[int]()

    def save(content: bytes) -> None:
        calls.append(len(content))
        if len(calls) * 2 == epoch:
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        run(RECIPE, checkpoints=Checkpoints(save=save))


def test_who_is_interrupted_waits_for_the_last_checkpoint() -> None:
    begun, saved = threading.Event(), list[bytes]()

    def save(content: bytes) -> None:
        begun.set()
        saved.append(content)

    with pytest.raises(Interrupted):
        run(RECIPE, checkpoints=Checkpoints(save=save), watch=Watch(stop=lambda: True))
    assert begun.is_set()
    assert unpacked(saved[0]) is not None


def test_a_checkpoint_is_one_copy_with_the_checksum_in_front() -> None:
    sizes = {"embed_dim": 256, "depth": 2, "heads": 2}
    model = build_model("ViT_Baseline", image_size=(8,) * 3, patch_size=(4,) * 3, **sizes)
    optimizer = make_optimizer(model, Training(), torch.device("cpu"))
    state = TrainingState(
        model, optimizer, None, torch.amp.GradScaler("cpu", enabled=False), Trained({}, 0, [])
    )
    tracemalloc.start()
    try:
        content = sealed(state.written())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    mark, digest, rest = content[:21], content[21:53], content[53:]
    assert mark == b"medvision checkpoint\n"
    assert digest == hashlib.sha256(rest).digest()
    assert peak < 1.5 * len(content)  # of Python's memory: before, three copies
    found = unpacked(content)
    assert found is not None
    assert found["model"].keys() == dict(model.named_parameters()).keys()


def test_a_part_of_a_larger_storage_is_written_alone() -> None:
    model = torch.nn.Linear(4, 4)
    model.weight.data = torch.zeros(1000, 4)[:4]
    optimizer = make_optimizer(model, Training(), torch.device("cpu"))
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    state = TrainingState(model, optimizer, None, scaler, Trained({}, 0, []))
    assert len(state.to_bytes()) < 8000
