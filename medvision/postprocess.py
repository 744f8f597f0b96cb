"""What is removed from a predicted mask: components that are not the largest, or too small."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from medvision.inference import Inference

MM3_PER_ML = 1000.0
TOUCHING = np.ones((3, 3, 3), bool)  # voxels of one component touch, be it at a corner


def tidied(
    masks: np.ndarray, groups: Sequence[str], voxel_mm3: float, how: Inference
) -> np.ndarray:
    """The masks as `how` says; as they are where it says nothing.

    Args:
        masks: bool [G, X, Y, Z].
        groups: G names.
        voxel_mm3: volume of a voxel.
    """
    if not how.largest and not how.least_ml:
        return masks
    kept = masks.copy()
    for name, mask in zip(groups, kept, strict=True):
        least = how.least_ml.get(name, 0.0) * MM3_PER_ML / voxel_mm3
        only_largest = how.largest == "all" or name in how.largest
        if not mask.any() or not (least or only_largest):
            continue
        numbers, _ = ndimage.label(mask, TOUCHING)
        sizes = np.bincount(numbers.ravel())
        wanted = sizes >= least
        wanted[0] = False
        if only_largest:
            wanted &= np.arange(len(sizes)) == 1 + sizes[1:].argmax()
        mask[:] = wanted[numbers]
    return kept
