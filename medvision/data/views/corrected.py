"""Protocol `corrected`: turned to RAS, proportions kept, voxels of a stated size where wished,
intensities clipped to a CT window or to robust percentiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from medvision.data.geometry import Box, Geometry, place
from medvision.data.nifti import Image
from medvision.data.settings import CT_WINDOW, Intensity, Modality, Preparation
from medvision.data.views.base import Network, Placement

PERCENTILES = (0.5, 99.5)  # of an image that is no CT: what is clipped away
BODY_HU = -500.0  # halfway between air and water


@dataclass(frozen=True)
class InProportion:
    """A box of the case, turned to RAS, lies in the network's grid as `geometry` says."""

    geometry: Geometry

    @property
    def shape(self) -> tuple[int, ...]:
        return self.geometry.shape

    @property
    def patches(self) -> None:
        """The whole case is seen at once."""

    def show_mask(self, mask: torch.Tensor) -> torch.Tensor:
        """Where the mask fills at least half of a voxel of the network. One that fills half of none
        is kept where it fills most: a structure smaller than a voxel does not vanish.
        """
        share = self.geometry.to_network(mask.float())
        shown = share >= 0.5
        if shown.any() or not mask.any():
            return shown
        if not (most := float(share.max())) > 0:
            raise ValueError("lies outside of the box that data.crop shows")
        return share >= most / 2

    def infer(self, network: Network, image: torch.Tensor, overlap: float) -> torch.Tensor:
        return network(image[None])[0]

    def to_case(self, volume: torch.Tensor) -> torch.Tensor:
        return self.geometry.to_case(volume)

    def to_json(self) -> dict[str, Any]:
        return asdict(self.geometry)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> InProportion:
        box = tuple((low, high) for low, high in value["box"])
        parts = {key: tuple(part) for key, part in value.items()}
        return InProportion(Geometry(**parts | {"box": box}))


@dataclass(frozen=True)
class CorrectedView:
    """See the module."""

    settings: Preparation

    def placement(self, shape: tuple[int, ...]) -> None:
        """Orientation, spacing and box are those of the image."""

    def show(self, source: Image) -> tuple[np.ndarray, Placement]:
        settings, shape = self.settings, source.channels.shape[1:]
        kinds = [
            settings.modality[min(index, len(settings.modality) - 1)]
            for index in range(len(source.channels))
        ]
        box = (_body_box(source, kinds) if settings.crop else None) or tuple(
            (0, length) for length in shape
        )
        shown = tuple(slice(*ends) for ends in box)
        geometry = place(
            shape,
            source.spacing,
            source.affine,
            settings.image_size,
            target=settings.spacing,
            box=box,
        )
        channels = []
        for channel, kind in zip(source.channels, kinds, strict=True):
            low, high = (
                settings.ct_window or CT_WINDOW
                if kind == "CT"
                else np.percentile(channel[shown], PERCENTILES)
            )
            scaled, air = _clipped(channel, shown, float(low), float(high), settings.intensity)
            channels.append(geometry.to_network(torch.from_numpy(scaled), air))
        return torch.stack(channels).numpy().astype(np.float16), InProportion(geometry)


def _clipped(
    image: np.ndarray, shown: tuple[slice, ...], low: float, high: float, intensity: Intensity
) -> tuple[np.ndarray, float]:
    """The range [low, high] to [0, 1], or its z-score over what is shown; and the value of `low`,
    which surrounds it.
    """
    if not low < high:
        return np.zeros_like(image), 0.0
    scaled = (np.clip(image, low, high) - low) / (high - low)
    if intensity == "min-max":
        return scaled, 0.0
    mean, deviation = (float(part(scaled[shown], dtype=np.float64)) for part in (np.mean, np.std))
    if deviation == 0:
        return np.zeros_like(image), 0.0
    return (scaled - mean) / deviation, -mean / deviation


def _body_box(source: Image, kinds: Sequence[Modality]) -> Box | None:
    """Smallest box, in voxels of the case, around what is not air in any channel; None where all is
    air.

    Air is below -500 HU in CT, otherwise below a tenth of the way from the 2nd to the 98th
    percentile (Smith 2002, BET).
    """
    body = np.zeros(source.channels.shape[1:], bool)
    for channel, kind in zip(source.channels, kinds, strict=True):
        low, high = np.percentile(channel, (2, 98))
        body |= channel > (BODY_HU if kind == "CT" else low + 0.1 * (high - low))
    if not body.any():
        return None
    box = []
    for axis in range(3):
        found = np.flatnonzero(body.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append((int(found[0]), int(found[-1]) + 1))
    return tuple(box)
