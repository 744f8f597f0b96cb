"""The official command line's checkpoint is that of the training that ran, not of an earlier try on
another device or with other threads.
"""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from orchestrator.trial.context import checkpoint_path
from orchestrator.trial.official_epochs import finished_epochs, keep_optimizer
from record import paths
from record.store import Store

CPU = torch.device("cpu")
JOB: Any = SimpleNamespace(train_id="t" * 64)


def state(epochs: int) -> dict[str, Any]:
    return {
        "best": {"w": torch.tensor(float(epochs))},
        "best_epoch": epochs,
        "model": {"w": torch.tensor(-1.0)},
        "optimizer": {},
        "history": [{"train_loss": 1.0 / (epoch + 1)} for epoch in range(epochs)],
    }


def packed(epochs: int) -> bytes:
    torch.save(state(epochs), content := io.BytesIO())
    return content.getvalue()


def test_of_several_checkpoints_it_is_this_trainings(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    mine = checkpoint_path(JOB.train_id, 1, CPU)
    others = [
        paths.checkpoint(JOB.train_id, f"1x{torch.get_num_threads() + 90}"),
        checkpoint_path(JOB.train_id, 1, torch.device("cuda")),
    ]
    store.write(mine, packed(5))
    for other, epochs in zip(others, (2, 0), strict=True):  # stopped early, one in its first epoch
        store.write(other, packed(epochs))
    context: Any = SimpleNamespace(store=store, job=JOB)
    assert finished_epochs(context, CPU) == 5
    keep_optimizer(store, JOB, "new_model_x.pth", CPU)
    kept = torch.load(store.path(paths.report("new_model_x.pth")), weights_only=True)
    assert float(kept["model"]["w"]) == 5.0
    assert kept["epoch"] == 4
    assert kept["best_loss"] == 0.2


def test_a_training_that_was_finished_before_writes_nothing_anew(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    keep_optimizer(store, JOB, "new_model_x.pth", CPU)
    assert not store.names(paths.report(""))
