"""`evaluate_case`: every metric of one predicted mask against its truth."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medvision.metrics.definitions import FURTHER, METRICS, SURFACES, Further, nsd_key

MM3_PER_ML = 1000.0
TIE = 1e-6  # mm: spacings in NIfTI files are float32, and in float64 3 * 0.8 > 2.4


def evaluate_case(
    prediction: ArrayLike,
    truth: ArrayLike,
    spacing: Sequence[float] | NDArray[np.floating],
    *,
    tolerances: Sequence[float] = (1.0,),
    nsd: str = "surfel",
    hd95: str = "voxel-max",
    strict: bool = False,
    further: Collection[Further] = (),
) -> dict[str, float | str]:
    """Overlap and surface metrics of one case, in float64 and exact up to rounding.

    A surface distance goes from an element of one boundary to the nearest element of the other. The
    definition says what an element is, and how the distances become HD95:

    - `surfel`: the 2x2x2 neighbourhoods through which the surface passes, weighted by its area in
      them. HD95 is the larger one of the two directed values, each the first distance at which the
      cumulative area reaches 95 %. As DeepMind's surface-distance and the Medical Segmentation
      Decathlon (Nikolov et al., "Clinically applicable segmentation of head and neck anatomy for
      radiotherapy", J Med Internet Res 23, 2021).
    - `voxel-max`: the voxels inside with one of their six neighbours outside. HD95 is the larger
      one of the two directed 95th percentiles, linearly interpolated. As MONAI and Metrics
      Reloaded.
    - `voxel-pooled`: the same voxels. HD95 is the 95th percentile of both directions pooled. As
      medpy.

    NSD is the weight of the elements within the tolerance over the weight of all; ASSD is the
    weighted mean of the distances, both over both boundaries pooled; HD is the largest distance.
    Outside of the volume counts as outside of the mask.

    Args:
        prediction: boolean or integer mask [X, Y, Z], in any memory order; voxels that are not 0
            are inside.
        truth: the same for the truth.
        spacing: voxel size along X, Y and Z in mm.
        tolerances: NSD tolerances in mm; a distance may exceed one by 1e-6 mm and still be within.
        nsd: definition of NSD; `voxel-max` and `voxel-pooled` give the same.
        hd95: definition of HD95, HD and ASSD.
        strict: take the tolerances as they are, without the 1e-6 mm.
        further: kinds of metrics that cost more, of `medvision.metrics.definitions.FURTHER`.

    Returns:
        `dice`, `jaccard`, `sensitivity`, `specificity`, `precision`, `accuracy`;
        `false_positive_volume` in ml; the NSD of each tolerance, such as `nsd@1.0`; `hd95`, `hd`
        and `assd` in mm; those of `further` (`medvision.metrics.structures`); and `status`:

        - `ok`: both masks have voxels inside.
        - `missed` (only the truth has) and `spurious` (only the prediction has): Dice, Jaccard,
          precision and NSD are 0, the distances infinite. Sensitivity is 0 for a miss, and NaN
          where the truth is empty.
        - `both-empty`: all but specificity, accuracy and the false-positive volume are NaN, that
          is, not applicable.

        Specificity is NaN where the truth fills the volume.

    Raises:
        ValueError: a mask that is not 3D, has no voxels or is not of a boolean or integer type;
            different shapes; a spacing that is not three positive finite numbers; a negative or
            non-finite tolerance; an unknown definition.
    """
    for name, definition in (("nsd", nsd), ("hd95", hd95)):
        if definition not in SURFACES:
            raise ValueError(f"{name} must be one of {', '.join(SURFACES)}, got {definition!r}")
    if unknown := [kind for kind in further if kind not in FURTHER]:
        raise ValueError(f"further must be of {', '.join(FURTHER)}, got {unknown[0]!r}")
    limits = [float(value) for value in tolerances]
    if not all(0 <= limit < math.inf for limit in limits):
        raise ValueError(
            f"tolerances must be finite distances in mm, 0 or more, got {tolerances!r}"
        )

    from medvision.metrics.masks import (
        check_spacing,
        read_pair,
    )  # numba: half a second that few imports need

    size = check_spacing(spacing)
    pair = read_pair(prediction, truth)
    overlap = _overlap(pair.voxels, pair.predicted, pair.true, pair.both)
    wrongly_found = (pair.predicted - pair.both) * float(size.prod()) / MM3_PER_ML
    counted = {**overlap, "false_positive_volume": wrongly_found}
    if further:
        from medvision.metrics.structures import structure_metrics

        found, wanted = (np.asarray(mask) != 0 for mask in (prediction, truth))
        counted |= structure_metrics(found, wanted, further)
    if pair.predicted and pair.true:
        from medvision.metrics.surfaces import surface_metrics

        surface = surface_metrics(pair, size, limits, nsd, hd95, 0.0 if strict else TIE)
        return {**counted, **surface, "status": "ok"}
    status = "missed" if pair.true else "spurious" if pair.predicted else "both-empty"
    agreement, distance = (math.nan, math.nan) if status == "both-empty" else (0.0, math.inf)
    return {
        **counted,
        **{nsd_key(limit): agreement for limit in limits},
        **{name: distance for name, info in METRICS.items() if info.distance},
        "status": status,
    }


def _overlap(voxels: int, predicted: int, true: int, both: int) -> dict[str, float]:
    """Ratios of voxel counts, NaN for 0 / 0; a miss has precision 0, so that no mean over cases
    drops it.
    """
    either = predicted + true - both
    return {
        "dice": _ratio(2 * both, predicted + true),
        "jaccard": _ratio(both, either),
        "sensitivity": _ratio(both, true),
        "specificity": _ratio(voxels - either, voxels - true),
        "precision": 0.0 if true and not predicted else _ratio(both, predicted),
        "accuracy": (voxels - either + both) / voxels,
    }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
