"""Turns a case into what a network sees, by one of two protocols; made once, then read from the
cache.

`paper`: the whole volume is stretched to image_size, whatever its proportions, and scaled by its
own extremes. `corrected`: turned to RAS, proportions kept, voxels of a stated size where wished,
intensities clipped to a CT window or to robust percentiles.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from medvision.data.cache import cached
from medvision.data.fingerprints import require_unchanged
from medvision.data.geometry import Box, Geometry, place
from medvision.data.readers.msd import Case, DataError
from medvision.data.volumes import Image, PreprocessedCase, read_truth, read_volume
from medvision.recipe import Intensity, Modality, Preparation

PREPARED_VERSION = 2  # enters the cache's key: raise it when the arrays change
PERCENTILES = (0.5, 99.5)  # of an image that is no CT: what is clipped away
BODY_HU = -500.0  # half way between air and water


def prepare(case: Case, fingerprint: str, settings: Preparation) -> PreprocessedCase:
    """What the network sees of a case, memory-mapped from the cache; its key holds the content and
    every setting.

    Args:
        fingerprint: of the case's content (`medvision.data.fingerprints`).

    Raises:
        DataError: as `read_volume` and `read_truth`; image and label of different shapes; files
            that are no longer what the fingerprint says.
    """

    def make() -> PreprocessedCase:
        made = _make(case, settings)
        require_unchanged(case, fingerprint)
        return made

    text = json.dumps(
        [PREPARED_VERSION, fingerprint, settings.model_dump(mode="json")]
    )  # the groups' order counts
    return cached(hashlib.sha256(text.encode()).hexdigest(), make)


def prepare_image(path: Path, settings: Preparation) -> tuple[PreprocessedCase, tuple[int, ...]]:
    """The same of an image without a label, and its own shape; without masks, and not cached."""
    source = read_volume(path, settings.channel)
    image, geometry = _network_image(path, source, settings)
    return PreprocessedCase(
        image, np.zeros((0, *settings.image_size), np.uint8), geometry
    ), source.channels.shape[1:]


def resize(volume: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Trilinear resize of float32 [C, X, Y, Z] to [C, *size] over the same field of view (voxel
    centres at i + 1/2).
    """
    tensor = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None]
    return F.interpolate(tensor, size=tuple(size), mode="trilinear", align_corners=False)[0].numpy()


def _make(case: Case, settings: Preparation) -> PreprocessedCase:
    source = read_volume(case.image, settings.channel)
    shape = source.channels.shape[1:]
    image, geometry = _network_image(case.image, source, settings)
    del source  # the label comes next, and a CT is large
    truth = read_truth(case, settings.groups)
    if shape != truth.masks.shape[1:]:
        raise DataError(
            f"{case.image}: shape {shape} differs from its label's {truth.masks.shape[1:]} "
            f"({case.label})"
        )
    masks = np.empty((len(truth.masks), *settings.image_size), np.uint8)
    for mask, shown in zip(truth.masks, masks, strict=True):
        if geometry is None:
            share = resize(mask[None], settings.image_size)[0]
        else:
            share = geometry.to_network(torch.from_numpy(mask).float()).numpy()
        np.greater_equal(share, 0.5, out=shown, casting="unsafe")
    return PreprocessedCase(image, masks, geometry)


def _network_image(
    path: Path, source: Image, settings: Preparation
) -> tuple[np.ndarray, Geometry | None]:
    if settings.protocol == "paper":
        resized = [
            _normalise(resize(channel[None], settings.image_size), settings.intensity)
            for channel in source.channels
        ]
        return np.concatenate(resized).astype(np.float16), None
    kinds = [
        settings.modality[min(index, len(settings.modality) - 1)]
        for index in range(len(source.channels))
    ]
    shape = source.channels.shape[1:]
    box = (_body_box(source, kinds) if settings.crop else None) or tuple(
        (0, length) for length in shape
    )
    shown = tuple(slice(*ends) for ends in box)
    try:
        geometry = place(
            shape,
            source.spacing,
            source.affine,
            settings.image_size,
            target=settings.spacing,
            box=box,
        )
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    channels = []
    for channel, kind in zip(source.channels, kinds, strict=True):
        low, high = (
            settings.ct_window if kind == "CT" else np.percentile(channel[shown], PERCENTILES)
        )
        scaled, air = _clipped(channel, shown, float(low), float(high), settings.intensity)
        channels.append(geometry.to_network(torch.from_numpy(scaled), air))
    return torch.stack(channels).numpy().astype(np.float16), geometry


def _normalise(image: np.ndarray, intensity: Intensity) -> np.ndarray:
    """z-score, then for `min-max` to [0, 1]; a constant image becomes 0."""
    centred = image - image.mean(dtype=np.float64)
    deviation = centred.std(dtype=np.float64)
    if deviation == 0:
        return np.zeros_like(image)
    scored = (centred / deviation).astype(np.float32)
    if intensity == "z-score":
        return scored
    return ((scored - scored.min()) / (scored.max() - scored.min())).astype(np.float32)


def _clipped(
    image: np.ndarray, shown: tuple[slice, ...], low: float, high: float, intensity: Intensity
) -> tuple[np.ndarray, float]:
    """The range [low, high] to [0, 1], or its z-score over what is shown; and the value of `low`,
    which surrounds it.
    """
    if not low < high:
        return np.zeros_like(image), 0.0
    scaled = (np.clip(image, low, high) - low) / (high - low)
    if intensity == "min-max":
        return scaled, 0.0
    mean, deviation = (float(part(scaled[shown], dtype=np.float64)) for part in (np.mean, np.std))
    if deviation == 0:
        return np.zeros_like(image), 0.0
    return (scaled - mean) / deviation, -mean / deviation


def _body_box(source: Image, kinds: Sequence[Modality]) -> Box | None:
    """Smallest box, in voxels of the case, around what is no air in any channel; None where all is
    air.

    Air is below -500 HU in CT, otherwise below a tenth of the way from the 2nd to the 98th
    percentile (Smith 2002, BET).
    """
    body = np.zeros(source.channels.shape[1:], bool)
    for channel, kind in zip(source.channels, kinds, strict=True):
        low, high = np.percentile(channel, (2, 98))
        body |= channel > (BODY_HU if kind == "CT" else low + 0.1 * (high - low))
    if not body.any():
        return None
    box = []
    for axis in range(3):
        found = np.flatnonzero(body.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append((int(found[0]), int(found[-1]) + 1))
    return tuple(box)
