"""What protocol `patches` takes from the training cases of a fold, and from no other case: the
median spacing, and the range of a CT's values inside the structures (Isensee et al. 2021).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from medvision.cache import alone, read_json, remember_json
from medvision.data.fingerprints import require_unchanged
from medvision.data.geometry import orient
from medvision.data.nifti import open_volume, read_image, read_truth
from medvision.data.readers.base import Case
from medvision.data.settings import ChannelRange, Preparation, Spacing
from medvision.errors import DataError
from medvision.settings import counted
from record.local_files import cache_root

VERSION = 1  # raise it when the facts are found in another way
PERCENTILES = (0.5, 99.5)
VOXELS = 10_000  # of each case's structures
DIGITS = 6  # of a spacing, which NIfTI stores as float32
Training = Sequence[tuple[Case, str]]  # cases with the fingerprints of their contents


def fitted(settings: Preparation, training: Training) -> Preparation:
    """The settings with what the training cases decide; those of other protocols as they are.

    Every structure counts alike, whatever the label groups. What was found once is remembered.

    Raises:
        DataError: as `read_image` and `read_truth`; a case is no longer what its fingerprint says;
            a CT's training cases without any structure.
    """
    if settings.protocol != "patches":
        return settings
    named = [fingerprint for _, fingerprint in training]
    text = json.dumps([VERSION, counted(settings), named])
    path = cache_root() / "fitted" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
    with alone(path.parent):
        if (found := read_json(path, None)) is None:
            found = {
                "spacing": settings.spacing or median_spacing([case for case, _ in training]),
                "ranges": [one and one.model_dump() for one in channel_ranges(settings, training)],
            }
            remember_json(path, found)
    return Preparation.model_validate({**settings.model_dump(), **found})


def median_spacing(cases: Sequence[Case]) -> Spacing:
    """The median size of a voxel along right, anterior and superior, in mm, by headers alone."""
    spacings = []
    for case in cases:
        grid = open_volume(case.image).grid
        axes, _ = orient(grid.affine)
        spacings.append([grid.spacing[axis] for axis in axes])
    x, y, z = (float(f"{value:.{DIGITS}g}") for value in np.median(spacings, axis=0))
    return x, y, z


def channel_ranges(settings: Preparation, training: Training) -> list[ChannelRange | None]:
    """The range of each channel that is a CT: `ct_window`, or the 0.5th and 99.5th percentile of
    the values inside of structures; mean and standard deviation of these values clipped to it. Each
    case gives as many values at most as `VOXELS`, so that a large tumour does not decide alone.
    """
    if "CT" not in settings.modality:
        return []
    values: list[list[np.ndarray]] = []
    for case, fingerprint in training:
        inside = read_truth(case, {"any": "all"}).masks[0]
        channels = read_image(case.images, settings.channel).channels
        if channels.shape[1:] != inside.shape:
            raise DataError(
                f"{case.image}: shape {channels.shape[1:]} differs from its label's {inside.shape} "
                f"({case.label})"
            )
        require_unchanged(case, fingerprint)
        places = np.flatnonzero(inside)
        chosen = places[:: max(1, len(places) // VOXELS)]
        values.append([channel.reshape(-1)[chosen] for channel in channels])
    kinds = settings.modality
    found: list[ChannelRange | None] = []
    for index in range(len(values[0])):
        if kinds[min(index, len(kinds) - 1)] != "CT":
            found.append(None)
            continue
        every = np.concatenate([one[index] for one in values]).astype(np.float64)
        if not every.size:
            raise DataError(
                f"{training[0][0].label} and the other training cases: no structure in any of "
                "them, whose values would give a CT's range; use protocol: corrected"
            )
        ends = settings.ct_window or np.percentile(every, PERCENTILES)
        low, high = (float(value) for value in ends)
        clipped = np.clip(every, low, high)
        found.append(
            ChannelRange(
                low=low, high=high, mean=float(clipped.mean()), deviation=float(clipped.std())
            )
        )
    return found
