"""Metrics of what a mask is made of: its lesions, its centreline, its volume. They cost more than
overlaps, so that they are computed where they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medvision.metrics.definitions import Further

Mask = NDArray[np.bool_]
TOUCHING = np.ones((3, 3, 3), bool)  # voxels of one lesion touch, be it at a corner
FOUND = 0.5  # intersection over union from which a lesion counts as found


def structure_metrics(
    prediction: Mask, truth: Mask, further: Collection[Further]
) -> dict[str, float]:
    """The metrics of these kinds (`medvision.metrics.definitions.FURTHER`).

    - `lesions`: connected components of 26 neighbours. One of the truth is found by the predicted
      component with which it shares at least half of their union, each by one at most, the greatest
      share first (as panoptica's matching). `lesion_f1` is 2 found / (true + predicted),
      `lesion_sensitivity` found / true, `lesion_false_positives` predicted ones that found none.
    - `centrelines`: `cldice`, the harmonic mean of the share of the prediction's centreline inside
      the truth and of the truth's inside the prediction (Shit et al., CVPR 2021), with Lee's
      thinning.
    - `volumes`: `volume_error`, the difference of both volumes as a share of the truth's.

    Args:
        prediction: bool [X, Y, Z].
        truth: the same for the truth.

    Returns:
        NaN where something is not defined: the truth's share without truth, agreement of two empty
        masks. A miss and a mask where nothing is to be found agree by 0.
    """
    inside = _box(prediction | truth)
    prediction, truth = prediction[inside], truth[inside]
    found: dict[str, float] = {}
    if "lesions" in further:
        true, predicted, both = _lesions(prediction, truth)
        found["lesion_f1"] = _ratio(2 * both, true + predicted)
        found["lesion_sensitivity"] = _ratio(both, true)
        found["lesion_false_positives"] = float(predicted - both)
    if "centrelines" in further:
        found["cldice"] = _cldice(prediction, truth)
    if "volumes" in further:
        true, predicted = int(truth.sum()), int(prediction.sum())
        found["volume_error"] = _ratio(abs(predicted - true), true)
    return found


def _box(mask: Mask) -> tuple[slice, ...]:
    """The smallest box around a mask; nothing of an empty one."""
    found = ndimage.find_objects(mask.astype(np.uint8))
    return found[0] if found else (slice(0, 0),) * 3


def _lesions(prediction: Mask, truth: Mask) -> tuple[int, int, int]:
    """Components of the truth, of the prediction, and how many of them are each other's."""
    predicted, count = ndimage.label(prediction, TOUCHING)
    true, wanted = ndimage.label(truth, TOUCHING)
    shared = (predicted > 0) & (true > 0)
    pairs, overlaps = np.unique(
        np.stack([true[shared], predicted[shared]]), axis=1, return_counts=True
    )
    sizes = np.bincount(true.ravel())[pairs[0]] + np.bincount(predicted.ravel())[pairs[1]]
    shares = overlaps / (sizes - overlaps)
    taken: tuple[set[int], set[int]] = (set(), set())
    for place in np.argsort(-shares, kind="stable"):
        one, other = int(pairs[0, place]), int(pairs[1, place])
        if shares[place] >= FOUND and one not in taken[0] and other not in taken[1]:
            taken[0].add(one)
            taken[1].add(other)
    return int(wanted), int(count), len(taken[0])


def _cldice(prediction: Mask, truth: Mask) -> float:
    if not prediction.any() or not truth.any():
        return math.nan if prediction.any() == truth.any() else 0.0
    from skimage.morphology import skeletonize  # a second, which few evaluations need

    of_prediction, of_truth = (skeletonize(mask) > 0 for mask in (prediction, truth))
    precision = _ratio(int((of_prediction & truth).sum()), int(of_prediction.sum()))
    sensitivity = _ratio(int((of_truth & prediction).sum()), int(of_truth.sum()))
    both = precision + sensitivity
    return 2 * precision * sensitivity / both if both > 0 else 0.0


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
