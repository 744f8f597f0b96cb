"""Protocol `patches`: turned to RAS, at one spacing for all cases, whole; a network sees patches of
`image_size` voxels, and a window of that size slides over a case that is segmented.

The spacing is the one that was given, or the training cases' median; a CT's values are clipped to
`ct_window`, where one is given, and scaled by those of the training cases' structures
(`medvision.data.fitted`), other images' by their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from medvision.data.geometry import orient
from medvision.data.nifti import Image
from medvision.data.resample import by_splines, linearly, thick_axis
from medvision.data.settings import ChannelRange, Intensity, Preparation
from medvision.data.tiling import resampled_shape
from medvision.data.views.base import Network, Patches, Placement
from medvision.data.windows import slide

PERCENTILES = (0.5, 99.5)  # of an image that is no CT, which become 0 and 1


@dataclass(frozen=True)
class Resampled:
    """The whole case, turned to RAS, on a grid of another spacing with the same field of view.

    Attributes:
        shape: of the case.
        size: of the other grid, in RAS.
        patch: what a network sees of it at once.
        axes: the grid's axis k runs along axis `axes[k]` of the case, backwards where `flips[k]`.
        thick: the axis, in RAS, of thick slices.
        foreground: share of a training's patches that are centred on a structure.
    """

    shape: tuple[int, ...]
    size: tuple[int, ...]
    patch: tuple[int, ...]
    axes: tuple[int, ...]
    flips: tuple[bool, ...]
    thick: int | None
    foreground: float

    @property
    def patches(self) -> Patches:
        return Patches(self.patch, self.foreground)

    def show_mask(self, mask: torch.Tensor) -> torch.Tensor:
        """Where the mask fills at least half of a voxel, linearly. A structure that fills half of
        none is kept where it fills most, or in the voxels that hold it.
        """
        turned = mask.permute(self.axes).flip(self._flipped)
        share = linearly(turned.float(), self.size, self.thick)
        shown = share >= 0.5
        if shown.any() or not mask.any():
            return shown
        if (most := float(share.max())) > 0:
            return share >= most / 2
        places = (turned.nonzero() + 0.5) * torch.tensor(self.size) / torch.tensor(turned.shape)
        shown[tuple(places.long().T)] = True
        return shown

    def infer(self, network: Network, image: torch.Tensor, overlap: float) -> torch.Tensor:
        return slide(network, image, self.patch, overlap)

    def to_case(self, volume: torch.Tensor) -> torch.Tensor:
        turned = [self.shape[axis] for axis in self.axes]
        whole = linearly(volume, turned, self.thick).flip(self._flipped)
        return whole.permute([self.axes.index(axis) for axis in range(3)])

    @property
    def _flipped(self) -> list[int]:
        return [axis for axis in range(3) if self.flips[axis]]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Resampled:
        parts: dict[str, Any] = {
            key: tuple(one) if isinstance(one, list) else one for key, one in value.items()
        }
        return Resampled(**parts)


@dataclass(frozen=True)
class PatchesView:
    """See the module."""

    settings: Preparation

    def placement(self, shape: tuple[int, ...]) -> None:
        """Orientation and spacing are those of the image."""

    def show(self, source: Image) -> tuple[np.ndarray, Placement]:
        settings = self.settings
        axes, flips = orient(source.affine)
        spacing = [source.spacing[axis] for axis in axes]
        target = settings.spacing or spacing
        shape = [source.channels.shape[1:][axis] for axis in axes]
        size = resampled_shape(shape, spacing, target)
        placement = Resampled(
            shape=source.channels.shape[1:],
            size=size,
            patch=settings.image_size,
            axes=axes,
            flips=flips,
            thick=thick_axis(spacing, target),
            foreground=settings.foreground,
        )
        image = np.empty((len(source.channels), *size), np.float16)
        backwards = tuple(axis for axis in range(3) if flips[axis])
        for index, (channel, shown) in enumerate(zip(source.channels, image, strict=True)):
            scaled = _scaled(channel, self._range(index), settings.intensity)
            turned = np.flip(scaled.transpose(axes), backwards)
            shown[:] = by_splines(turned, size, placement.thick)
        return image, placement

    def _range(self, channel: int) -> ChannelRange | None:
        """Of a CT's channel; None of another image.

        Raises:
            ValueError: the training cases of a CT were not read.
        """
        kinds, ranges = self.settings.modality, self.settings.ranges
        if kinds[min(channel, len(kinds) - 1)] != "CT":
            return None
        if not ranges or (found := ranges[min(channel, len(ranges) - 1)]) is None:
            raise ValueError("is a CT, whose range of values comes from training cases: fit them")
        return found


def _scaled(image: np.ndarray, known: ChannelRange | None, intensity: Intensity) -> np.ndarray:
    """One channel, clipped where its range is known; float32.

    min-max: the ends of the range (of another image: its percentiles) become 0 and 1. z-score: mean
    0, standard deviation 1, of the range or of the image. A constant image becomes 0.
    """
    if known:
        image = np.clip(image, known.low, known.high)
    if intensity == "min-max":
        low, high = (
            (known.low, known.high) if known else map(float, np.percentile(image, PERCENTILES))
        )
        shift, spread = low, high - low
    elif known:
        shift, spread = known.mean, known.deviation
    else:
        shift, spread = (float(part(image, dtype=np.float64)) for part in (np.mean, np.std))
    if not spread > 0:
        return np.zeros_like(image)
    return ((image - np.float32(shift)) / np.float32(spread)).astype(np.float32)
