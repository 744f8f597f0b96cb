"""Segments scans with a trained model, or with several that decide together."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from torch import nn

from medvision.data.nifti import open_volume
from medvision.data.preprocess import file_channels, prepare_image
from medvision.device import usable_device
from medvision.errors import DataError
from medvision.evaluation import Shown, predict_together
from medvision.postprocess import tidied
from medvision.training.checkpoint import About, load_checkpoint, read_about


class Segmenter:
    """Trained models on one device; of several, the mean of their probabilities is cut.

    Args:
        checkpoints: their files, all of trainings on the same preparation of images.
        source: where the language-model block lies now, if no longer where it was in training.
        trust_code: run the Python that a checkpoint of a custom model carries.

    Raises:
        DataError: a wrong checkpoint or device, or checkpoints that do not go together.
    """

    def __init__(
        self,
        checkpoints: Sequence[Path],
        *,
        source: str | None = None,
        device: str = "cpu",
        trust_code: bool = False,
    ) -> None:
        self.checkpoints = list(checkpoints)
        self.source, self.trust_code = source, trust_code
        self.abouts = [read_about(path) for path in self.checkpoints]
        self.about = self.abouts[0]
        for path, about in zip(self.checkpoints, self.abouts, strict=True):
            if _sees(about) != _sees(self.about):
                raise DataError(
                    f"{path}: was trained on other images than {self.checkpoints[0]} (task, sizes, "
                    "channels, label groups or preparation); give checkpoints of one task and study"
                )
        self.device = usable_device(device)

    @functools.cached_property
    def models(self) -> list[nn.Module]:
        """The models, read when the first scan turns out to be one."""
        return [
            load_checkpoint(
                path, source=self.source, device=self.device, trust_code=self.trust_code
            )[0]
            for path in self.checkpoints
        ]

    @property
    def values(self) -> dict[str, int]:
        """Each label group's value: its first label (1 for `all`), or its place where those are
        not unique.
        """
        groups = self.about.preparation.groups.values()
        first = [1 if isinstance(labels, str) else next(iter(labels), 0) for labels in groups]
        unique = len(set(first)) == len(first) and max(first) < 256
        numbers = first if unique else range(1, len(first) + 1)
        return dict(zip(self.about.preparation.groups, numbers, strict=True))

    def segment(self, images: Sequence[Path]) -> Any:
        """The predicted labels of a scan as a nibabel image, uint8 [X, Y, Z] with the scan's
        affine; where groups overlap, the later one wins.

        The probabilities are resampled to the scan's own grid before they are cut, exactly as a
        trial's evaluation does.

        Args:
            images: the scan's file, or its files with some channels each, in the order of the
                training.

        Raises:
            DataError: a wrong image. BlockError, AssetError: the language-model block cannot be
                had.
        """
        about, names = self.about, ", ".join(map(str, images))
        if about.file_channels and (found := file_channels(images)) != about.file_channels:
            raise DataError(
                f"{names}: {found} channels in all, the model was trained on files of "
                f"{about.file_channels}, all of which scale what it sees (data.scaled: file); give "
                "all channels, in the order of the training"
            )
        ways = [
            each.preparation
            for place, each in enumerate(self.abouts)
            if each.preparation not in [other.preparation for other in self.abouts[:place]]
        ]
        seen = [prepare_image(images, way) for way in ways]
        if len(seen[0].image) != about.in_channels:
            raise DataError(
                f"{names}: {len(seen[0].image)} channels, the model was trained with "
                f"{about.in_channels}; give all of its files, in the order of the training"
            )
        pairs = list(zip(self.models, self.abouts, strict=True))
        shown = [
            ([model for model, each in pairs if each.preparation == way], inputs)
            for way, inputs in zip(ways, seen, strict=True)
        ]
        grid = open_volume(images[0]).grid
        masks = segmented(shown, about, grid.voxel_mm3, self.device)
        labels = np.zeros(grid.shape, dtype=np.uint8)
        for mask, value in zip(masks, self.values.values(), strict=True):
            labels[mask] = value
        scan = nibabel.load(images[0])
        header = nibabel.Nifti1Header.from_header(scan.header, check=False)
        header.set_data_dtype(np.uint8)
        header["cal_min"] = header["cal_max"] = 0
        return nibabel.Nifti1Image(labels, scan.affine, header)


def segmented(
    shown: Sequence[Shown], about: About, voxel_mm3: float, device: torch.device
) -> np.ndarray:
    """Label groups of a case, bool [G, X, Y, Z], as the evaluation of a trial makes them.

    Args:
        shown: models, and how they see the case.
        about: of one of them.
        voxel_mm3: volume of a voxel of the case.
    """
    masks = predict_together(
        shown,
        device=device,
        precision=about.precision,
        output=about.output,
        inference=about.inference,
    )
    return tidied(masks, list(about.preparation.groups), voxel_mm3, about.inference)


def _sees(about: About) -> Mapping[str, Any]:
    """What checkpoints that segment together have in common: all but the networks, and what each
    fold's training cases decided of the patches.
    """
    return about.model_dump(
        exclude={"model": True, "block": True, "preparation": {"ranges", *_fold_spacing(about)}}
    )


def _fold_spacing(about: About) -> tuple[str, ...]:
    return ("spacing",) if about.preparation.protocol == "patches" else ()
