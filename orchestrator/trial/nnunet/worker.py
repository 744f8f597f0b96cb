"""nnU-Net's side of a trial, a process of its own: `python -m orchestrator.trial.nnunet.worker
SETTINGS.json`.

Plans, preprocesses, trains and predicts with nnunetv2's own code, in the folders that its
environment names, and says on its standard output how far it is: lines that begin with `SAYS`, then
JSON. What nnunetv2 itself prints goes there, too. It ends with the process that started it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SAYS = "@medvision "  # before what is for us, in what nnunetv2 prints
AUGMENTING = "nnUNet_n_proc_DA"  # nnU-Net's variable
SAVED = "checkpoint_saved.pth"  # a checkpoint that is whole, for whoever keeps it


def say(**message: Any) -> None:
    """Tell who started this."""
    sys.stdout.write(f"\n{SAYS}{json.dumps(message)}\n")
    sys.stdout.flush()


def main() -> None:
    """The whole of a trial, or what of it is not there yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", type=Path, metavar="SETTINGS.json")
    file = parser.parse_args().settings
    try:
        wanted = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        parser.error(f"{file}: {error}")
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    import torch

    augmenting = os.environ.get(AUGMENTING, "0")
    os.environ[AUGMENTING] = "1"  # nnU-Net plans with so many threads, and 0 is no number of them
    prepare(wanted)
    os.environ[AUGMENTING] = augmenting
    torch.set_num_threads(wanted["threads"])
    say(stage="train")
    trained = train(wanted)
    say(stage="predict")
    predict(wanted, trained)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def prepare(wanted: Mapping[str, Any]) -> None:
    """Plan and preprocess, where that was not done before.

    Raises:
        RuntimeError: nnU-Net plans no such configuration for these cases.
    """
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )

    folder = Path(wanted["preprocessed"])
    plans, done = folder / f"{wanted['plans']}.json", folder / "preprocessed"
    if not done.exists():
        seed_everything(wanted["seed"], "plan")
        number = int(wanted["dataset"][len("Dataset") :][:3])
        extract_fingerprints([number], num_processes=1, clean=True, show_progress_bar=False)
        plan_experiments([number], wanted["planner"])
        configurations = json.loads(plans.read_text())["configurations"]
        if wanted["configuration"] not in configurations:
            known = ", ".join(configurations)
            raise RuntimeError(
                f"nnU-Net plans no {wanted['configuration']} for these cases, but {known}"
            )
        if wanted["batch_size"] is not None:
            _replan(plans, wanted["configuration"], wanted["batch_size"])
        preprocess(
            [number],
            wanted["plans"],
            configurations=[wanted["configuration"]],
            num_processes=[1],
            show_progress_bar=False,
        )
        done.touch()


def _replan(plans: Path, configuration: str, batch_size: int) -> None:
    """Another batch size than was planned, put where nnU-Net's users put it: into the plans."""
    planned = json.loads(plans.read_text())
    planned["configurations"][configuration]["batch_size"] = batch_size
    plans.write_text(json.dumps(planned, indent=4))


def train(wanted: Mapping[str, Any]) -> Path:
    """Train to the end, going on from a checkpoint that lies where nnU-Net looks for it; returns
    the folder of the trained model.
    """
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

    trainer = get_trainer_from_args(
        wanted["dataset"],
        wanted["configuration"],
        0,
        wanted["trainer"],
        wanted["plans"],
        continue_training=wanted["resume"],
        device=torch.device(wanted["device"]),
    )
    for name, value in wanted["budget"].items():
        setattr(trainer, name, value)
    trainer.save_every = wanted["save_every"]
    output = Path(trainer.output_folder)
    model, final = Path(trainer.output_folder_base), output / "checkpoint_final.pth"
    if final.exists():
        preprocessed = Path(wanted["preprocessed"])
        for name, source in (("plans", wanted["plans"]), ("dataset", "dataset")):
            (model / f"{name}.json").write_bytes((preprocessed / f"{source}.json").read_bytes())
        return model
    _watched(trainer, wanted, output)
    maybe_load_checkpoint(trainer, wanted["resume"], False)
    trainer.run_training()
    say(trained=str(final))
    return model


def _watched(trainer: Any, wanted: Mapping[str, Any], output: Path) -> None:
    """Have a trainer seed each epoch by its number, so that one that is resumed draws what an
    undisturbed one draws, and say what each brought.
    """
    begin, end = trainer.on_epoch_start, trainer.on_epoch_end

    def beating(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def beat(batch: Any) -> Any:
            say(beat=True)
            return step(batch)

        return beat

    def on_epoch_start() -> None:
        seed_everything(wanted["seed"], trainer.current_epoch)
        begin()

    def on_epoch_end() -> None:
        end()
        value = trainer.logger.get_value
        metrics = {
            "train_loss": float(value("train_losses", step=-1)),
            "val_loss": float(value("val_losses", step=-1)),
            "val_dice": float(value("mean_fg_dice", step=-1)),
            "lr": float(value("lrs", step=-1)),
        }
        latest, saved = output / "checkpoint_latest.pth", ""
        if latest.exists():  # moved, so that the next one is not written while it is read
            saved = str(latest.replace(output / f"{trainer.current_epoch}_{SAVED}"))
        done, epochs = trainer.current_epoch, trainer.num_epochs
        say(epoch=done, epochs=epochs, metrics=metrics, saved=saved)

    trainer.on_epoch_start, trainer.on_epoch_end = on_epoch_start, on_epoch_end
    trainer.train_step = beating(trainer.train_step)
    trainer.validation_step = beating(trainer.validation_step)


def predict(wanted: Mapping[str, Any], model: Path) -> None:
    """A mask of each test case, as nnU-Net predicts by default: sliding windows, mirrored."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    seed_everything(wanted["seed"], "predict")
    device = torch.device(wanted["device"])
    predictor = nnUNetPredictor(device=device, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (0,), "checkpoint_final.pth")
    Path(wanted["output"]).mkdir(exist_ok=True)
    for name, files in wanted["test"].items():
        place = str(Path(wanted["output"], name))
        predictor.predict_from_files_sequential([files], [place], wanted["probabilities"])
        say(predicted=name)
    parameters = sum(parameter.numel() for parameter in predictor.network.parameters())
    if device.type == "cuda":
        memory = int(torch.cuda.max_memory_allocated(device))
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    say(parameters=parameters, memory=memory)


def seed_everything(*parts: Any) -> None:
    """Seed every source of chance that nnU-Net draws from in this process."""
    import numpy as np
    import torch

    from medvision.seeds import derive_seed

    seed = derive_seed("nnU-Net", *parts)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


if __name__ == "__main__":
    main()
