"""What a network sees of a case, as values. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from medvision.settings import Settings, Since
from record.names import Name

CT_WINDOW = (-1000.0, 1000.0)  # HU, where a spec gives none (protocol: corrected)


def _ascending(window: tuple[float, float]) -> tuple[float, float]:
    if not window[0] < window[1]:
        raise ValueError(f"the lower end must be below the upper end, got {list(window)}")
    return window


Intensity = Literal["min-max", "z-score"]
Protocol = Literal["paper", "corrected", "patches"]
# The settings that not every protocol reads (`medvision.data.views`), and who does:
PROTOCOL_SETTINGS: Mapping[Protocol, tuple[str, ...]] = {
    "paper": ("scaled", "resampling", "mask_voxel"),
    "corrected": ("modality", "ct_window", "spacing", "crop"),
    "patches": ("modality", "ct_window", "spacing", "foreground"),
}
VALIDATION_PATCHES = 4  # of each case, after every epoch (protocol: patches)
Scaled = Literal["resized", "file"]
Resampling = Literal["centres", "corners"]
MaskVoxel = Literal["half", "any"]
# What the official code does otherwise than the defaults:
OFFICIAL: Mapping[str, str] = {"scaled": "file", "resampling": "corners", "mask_voxel": "any"}
Modality = Literal["CT", "MRI"]
Size = tuple[PositiveInt, PositiveInt, PositiveInt]
Spacing = tuple[PositiveFloat, PositiveFloat, PositiveFloat]
Window = Annotated[tuple[float, float], AfterValidator(_ascending)]
Channel = Annotated[int, Field(ge=0)] | Literal["all"]
Labels = Annotated[list[PositiveInt], Field(min_length=1)]
LabelGroups = Annotated[dict[Name, Labels | Literal["all"]], Field(min_length=1)]


class ChannelRange(Settings):
    """What a CT's values are clipped to, and their mean and standard deviation then, as the
    structures of the training cases have them, or the window that was given
    (`medvision.data.fitted`).
    """

    low: float
    high: float
    mean: float
    deviation: NonNegativeFloat


class Preparation(Settings):
    """What a network sees of a case (`medvision.data.preprocess`)."""

    groups: LabelGroups
    image_size: Size
    channel: Channel = 0
    intensity: Intensity = "min-max"
    protocol: Protocol = "paper"
    # Only for protocols that read them (PROTOCOL_SETTINGS):
    modality: tuple[Modality, ...] = (
        "MRI",
    )  # of each channel; the last one holds for all that follow
    # of a CT; None: CT_WINDOW, or what the training cases' structures hold (protocol: patches)
    ct_window: Window | None = None
    spacing: Spacing | None = None
    crop: bool = False
    scaled: Annotated[Scaled, Since("0.2", before="resized")] = "resized"
    resampling: Annotated[Resampling, Since("0.2", before="centres")] = "centres"
    mask_voxel: Annotated[MaskVoxel, Since("0.2", before="half")] = "half"
    foreground: Annotated[float, Since("0.2", before=0.33)] = 0.33
    # of each channel, None for one that is no CT; empty until the training cases were read
    ranges: Annotated[tuple[ChannelRange | None, ...], Since("0.2", before=())] = ()

    @property
    def drops_structures(self) -> bool:
        """Whether a structure can be missing from what the network sees: it lies outside of the
        crop, or between the voxels of a stretched grid.
        """
        return self.protocol == "paper" or self.crop
