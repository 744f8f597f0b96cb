"""As in nnunetv2 2.8.1; the threshold follows numbers that are drawn. While there is a file of the
name STAND_IN_HOLD, no epoch but the first ends.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np


class Logger:
    """`get_value(key, step)` of what was logged; of all epochs where the step is None."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}

    def log(self, key: str, value: float) -> None:
        self.values.setdefault(key, []).append(value)

    def get_value(self, key: str, step: int | None) -> Any:
        return self.values[key] if step is None else self.values[key][step]


class nnUNetTrainer:
    """The attributes and methods of nnU-Net's that a trial uses."""

    def __init__(self, dataset: str, configuration: str, fold: int, plans: str) -> None:
        preprocessed = Path(os.environ["nnUNet_preprocessed"]) / dataset
        assert (preprocessed / f"{plans}_{configuration}").is_dir()
        self.split = json.loads((preprocessed / "splits_final.json").read_text())[fold]
        self.preprocessed, self.plans = preprocessed, plans
        name = f"{type(self).__name__}__{plans}__{configuration}"
        self.output_folder_base = str(Path(os.environ["nnUNet_results"]) / dataset / name)
        self.output_folder = str(Path(self.output_folder_base) / f"fold_{fold}")
        Path(self.output_folder).mkdir(parents=True, exist_ok=True)
        self.num_epochs, self.num_iterations_per_epoch = 1000, 250
        self.num_val_iterations_per_epoch, self.save_every = 50, 50
        self.current_epoch, self.threshold, self.logger = 0, 100.0, Logger()

    def run_training(self) -> None:
        for name in ("plans", "dataset"):
            source = self.plans if name == "plans" else name
            content = (self.preprocessed / f"{source}.json").read_text()
            (Path(self.output_folder_base) / f"{name}.json").write_text(content)
        for _ in range(self.current_epoch, self.num_epochs):
            self.on_epoch_start()
            for _ in range(self.num_iterations_per_epoch):
                self.train_step({"data": np.random.normal()})
            for _ in range(self.num_val_iterations_per_epoch):
                self.validation_step({})
            self.on_epoch_end()
        self.save_checkpoint("checkpoint_final.pth")
        (Path(self.output_folder) / "checkpoint_latest.pth").unlink(missing_ok=True)

    def train_step(self, batch: dict[str, float]) -> dict[str, float]:
        self.threshold += 0.8 * (45 - self.threshold) / self.num_iterations_per_epoch
        self.threshold += 0.1 * batch["data"]
        return {"loss": self.threshold}

    def validation_step(self, batch: dict[str, float]) -> dict[str, float]:
        return {"loss": self.threshold}

    def on_epoch_start(self) -> None:
        self.logger.log("lrs", 0.01)

    def on_epoch_end(self) -> None:
        while self.current_epoch and Path(os.environ.get("STAND_IN_HOLD", "")).is_file():
            time.sleep(0.05)
        for name in ("train_losses", "val_losses", "mean_fg_dice"):
            self.logger.log(name, self.threshold)
        self.current_epoch += 1
        if self.current_epoch % self.save_every == 0 and self.current_epoch < self.num_epochs:
            self.save_checkpoint("checkpoint_latest.pth")

    def save_checkpoint(self, name: str) -> None:
        state = {"epoch": self.current_epoch, "threshold": self.threshold}
        state["logged"] = self.logger.values
        (Path(self.output_folder) / name).write_text(json.dumps(state))

    def load_checkpoint(self, place: str) -> None:
        state = json.loads(Path(place).read_text())
        self.current_epoch, self.threshold = state["epoch"], state["threshold"]
        self.logger.values = state["logged"]


def get_trainer_from_args(
    dataset_name_or_id: str,
    configuration: str,
    fold: int,
    trainer_name: str,
    plans_identifier: str,
    *,
    continue_training: bool,
    device: Any,
) -> nnUNetTrainer:
    assert trainer_name == "nnUNetTrainer"
    assert os.environ["nnUNet_wandb_enabled"] == "0"
    return nnUNetTrainer(dataset_name_or_id, configuration, fold, plans_identifier)


def maybe_load_checkpoint(
    nnunet_trainer: nnUNetTrainer, continue_training: bool, validation_only: bool
) -> None:
    place = Path(nnunet_trainer.output_folder) / "checkpoint_latest.pth"
    if continue_training and place.is_file():
        nnunet_trainer.load_checkpoint(str(place))
