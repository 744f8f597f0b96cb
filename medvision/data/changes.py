"""nnU-Net's random changes of a training's samples, as values. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from medvision.settings import Settings

Probability = Annotated[float, Field(ge=0, le=1)]


class Change(Settings):
    """One kind of change: how often, and between which values, uniformly."""

    probability: Probability = Field(description="that a sample is changed in this way")
    low: float = Field(description="smallest value")
    high: float = Field(description="largest value")

    @model_validator(mode="after")
    def _ascending(self) -> Change:
        if self.low > self.high:
            raise ValueError(f"low must not be above high, got {self.low} and {self.high}")
        return self


def _change(probability: float, low: float, high: float, about: str) -> Any:
    change = Change(probability=probability, low=low, high=high)
    return Field(default=change, description=about)


class StrongAugmentation(Settings):
    """What nnU-Net changes (Isensee et al. 2021, supplementary note 4), in its order; each kind by
    itself, drawn from the training's own seed, epoch and case.
    """

    scale: Change = _change(0.2, 0.7, 1.4, "of the structures; above 1 they are larger")
    rotation: Change = _change(0.2, -30, 30, "degrees, about each axis by itself")
    noise: Change = _change(0.1, 0, 0.1, "variance of Gaussian noise")
    blur: Change = _change(0.2, 0.5, 1, "standard deviation of a Gaussian, in voxels")
    brightness: Change = _change(0.15, 0.75, 1.25, "factor of every value")
    contrast: Change = _change(
        0.15, 0.75, 1.25, "factor of the distance from the mean, within the sample's range"
    )
    low_resolution: Change = _change(
        0.25, 0.5, 1, "share of the voxels along each axis that are left, then enlarged"
    )
    inverted_gamma: Change = _change(
        0.1, 0.7, 1.5, "exponent on the sample's range of the negative image; mean and spread stay"
    )
    gamma: Change = _change(0.3, 0.7, 1.5, "exponent on the sample's range; mean and spread stay")
    mirror: tuple[Probability, Probability, Probability] = Field(
        default=(0.5, 0.5, 0.5), description="probability of a mirror image along X, Y and Z"
    )

    @model_validator(mode="after")
    def _possible(self) -> StrongAugmentation:
        for name in ("scale", "low_resolution", "gamma", "inverted_gamma", "blur"):
            if not getattr(self, name).low > 0:
                raise ValueError(f"{name}.low must be above 0, got {getattr(self, name).low}")
        if self.low_resolution.high > 1 or self.noise.low < 0:
            raise ValueError("low_resolution.high is 1 at most, and noise.low 0 at least")
        return self
