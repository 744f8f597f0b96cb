"""Protocol `paper`: the whole volume is stretched to image_size, whatever its proportions, and
scaled by the extremes of what is then seen, or, as the official code does, of the whole file
before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from medvision.data.nifti import Image
from medvision.data.settings import Intensity, MaskVoxel, Preparation, Resampling
from medvision.data.views.base import Network, Placement


@dataclass(frozen=True)
class Stretched:
    """The case's whole grid fills the network's, trilinearly.

    Attributes:
        shape: of the case.
        size: of the network's grid.
        resampling: `centres`: voxel centres lie at i + 1/2, so that both grids have one field of
            view; `corners`: the first and the last voxels of both grids lie on each other, as
            scipy's zoom has it.
        mask_voxel: a voxel of a mask is one that is filled by at least `half`, or at `any` part.
    """

    shape: tuple[int, ...]
    size: tuple[int, ...]
    resampling: Resampling = "centres"
    mask_voxel: MaskVoxel = "half"

    @property
    def patches(self) -> None:
        """The whole case is seen at once."""

    def show_mask(self, mask: torch.Tensor) -> torch.Tensor:
        share = _resized(mask[None, None].float(), self.size, self.resampling)[0, 0]
        return share > 0 if self.mask_voxel == "any" else share >= 0.5

    def infer(self, network: Network, image: torch.Tensor, overlap: float) -> torch.Tensor:
        return network(image[None])[0]

    def to_case(self, volume: torch.Tensor) -> torch.Tensor:
        return _resized(volume[None, None], self.shape, self.resampling)[0, 0]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Stretched:
        return Stretched(**{**value, "shape": tuple(value["shape"]), "size": tuple(value["size"])})


@dataclass(frozen=True)
class PaperView:
    """See the module; of the settings it takes `image_size`, `intensity`, and those of the official
    code.
    """

    settings: Preparation

    def placement(self, shape: tuple[int, ...]) -> Placement:
        settings, size = self.settings, tuple(self.settings.image_size)
        return Stretched(tuple(shape), size, settings.resampling, settings.mask_voxel)

    def show(self, source: Image) -> tuple[np.ndarray, Placement]:
        settings = self.settings
        if settings.scaled == "file":
            chosen = self._of_whole_file(source.channels)
            resized = [resize(chosen, settings.image_size, settings.resampling)]
        else:
            resized = [
                _normalise(
                    resize(channel[None], settings.image_size, settings.resampling),
                    settings.intensity,
                )
                for channel in source.channels
            ]
        return np.concatenate(resized).astype(np.float16), self.placement(source.channels.shape[1:])

    def _of_whole_file(self, channels: np.ndarray) -> np.ndarray:
        """The wanted channels, scaled by the extremes of all of them together."""
        channel = self.settings.channel
        if channel == "all":
            wanted = channels
        elif channel < len(channels):
            wanted = channels[channel : channel + 1]
        else:
            raise ValueError(f"has {len(channels)} channels, channel {channel} was asked for")
        low, high = np.float64(channels.min()), np.float64(channels.max())
        if low == high:
            return np.zeros(wanted.shape, np.float32)
        shift, spread = low, high - low
        if self.settings.intensity == "z-score":
            shift = channels.mean(dtype=np.float64)
            squares = sum(((layer - shift) ** 2).sum() for layer in _layers(channels))
            spread = np.sqrt(squares / channels.size)
        scaled = np.empty(wanted.shape, np.float32)
        for made, layer in zip(_layers(scaled), _layers(wanted), strict=True):
            made[:] = (layer - shift) / spread
        return scaled


def _layers(channels: np.ndarray) -> Iterator[np.ndarray]:
    """Views of [X, Y], so that float64 is needed of one at a time and never of a whole file."""
    return (channel[..., z] for channel in channels for z in range(channel.shape[-1]))


def resize(
    volume: np.ndarray, size: Sequence[int], resampling: Resampling = "centres"
) -> np.ndarray:
    """Trilinear resize of float32 [C, X, Y, Z] to [C, *size]; `resampling` as of `Stretched`."""
    tensor = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None]
    return _resized(tensor, size, resampling)[0].numpy()


def _resized(volumes: torch.Tensor, size: Sequence[int], resampling: Resampling) -> torch.Tensor:
    """[B, C, X, Y, Z] to [B, C, *size]."""
    corners = resampling == "corners"
    return F.interpolate(volumes, size=tuple(size), mode="trilinear", align_corners=corners)


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
