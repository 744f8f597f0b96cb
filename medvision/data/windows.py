"""A window that slides over a volume: where it stops, and what it finds on the way, put together.

Neighbours overlap and count by a Gaussian around their middle, because a network sees least where
its input ends (Isensee et al. 2021).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

from medvision.data.tiling import starts

AT_ONCE = 4  # windows that a network gets together
SIGMA = 1 / 8  # of the Gaussian, as a share of the window's length
LEAST_WEIGHT = 1e-3  # so that no voxel is divided by nothing
SHARE_OF_GPU = 0.5  # of the free memory that the sums may take; they lie in main memory otherwise


@functools.lru_cache(8)
def weights(size: Sequence[int]) -> torch.Tensor:
    """What each voxel of a window counts, float32 [*size], 1 at most."""
    whole = torch.ones(())
    for n in size:
        places = (torch.arange(n) - (n - 1) / 2) / (n * SIGMA)
        whole = whole[..., None] * torch.exp(-0.5 * places**2)
    return whole.clamp_min(LEAST_WEIGHT)


def slide(
    network: Callable[[torch.Tensor], torch.Tensor],
    image: torch.Tensor,
    size: Sequence[int],
    overlap: float,
) -> torch.Tensor:
    """Probabilities [G, X, Y, Z] of an image [C, X, Y, Z] of any size.

    Args:
        network: windows [B, C, *size] to probabilities [B, G, *size].
        size: of a window; a smaller image lies in the middle of zeros.
        overlap: share of a window's length, from 0 to below 1.
    """
    shape = tuple(image.shape[1:])
    missing = [max(n - length, 0) for n, length in zip(size, shape, strict=True)]
    before = [lacking - lacking // 2 for lacking in missing]  # as a patch of a training begins
    padding = [
        width
        for first, lacking in zip(reversed(before), reversed(missing), strict=True)
        for width in (first, lacking - first)
    ]
    padded = F.pad(image, padding)
    places = list(
        itertools.product(
            *(starts(*along, overlap) for along in zip(padded.shape[1:], size, strict=True))
        )
    )
    weight = weights(tuple(size)).to(image.device)
    sums = counts = torch.zeros(())
    for first in range(0, len(places), AT_ONCE):
        windows = [
            (slice(None), *(slice(a, a + n) for a, n in zip(place, size, strict=True)))
            for place in places[first : first + AT_ONCE]
        ]
        found = network(torch.stack([padded[window] for window in windows]))
        if not first:
            device = _room(image.device, (found.shape[1] + 1) * padded[0].numel() * 4)
            sums = torch.zeros((found.shape[1], *padded.shape[1:]), device=device)
            counts = torch.zeros(padded.shape[1:], device=device)
        for window, one in zip(windows, found, strict=True):
            sums[window] += (one * weight).to(sums.device)
            counts[window[1:]] += weight.to(counts.device)
    sums /= counts
    inside = (slice(a, a + length) for a, length in zip(before, shape, strict=True))
    return sums[(slice(None), *inside)]


def _room(device: torch.device, wanted: int) -> torch.device:
    """Where sums of so many bytes lie: on the device, or in main memory where it is too full."""
    if device.type == "cuda" and wanted > SHARE_OF_GPU * torch.cuda.mem_get_info(device)[0]:
        return torch.device("cpu")
    return device
