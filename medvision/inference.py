"""How a trained network segments a case, as values. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat

from medvision.settings import Settings
from record.names import Name

Choice = Literal["mirror", "largest", "least_ml"]  # what may be chosen on validation cases


class Inference(Settings):
    """What is done beside the network, the same for every model."""

    overlap: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="of two windows that are neighbours, as a share of their length; they count by "
        "a Gaussian around their middle (data.protocol: patches)",
    )
    mirror: bool = Field(
        default=False,
        description="the mean over the case and its seven mirror images along X, Y and Z, at eight "
        "times the cost; only for trainings that saw mirror images (strong_augmentation), others "
        "take left for right in them",
    )
    largest: list[Name] | Literal["all"] = Field(
        default=[],
        description="label groups of which only the largest connected component is kept",
    )
    least_ml: dict[Name, PositiveFloat] = Field(
        default={},
        description="per label group, ml below which a connected component is removed",
    )

    @property
    def images(self) -> int:
        """Mirror images, the case itself included."""
        return 8 if self.mirror else 1

    @property
    def named(self) -> set[str]:
        """The label groups that are named."""
        return {*self.least_ml, *(() if self.largest == "all" else self.largest)}
