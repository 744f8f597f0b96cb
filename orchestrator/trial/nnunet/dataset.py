"""A cell's cases as nnU-Net reads them: its raw folders, its one fold, and its masks read back.

Images are written voxel by voxel as our reader gives them, a file a channel, with their spacing and
no other geometry: what comes back lies on the case's own grid. Test cases are apart from those that
nnU-Net plans and trains on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from medvision.data.fingerprints import require_unchanged
from medvision.data.nifti import read_image
from medvision.data.settings import LabelGroups
from medvision.training.watch import TrainingError, Watch
from orchestrator.trial.context import TrialContext

DATASET = "Dataset001_Study"
ENDING = ".nii.gz"
MOST_REGIONS = 7  # their combinations are the values of a label of 8 bits


@dataclass(frozen=True)
class Folders:
    """nnU-Net's three folders and two of ours below the trial's scratch folder."""

    scratch: Path

    @property
    def raw(self) -> Path:
        return self.scratch / "nnUNet_raw"

    @property
    def preprocessed(self) -> Path:
        return self.scratch / "nnUNet_preprocessed"

    @property
    def results(self) -> Path:
        return self.scratch / "nnUNet_results"

    @property
    def tested(self) -> Path:
        """Images of the test cases, which planning and training never see."""
        return self.scratch / "tested"

    @property
    def predicted(self) -> Path:
        return self.scratch / "predicted"


def overlapping(groups: LabelGroups) -> bool:
    """Whether a voxel can be in several label groups, which nnU-Net calls regions."""
    if len(groups) == 1:
        return False
    named = [value for values in groups.values() if values != "all" for value in values]
    return "all" in groups.values() or len(set(named)) < len(named)


def write_dataset(
    context: TrialContext, modality: Sequence[str], folders: Folders, watch: Watch
) -> None:
    """Write the raw dataset of the training and validation cases, its one fold, and the test
    cases' images.

    Args:
        modality: of each channel that the study shows.

    Raises:
        DataError: a case cannot be read, or is no longer the one that was planned.
        TrainingError: more overlapping label groups than nnU-Net's labels can tell apart.
    """
    groups, roles = context.groups, context.roles
    if overlapping(groups) and len(groups) > MOST_REGIONS:
        raise TrainingError(
            f"nnU-Net: {len(groups)} overlapping label groups; {MOST_REGIONS} at most"
        )
    raw = folders.raw / DATASET
    for folder in (raw / "imagesTr", raw / "labelsTr", folders.tested):
        folder.mkdir(parents=True, exist_ok=True)
    channels = 1
    for case in (*roles.train, *roles.validation):
        watch.beat()
        channels = _write_images(context, case, raw / "imagesTr")
        truth = context.truth(case)
        values = label_of(truth.masks, overlapping(groups))
        _save(values, truth.spacing, raw / "labelsTr" / f"{_name(context, case)}{ENDING}")
    for case in roles.test:
        watch.beat()
        _write_images(context, case, folders.tested)
    named = [*modality[:channels], *["MRI"] * (channels - len(modality))]
    content = description(groups, named, len(roles.train) + len(roles.validation))
    (raw / "dataset.json").write_text(json.dumps(content, indent=1))
    fold = {
        "train": [_name(context, case) for case in roles.train],
        "val": [_name(context, case) for case in roles.validation or roles.train],
    }
    target = folders.preprocessed / DATASET
    target.mkdir(parents=True, exist_ok=True)
    (target / "splits_final.json").write_text(json.dumps([fold], indent=1))


def description(groups: LabelGroups, modality: Sequence[str], cases: int) -> dict[str, Any]:
    """nnU-Net's dataset.json. Overlapping groups are regions over values whose bits say which
    groups a voxel is in.
    """
    regions = overlapping(groups)
    labels: dict[str, Any] = {"background": 0}
    for number in range(len(groups)):  # by number, because a group may be named as nnU-Net's own
        values = [value for value in range(1, 2 ** len(groups)) if value >> number & 1]
        labels[f"group {number + 1}"] = values if regions else number + 1
    order = {"regions_class_order": list(range(1, len(groups) + 1))} if regions else {}
    return {
        "channel_names": {str(number): name for number, name in enumerate(modality)},
        "labels": labels,
        "numTraining": cases,
        "file_ending": ENDING,
        **order,
    }


def label_of(masks: np.ndarray, regions: bool) -> np.ndarray:
    """One label of bool [G, X, Y, Z]: uint8 [X, Y, Z], of regions bit by bit."""
    values = np.zeros(masks.shape[1:], np.uint8)
    for number, mask in enumerate(masks):
        if regions:
            values |= mask.astype(np.uint8) << number
        else:
            values[mask] = number + 1
    return values


def test_files(context: TrialContext, folders: Folders) -> dict[str, list[str]]:
    """nnU-Net's names of the test cases, each with the files of its channels."""
    return {
        name: [str(path) for path in sorted(folders.tested.glob(f"{name}_*{ENDING}"))]
        for name in (_name(context, case) for case in context.roles.test)
    }


def read_masks(context: TrialContext, folders: Folders) -> dict[str, np.ndarray]:
    """What nnU-Net found in each test case: bool [G, X, Y, Z] on its own grid.

    Regions are the probabilities above 0.5, because a label of nnU-Net's tells one region of a
    voxel.

    Raises:
        RuntimeError: a mask is missing, or of another shape.
    """
    regions, found = overlapping(context.groups), dict[str, np.ndarray]()
    for case in context.roles.test:
        place = folders.predicted / _name(context, case)
        shape = context.truth(case).masks.shape
        try:
            if regions:
                with np.load(place.with_suffix(".npz"), allow_pickle=False) as kept:
                    masks = kept["probabilities"].transpose(0, 3, 2, 1) > 0.5
            else:
                values = np.asarray(nibabel.load(place.with_name(place.name + ENDING)).dataobj)
                masks = np.stack([values == number + 1 for number in range(len(context.groups))])
        except (OSError, ValueError, KeyError) as error:
            raise RuntimeError(f"nnU-Net left no readable mask of {case}: {error}") from error
        if masks.shape != shape:
            raise RuntimeError(f"nnU-Net's mask of {case} is {masks.shape}, not {shape}")
        found[case] = masks
    return found


def _name(context: TrialContext, case: str) -> str:
    """A case's number among the fold's: names of nnU-Net's files end with a channel's digits."""
    return f"case_{_numbers(context)[case]:05d}"


def _numbers(context: TrialContext) -> Mapping[str, int]:
    roles = context.roles
    every = sorted((*roles.train, *roles.validation, *roles.test))
    return {case: number for number, case in enumerate(every)}


def _write_images(context: TrialContext, case: str, folder: Path) -> int:
    """A file a channel; returns how many there are."""
    files = context.cases[case]
    image = read_image(files.images, context.task.channel)
    require_unchanged(files, context.fingerprints[case])
    for number, values in enumerate(image.channels):
        place = folder / f"{_name(context, case)}_{number:04d}{ENDING}"
        _save(values, image.spacing, place)
    return len(image.channels)


def _save(values: np.ndarray, spacing: Sequence[float], place: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(values, np.diag([*spacing, 1.0])), place)
