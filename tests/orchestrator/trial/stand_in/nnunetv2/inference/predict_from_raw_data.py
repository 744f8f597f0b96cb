"""As in nnunetv2 2.8.1; group n is what is brighter than n thresholds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np


class Network:
    def parameters(self) -> list[np.ndarray]:
        """As torch's, by what a count asks of them."""

        class One:
            def numel(self) -> int:
                return 1

        return [One()]  # type: ignore[list-item]


class nnUNetPredictor:
    def __init__(self, *, device: Any, allow_tqdm: bool) -> None:
        self.device, self.network = device, Network()

    def initialize_from_trained_model_folder(
        self, model_training_output_dir: str, use_folds: Sequence[int], checkpoint_name: str
    ) -> None:
        folder = Path(model_training_output_dir)
        assert (folder / "plans.json").is_file()
        self.about = json.loads((folder / "dataset.json").read_text())
        place = folder / f"fold_{use_folds[0]}" / checkpoint_name
        self.threshold = json.loads(place.read_text())["threshold"]

    def predict_from_files_sequential(
        self, files: list[list[str]], places: list[str], save_probabilities: bool
    ) -> None:
        for channels, place in zip(files, places, strict=True):
            image = nibabel.load(channels[0])
            values = np.asarray(image.dataobj)
            count = len(self.about["labels"]) - 1
            masks = [values > (number + 1) * self.threshold for number in range(count)]
            label = np.zeros(values.shape, np.uint8)
            for number, mask in enumerate(masks):
                label[mask] = number + 1
            nibabel.save(nibabel.Nifti1Image(label, image.affine), f"{place}.nii.gz")
            if save_probabilities:  # [G, Z, Y, X], as SimpleITK lays a volume out
                probabilities = np.stack(masks).astype(np.float32).transpose(0, 3, 2, 1)
                np.savez(f"{place}.npz", probabilities=probabilities)
