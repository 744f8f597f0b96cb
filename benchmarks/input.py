"""One epoch of samples: ours beside the official recipe and beside MONAI's two caching datasets.

    python benchmarks/input.py [--rounds 3] [--volumes 10] [--steps LABEL ...] [--threads 1]

Synthetic volumes of 240x240x155 (int16, .nii.gz, a head in empty air) become 128^3, rotated
in-plane by up to 5 degrees and scaled by 0.9 to 1.1 with their masks, one sample at a time as
float32 tensors:

- `official recipe`: nibabel, scipy.ndimage.zoom (order 1, the mask 0), z-score and min-max,
  scipy.ndimage.rotate (the same orders), on every access;
- `MONAI PersistentDataset` (on disk) and `CacheDataset` (in memory): LoadImaged,
  EnsureChannelFirstd, Resized (trilinear, nearest), ScaleIntensityd, then RandRotated (bilinear,
  nearest) and RandScaleIntensityd with probability 1, without metadata, which is faster;
- `ours`: `prepare` and `augment`, the mask trilinear and cut at one half.

Cold: with an empty cache. Warm: the epochs after it. Each way has a process of its own, and the
ways take turns; medians over all warm epochs, of the time on the processor, which other work does
not lengthen (the files are in memory). Memory is the highest resident size above that after the
imports, mapped files included. Targets, warm: at least 30 times the official recipe and at least 2
times the better of MONAI's, at equal or lower memory.

With `--steps`, a training step of these models is timed (benchmarks/train_step.py): what the input
takes of it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

SHAPE, SIZE = (240, 240, 155), (128, 128, 128)
DEGREES, FACTOR = 5.0, 0.1
WAYS = ("official recipe", "MONAI PersistentDataset", "MONAI CacheDataset", "ours")
TARGETS = (30.0, 2.0)
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
    changes = Augmentation(rotation_degrees=DEGREES, intensity=FACTOR).model_dump()
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


def measure(way: str, folder: Path, epochs: int) -> dict[str, Any]:
    """Seconds of each epoch and peak bytes of the cold and the warm ones, in this process."""
    import torch

    with tempfile.TemporaryDirectory() as cache:
        make: dict[str, Callable[[], Epochs]] = {
            "official recipe": lambda: official(folder, Path(cache)),
            "MONAI PersistentDataset": lambda: monai(folder, Path(cache), persistent=True),
            "MONAI CacheDataset": lambda: monai(folder, Path(cache), persistent=False),
            "ours": lambda: ours(folder, Path(cache)),
        }
        run = make[way]()
        before = _resident("VmRSS")
        seconds, peaks = [], []
        for number in range(epochs):
            Path("/proc/self/clear_refs").write_text(
                "5"
            )  # the highest resident size counts from here
            started = time.process_time()
            for image, mask in run(number):
                assert image.shape == mask.shape == (1, 1, *SIZE), (image.shape, mask.shape)
                assert image.dtype == mask.dtype == torch.float32
                assert 0.005 < float(mask.mean()) < 0.05
            seconds.append(time.process_time() - started)
            peaks.append(_resident("VmHWM") - before)
        return {
            "cold": seconds[0],
            "warm": seconds[1:],
            "peak_cold": peaks[0],
            "peak_warm": max(peaks[1:]),
        }


def _resident(key: str) -> int:
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)
    )
    return int(line.split()[1]) * 1024


def main() -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--volumes", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--steps",
        nargs="*",
        default=[],
        metavar="LABEL",
        help="models whose training step is timed",
    )
    parser.add_argument("--one", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    if arguments.one:
        way, folder = arguments.one
        # the official recipe has no cache: more epochs would only take time
        print(json.dumps(measure(way, Path(folder), 2 if way == WAYS[0] else 4)))
        return
    names = ("monai", "nibabel", "numpy", "scipy", "torch")
    print(
        f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in names),
        end="\n\n",
    )
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        write_volumes(Path(folder), arguments.volumes)
        for _ in range(arguments.rounds):
            for way in WAYS:
                command = [
                    sys.executable,
                    __file__,
                    "--threads",
                    str(arguments.threads),
                    "--one",
                    way,
                    folder,
                ]
                found[way].append(
                    json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
                )
    warm = _table(found, arguments.volumes)
    for label in arguments.steps:
        seconds = step_seconds(label)
        print(
            f"{label}: a step of one sample takes {seconds:.2f} s, the input "
            f"{100 * warm / seconds:.2f} % of it"
        )


def _table(found: dict[str, list[dict[str, Any]]], volumes: int) -> float:
    """Print medians and ratios; returns our seconds a sample, warm."""
    cold = {
        way: statistics.median(run["cold"] for run in runs) / volumes for way, runs in found.items()
    }
    warm = {
        way: statistics.median(s for run in runs for s in run["warm"]) / volumes
        for way, runs in found.items()
    }
    peak = {
        way: [
            statistics.median(run[kind] for run in runs) / 2**20
            for kind in ("peak_cold", "peak_warm")
        ]
        for way, runs in found.items()
    }
    print(
        "| way | ms a sample, cold | warm | samples/s, warm | warm / ours | MiB, cold | MiB, warm |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|")
    for way in WAYS:
        times = (
            f"{1e3 * cold[way]:.1f} | {1e3 * warm[way]:.1f} | {1 / warm[way]:.1f} | "
            f"{warm[way] / warm['ours']:.1f}"
        )
        print(f"| {way} | {times} | {peak[way][0]:.0f} | {peak[way][1]:.0f} |")
    better = min(WAYS[1:3], key=lambda way: warm[way])
    print(
        f"\nours is {warm[WAYS[0]] / warm['ours']:.1f} times as fast as the official recipe "
        f"(target {TARGETS[0]:g}) and "
        f"{warm[better] / warm['ours']:.1f} times as fast as {better} (target {TARGETS[1]:g}), warm"
    )
    return warm["ours"]


def step_seconds(label: str) -> float:
    """A training step of one sample at 128^3, patch 8: time on the processor, the mean of two, in
    this process.
    """
    import torch
    from train_step import measure as two_steps

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    started = time.process_time()
    two_steps(label, SIZE, "", torch.device("cpu"), 1)
    return (time.process_time() - started) / 2


if __name__ == "__main__":
    main()
