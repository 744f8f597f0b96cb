"""The ways to a training sample that benchmarks/input.py compares, and the volumes they read."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SHAPE, SIZE = (240, 240, 155), (128, 128, 128)
DEGREES, FACTOR = 5.0, 0.1
Epochs = Callable[[int], Iterator[Any]]


def write_volumes(folder: Path, count: int) -> None:
    """Pairs i_K.nii.gz and l_K.nii.gz: smooth tissue with noise inside an ellipsoid, air of 0
    around it.
    """
    import nibabel
    import numpy as np
    from scipy.ndimage import zoom

    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"), -1)
    head = np.linalg.norm(grid / (0.75, 0.85, 0.8), axis=-1) < 1
    for index in range(count):
        tissue = zoom(
            rng.normal(300, 120, (12, 12, 8)),
            [n / m for n, m in zip(SHAPE, (12, 12, 8), strict=True)],
            order=1,
        )
        image = np.where(head, tissue + rng.normal(0, 15, SHAPE), 0).clip(0, 2000).astype(np.int16)
        label = (np.linalg.norm((grid - rng.uniform(-0.3, 0.3, 3)) / 0.25, axis=-1) < 1).astype(
            np.uint8
        )
        for kind, array in (("i", image), ("l", label)):
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / f"{kind}_{index}.nii.gz")


def pairs(folder: Path) -> list[tuple[Path, Path]]:
    return [
        (path, path.with_name("l" + path.name[1:])) for path in sorted(folder.glob("i_*.nii.gz"))
    ]


def official(folder: Path, cache: Path) -> Epochs:
    """Everything on every access."""
    import nibabel
    import numpy as np
    import torch
    from scipy.ndimage import rotate, zoom

    def epoch(number: int) -> Iterator[Any]:
        rng = np.random.default_rng(number)
        for image_path, label_path in pairs(folder):
            image, label = (
                nibabel.load(image_path).get_fdata(),
                nibabel.load(label_path).get_fdata(),
            )
            factors = [n / m for n, m in zip(SIZE, image.shape, strict=True)]
            image, label = zoom(image, factors, order=1), zoom(label, factors, order=0) > 0
            image = (image - image.mean()) / image.std()
            image = (image - image.min()) / (image.max() - image.min())
            angle = rng.uniform(-DEGREES, DEGREES)
            image = rotate(image, angle, reshape=False, order=1) * rng.uniform(
                1 - FACTOR, 1 + FACTOR
            )
            label = rotate(label.astype(np.uint8), angle, reshape=False, order=0)
            yield (
                torch.tensor(image, dtype=torch.float32)[None, None],
                torch.tensor(label, dtype=torch.float32)[None, None],
            )

    return epoch


def monai(folder: Path, cache: Path, *, persistent: bool) -> Epochs:
    """MONAI's datasets; the dataset is made in the first epoch."""
    from monai.data import CacheDataset, PersistentDataset, set_track_meta
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        LoadImaged,
        RandRotated,
        RandScaleIntensityd,
        Resized,
        ScaleIntensityd,
    )

    set_track_meta(False)
    both, made = ["image", "label"], []
    transform = Compose(
        [
            LoadImaged(both),
            EnsureChannelFirstd(both, channel_dim="no_channel"),
            Resized(both, SIZE, mode=("trilinear", "nearest")),
            ScaleIntensityd("image"),
            RandRotated(
                both,
                range_z=math.radians(DEGREES),
                prob=1,
                mode=("bilinear", "nearest"),
                padding_mode="border",
            ),
            RandScaleIntensityd("image", factors=FACTOR, prob=1),
        ]
    )
    cases = [{"image": str(image), "label": str(label)} for image, label in pairs(folder)]

    def epoch(number: int) -> Iterator[Any]:
        if not made:
            if persistent:
                made.append(PersistentDataset(cases, transform, cache_dir=cache))
            else:
                made.append(CacheDataset(cases, transform, num_workers=1, progress=False))
        transform.set_random_state(number)
        for index in range(len(cases)):
            sample = made[0][index]
            yield sample["image"][None].float(), sample["label"][None].float()

    return epoch


def ours(folder: Path, cache: Path) -> Epochs:
    """The product's own path, opening the cache's file for every sample, which a training does only
    once.
    """
    import torch

    from medvision.data.augment import augment
    from medvision.data.fingerprints import content_fingerprint
    from medvision.data.preprocess import prepare
    from medvision.data.readers.base import Case
    from medvision.data.settings import Preparation
    from medvision.training.settings import Augmentation

    os.environ["MEDVISION_CACHE"] = str(cache)
    settings = Preparation(groups={"foreground": "all"}, image_size=SIZE)
    changes = Augmentation(rotation_degrees=DEGREES, intensity=FACTOR).changes
    cases = [Case(image.name, (image,), label) for image, label in pairs(folder)]
    fingerprints: dict[str, str] = {}  # of the first epoch, as planning a study finds them

    def epoch(number: int) -> Iterator[Any]:
        for case in cases:
            fingerprint = fingerprints.get(case.id) or fingerprints.setdefault(
                case.id, content_fingerprint(case)
            )
            made = prepare(case, fingerprint, settings)
            image, mask = (
                torch.tensor(made.image)[None].float(),
                torch.tensor(made.masks)[None].float(),
            )
            yield augment(image, mask, [case.id], seed=0, epoch=number, **changes)

    return epoch
