"""Reads a case and turns it into what a network sees, and a prediction back into the case's own grid."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import nibabel
import numpy as np
import torch
from torch.nn import functional as F

from medvision.cache import atomic_path, cache_root
from medvision.data.msd import Case, DataError
from medvision.recipe import Intensity

PREPARED_VERSION = 1  # enters the cache's key: raise it when the arrays change
Groups = Mapping[str, Sequence[int] | str]


@dataclass(frozen=True)
class Truth:
    """`masks`: bool [G, X, Y, Z] on the case's own grid; `spacing`: mm per voxel."""

    masks: np.ndarray
    spacing: tuple[float, float, float]


@dataclass(frozen=True)
class Prepared:
    """Network input: `image` float16 [1, *image_size], `masks` uint8 [G, *image_size]."""

    image: np.ndarray
    masks: np.ndarray


def read_image(case: Case, channel: int = 0) -> np.ndarray:
    """One channel of a case's image as float32 [X, Y, Z], intensities scaled as its header says.

    Raises:
        DataError: unreadable, not 3D (or 4D with that channel), or not finite.
    """
    array = _load(case.image)[0]
    if array.ndim == 4:
        if channel >= array.shape[3]:
            raise DataError(f"{case.image}: has {array.shape[3]} channels, channel {channel} was asked for")
        array = array[..., channel]
    elif channel:
        raise DataError(f"{case.image}: is 3D and has one channel, channel {channel} was asked for")
    if array.ndim != 3:
        raise DataError(f"{case.image}: a 3D volume is needed, its shape is {array.shape}")
    image = np.asarray(array, dtype=np.float32)
    if not np.isfinite(image).all():
        raise DataError(f"{case.image}: holds {np.count_nonzero(~np.isfinite(image))} values that are NaN or infinite")
    return image


def read_truth(case: Case, groups: Groups) -> Truth:
    """A case's label groups on its own grid.

    Raises:
        DataError: unreadable, not 3D, or labels that are no whole numbers.
    """
    label, spacing = _load(case.label)
    if label.ndim == 4 and label.shape[3] == 1:
        label = label[..., 0]
    if label.ndim != 3:
        raise DataError(f"{case.label}: a 3D label is needed, its shape is {label.shape}")
    if not np.isfinite(label).all() or (label != np.round(label)).any():
        raise DataError(f"{case.label}: labels must be whole numbers")
    masks = [label > 0 if labels == "all" else np.isin(label, [int(x) for x in labels]) for labels in groups.values()]
    return Truth(np.stack(masks), spacing)


def prepare(
    case: Case,
    fingerprint: str,
    *,
    groups: Groups,
    image_size: Sequence[int],
    channel: int,
    intensity: Intensity = "min-max",
) -> Prepared:
    """What the network sees of a case (protocol `paper`), made once and then read from the cache, memory-mapped.

    The whole volume is resized to `image_size` (trilinear, voxel centres aligned), scaled (`min-max`:
    z-score, then to [0, 1], as the paper; `z-score`: mean 0, standard deviation 1); masks
    are resized the same way and cut at one half. The cache's key holds the content fingerprint and every setting.

    Raises:
        DataError: as `read_image` and `read_truth`, or image and label of different shapes.
    """
    settings = {
        "groups": {k: v if v == "all" else list(v) for k, v in groups.items()},
        "size": list(image_size),
    }
    key_text = json.dumps([PREPARED_VERSION, fingerprint, settings, channel, intensity], sort_keys=True)
    key = hashlib.sha256(key_text.encode()).hexdigest()
    folder = cache_root() / "prepared" / key[:2]
    image_path, masks_path = folder / f"{key}-image.npy", folder / f"{key}-masks.npy"
    if not (image_path.exists() and masks_path.exists()):
        image, truth = read_image(case, channel), read_truth(case, groups)
        if image.shape != truth.masks.shape[1:]:
            raise DataError(
                f"{case.image}: shape {image.shape} differs from its label's {truth.masks.shape[1:]} ({case.label})"
            )
        for path, array in (
            (image_path, _normalise(resize(image[None], image_size), intensity).astype(np.float16)),
            (masks_path, (resize(truth.masks.astype(np.float32), image_size) >= 0.5).astype(np.uint8)),
        ):
            with atomic_path(path) as temporary:
                np.save(temporary, array, allow_pickle=False)
    return Prepared(
        np.load(image_path, mmap_mode="r", allow_pickle=False),
        np.load(masks_path, mmap_mode="r", allow_pickle=False),
    )


def resize(volume: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Trilinear resize of float32 [C, X, Y, Z] to [C, *size] over the same field of view (voxel centres at i + 1/2)."""
    tensor = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None]
    return F.interpolate(tensor, size=tuple(size), mode="trilinear", align_corners=False)[0].numpy()


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


def _load(path: object) -> tuple[np.ndarray, tuple[float, float, float]]:
    try:
        volume = nibabel.load(str(path))
        array = np.asanyarray(volume.dataobj)
        zooms = tuple(float(zoom) for zoom in volume.header.get_zooms()[:3])
    except Exception as error:  # nibabel raises many kinds for broken files
        raise DataError(f"{path}: cannot be read as NIfTI: {type(error).__name__}: {error}") from error
    if any(not zoom > 0 for zoom in zooms):
        raise DataError(f"{path}: voxel spacing must be three positive numbers of mm, it is {zooms}")
    return array, zooms  # type: ignore[return-value]
