"""nnU-Net's random changes of a batch, on the device where it lies, drawn from (seed, epoch, case).

Every kind of change has a stream of random numbers of its own, so that turning one on or off leaves
the others as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from medvision.data.changes import Change, StrongAugmentation
from medvision.seeds import derive_seed

_SPREADS = 3  # of a Gaussian that are counted on each side


def strongly_changed(
    images: torch.Tensor,
    masks: torch.Tensor,
    cases: Sequence[str],
    settings: StrongAugmentation,
    *,
    seed: int,
    epoch: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The changed images, and masks, moved as the images are and cut at one half.

    Args:
        images: float [B, C, X, Y, Z]; they and the masks are changed in place.
        masks: float [B, G, X, Y, Z], 0 or 1.
        cases: B case ids.
    """
    for index, case in enumerate(cases):
        draws = _Draws(seed, epoch, case)
        image, mask = images[index], masks[index]
        image, mask = _moved(image, mask, draws, settings)
        if variance := draws.value("noise", settings.noise):
            image = image + math.sqrt(variance) * draws.normal(image)
        if sigma := draws.value("blur", settings.blur):
            image = blurred(image, sigma)
        if factor := draws.value("brightness", settings.brightness):
            image = image * factor
        if factor := draws.value("contrast", settings.contrast):
            image = _contrasted(image, factor)
        if share := draws.value("low resolution", settings.low_resolution):
            image = _coarsened(image, share)
        if exponent := draws.value("inverted gamma", settings.inverted_gamma):
            image = -_curved(-image, exponent)
        if exponent := draws.value("gamma", settings.gamma):
            image = _curved(image, exponent)
        chances = enumerate(settings.mirror)
        axes = [axis + 1 for axis, chance in chances if draws.number("mirror", axis) < chance]
        images[index], masks[index] = image.flip(axes), mask.flip(axes)
    return images, masks


class _Draws:
    """Random numbers of one sample by the kind of change that they are for."""

    def __init__(self, seed: int, epoch: int, case: str) -> None:
        self.place = (seed, epoch, case)

    def number(self, kind: str, place: int = 0) -> float:
        """Uniform in [0, 1)."""
        return derive_seed("strong", kind, place, *self.place) / 2**63

    def value(self, kind: str, change: Change, place: int = 0) -> float | None:
        """The value of a change; None where the sample is not changed so."""
        if self.number(f"whether {kind}") >= change.probability:
            return None
        return change.low + (change.high - change.low) * self.number(kind, place)

    def normal(self, like: torch.Tensor) -> torch.Tensor:
        """Standard normal numbers in the shape of an image, made where it lies: a GPU's differ from
        the CPU's.
        """
        generator = torch.Generator(like.device)
        generator.manual_seed(derive_seed("strong", "noise field", *self.place))
        return torch.empty_like(like).normal_(generator=generator)


def _moved(
    image: torch.Tensor, mask: torch.Tensor, draws: _Draws, settings: StrongAugmentation
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scaled and turned around the middle in one linear interpolation."""
    scale = draws.value("scale", settings.scale)
    angles = [draws.value("rotation", settings.rotation, axis) for axis in range(3)]
    if scale is None and angles[0] is None:
        return image, mask
    turn = torch.eye(3, dtype=torch.float64)
    for axis, degrees in enumerate(angles):
        turn = turn @ rotation_about(axis, math.radians(degrees or 0.0))
    return (
        resampled(image, turn / (scale or 1.0), "border"),
        resampled(mask, turn / (scale or 1.0), "zeros").ge(0.5).to(mask),
    )


def rotation_about(axis: int, angle: float) -> torch.Tensor:
    """Rotation matrix [3, 3] about X, Y or Z, in radians."""
    matrix = torch.eye(3, dtype=torch.float64)
    one, other = [place for place in range(3) if place != axis]
    matrix[one, one] = matrix[other, other] = math.cos(angle)
    matrix[one, other], matrix[other, one] = -math.sin(angle), math.sin(angle)
    return matrix


def resampled(volumes: torch.Tensor, matrix: torch.Tensor, padding: str) -> torch.Tensor:
    """[C, X, Y, Z] where the voxel at v, counted from the middle, is the one at `matrix` v before.

    Args:
        matrix: [3, 3], in voxels.
        padding: of grid_sample: `border` or `zeros`.
    """
    sizes = torch.tensor(volumes.shape[1:], dtype=torch.float64)
    in_shares = matrix * sizes[None, :] / sizes[:, None]  # grid_sample counts from -1 to 1
    theta = torch.zeros(1, 3, 4, dtype=torch.float64)
    theta[0, :, :3] = in_shares.flip(0, 1)  # and the last axis first
    grid = F.affine_grid(theta.to(volumes), [1, *volumes.shape], align_corners=False)
    return F.grid_sample(
        volumes[None], grid, mode="bilinear", padding_mode=padding, align_corners=False
    )[0]


def blurred(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian of so many voxels along each axis; the border is repeated."""
    radius = math.ceil(_SPREADS * sigma)
    places = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (places / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(image)
    for axis in (1, 2, 3):
        lines = image.movedim(axis, -1)
        padded = F.pad(lines.reshape(1, -1, lines.shape[-1]), (radius, radius), mode="replicate")
        found = F.conv1d(padded.movedim(1, 0), kernel[None, None])
        image = found.reshape(lines.shape).movedim(-1, axis)
    return image


def _contrasted(image: torch.Tensor, factor: float) -> torch.Tensor:
    low, high, mean = (part(image, (1, 2, 3)) for part in (torch.amin, torch.amax, torch.mean))
    low, high, mean = (value.view(-1, 1, 1, 1) for value in (low, high, mean))
    return ((image - mean) * factor + mean).clamp(low, high)


def _coarsened(image: torch.Tensor, share: float) -> torch.Tensor:
    size = [max(1, round(length * share)) for length in image.shape[1:]]
    coarse = F.interpolate(image[None], size, mode="nearest-exact")
    return F.interpolate(coarse, image.shape[1:], mode="trilinear")[0]


def _curved(image: torch.Tensor, exponent: float) -> torch.Tensor:
    """Gamma on each channel's own range; its mean and standard deviation stay what they were."""
    axes = (1, 2, 3)
    low, high = image.amin(axes, keepdim=True), image.amax(axes, keepdim=True)
    span = (high - low).clamp_min(1e-7)
    curved = ((image - low) / span).pow(exponent)
    mean, deviation = image.mean(axes, keepdim=True), image.std(axes, keepdim=True)
    spread = curved.std(axes, keepdim=True).clamp_min(1e-7)
    return (curved - curved.mean(axes, keepdim=True)) / spread * deviation + mean
