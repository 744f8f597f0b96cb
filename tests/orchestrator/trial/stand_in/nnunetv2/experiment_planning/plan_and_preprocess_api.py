"""As in nnunetv2 2.8.1."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np


def _folders(number: int) -> tuple[Path, Path]:
    raw = next(Path(os.environ["nnUNet_raw"]).glob(f"Dataset{number:03d}_*"))
    return raw, Path(os.environ["nnUNet_preprocessed"]) / raw.name


def extract_fingerprints(
    dataset_ids: Sequence[int], *, num_processes: int, clean: bool, show_progress_bar: bool
) -> None:
    """Refuses what nnU-Net's own check refuses."""
    for number in dataset_ids:
        raw, target = _folders(number)
        about = json.loads((raw / "dataset.json").read_text())
        labels = sorted((raw / "labelsTr").glob(f"*{about['file_ending']}"))
        assert len(labels) == about["numTraining"]
        regions = [value for value in about["labels"].values() if isinstance(value, list)]
        assert bool(regions) == ("regions_class_order" in about)
        for label in labels:
            values, name = nibabel.load(label), label.name.removesuffix(about["file_ending"])
            assert values.get_data_dtype() == np.uint8
            for channel in about["channel_names"]:
                place = raw / "imagesTr" / f"{name}_{int(channel):04d}{about['file_ending']}"
                assert nibabel.load(place).shape == values.shape
        target.mkdir(parents=True, exist_ok=True)
        (target / "dataset.json").write_text(json.dumps(about))


def plan_experiments(dataset_ids: Sequence[int], experiment_planner_class_name: str) -> str:
    """There is no lowres configuration of small images."""
    plans = {"ExperimentPlanner": "nnUNetPlans"}[experiment_planner_class_name]
    for number in dataset_ids:
        content = {"plans_name": plans, "configurations": {"2d": {}, "3d_fullres": {}}}
        (_folders(number)[1] / f"{plans}.json").write_text(json.dumps(content))
    return plans


def preprocess(
    dataset_ids: Sequence[int],
    plans_identifier: str,
    *,
    configurations: Sequence[str],
    num_processes: Sequence[int],
    show_progress_bar: bool,
) -> None:
    """Leaves a folder, whose name the trainer looks for."""
    for number in dataset_ids:
        for configuration in configurations:
            (_folders(number)[1] / f"{plans_identifier}_{configuration}").mkdir(exist_ok=True)
