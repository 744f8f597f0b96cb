"""Protocol `paper`: the whole volume is stretched to image_size, whatever its proportions, and
scaled by the extremes of what is then seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from medvision.data.nifti import Image
from medvision.data.settings import Intensity, Preparation
from medvision.data.views.base import Network, Placement


@dataclass(frozen=True)
class Stretched:
    """The case's whole grid fills the network's: trilinear, voxel centres at i + 1/2."""

    shape: tuple[int, ...]
    size: tuple[int, ...]

    def show_mask(self, mask: torch.Tensor) -> torch.Tensor:
        return _resized(mask[None, None].float(), self.size)[0, 0] >= 0.5

    def segment(self, network: Network, image: torch.Tensor) -> torch.Tensor:
        return _resized(network(image[None]), self.shape)[0] > 0.5

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Stretched:
        return Stretched(tuple(value["shape"]), tuple(value["size"]))


@dataclass(frozen=True)
class PaperView:
    """See the module; of the settings it takes `image_size` and `intensity`."""

    settings: Preparation

    def show(self, source: Image) -> tuple[np.ndarray, Placement]:
        size = self.settings.image_size
        resized = [
            _normalise(resize(channel[None], size), self.settings.intensity)
            for channel in source.channels
        ]
        placement = Stretched(tuple(source.channels.shape[1:]), tuple(size))
        return np.concatenate(resized).astype(np.float16), placement


def resize(volume: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Trilinear resize of float32 [C, X, Y, Z] to [C, *size] over the same field of view (voxel
    centres at i + 1/2).
    """
    tensor = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None]
    return _resized(tensor, size)[0].numpy()


def _resized(volumes: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """[B, C, X, Y, Z] to [B, C, *size]."""
    return F.interpolate(volumes, size=tuple(size), mode="trilinear", align_corners=False)


def _normalise(image: np.ndarray, intensity: Intensity) -> np.ndarray:
    """z-score, then for `min-max` to [0, 1]; a constant image becomes 0."""
    centred = image - image.mean(dtype=np.float64)
    deviation = centred.std(dtype=np.float64)
    if deviation == 0:
        return np.zeros_like(image)
    scored = (centred / deviation).astype(np.float32)
    if intensity == "z-score":
        return scored
    return ((scored - scored.min()) / (scored.max() - scored.min())).astype(np.float32)
