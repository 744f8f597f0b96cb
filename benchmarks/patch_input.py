"""Patches for a training: ours beside MONAI's loaders and nnU-Net's own.

    python -m benchmarks.patch_input [--nnunet PYTHON] [--rounds 5] [--volumes 8] [--edge 96]

Synthetic volumes of 240x240x155 with one structure, prepared once, z-scored, at their own spacing;
then batches of 2 patches, a third of them around a voxel of the structure, as float32 images and
masks, without augmentation. One thread, each way in a process of its own, the ways in turn; medians
over the rounds of the processor's time a patch. Memory, above that after the imports: the highest
resident size while patches are drawn, mapped files included, and the process's own at the end.

- `ours`: files of the cache mapped into memory (`medvision.training.feed`);
- `MONAI CacheDataset`, `PersistentDataset`: whole volumes and the places of the structure
  (FgBgToIndicesd), in memory or read from disk, and RandCropByPosNegLabeld;
- `nnU-Net` (where `--nnunet` names a Python that has it): nnUNetDataLoader on its blosc2 files,
  without transforms.

Target: at least as fast as the better of those that take no more memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.input_ways import pairs, write_volumes
from benchmarks.patch_nnunet import BATCH, FOREGROUND, resident, timed
from record.arguments import whole
from record.command import begin_command

OURS, THEIRS = "ours", "nnU-Net"
WAYS = (OURS, "MONAI CacheDataset", "MONAI PersistentDataset")
Batch = Callable[[int], Any]


def ours(folder: Path, cache: Path, edge: int) -> Batch:
    """As a training gets them."""
    import torch

    from medvision.data.fingerprints import content_fingerprint
    from medvision.data.preprocess import prepare
    from medvision.data.readers.base import Case
    from medvision.data.settings import Preparation
    from medvision.training.batches import Draw
    from medvision.training.feed import Feed

    os.environ["MEDVISION_CACHE"] = str(cache)
    settings = Preparation.model_validate(
        {
            "groups": {"ball": [1]},
            "image_size": (edge, edge, edge),
            "protocol": "patches",
            "intensity": "z-score",
            "foreground": FOREGROUND,
        }
    )
    listed = [Case(image.name, (image,), label) for image, label in pairs(folder)]
    for case in listed:
        prepare(case, content_fingerprint(case), settings)
    cases = {case.id: prepare(case, content_fingerprint(case), settings) for case in listed}
    names, feed = list(cases), Feed(cases, torch.device("cpu"))

    def batch(number: int) -> Any:
        drawn = range(number * BATCH, (number + 1) * BATCH)
        return feed.batch([Draw(names[one % len(names)], one) for one in drawn])

    return batch


def monai(folder: Path, cache: Path, edge: int, *, persistent: bool) -> Batch:
    """A volume's sample has one crop, so that a batch has as many volumes as of the other ways."""
    import torch
    from monai.data import CacheDataset, PersistentDataset, set_track_meta
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        FgBgToIndicesd,
        LoadImaged,
        NormalizeIntensityd,
        RandCropByPosNegLabeld,
    )

    set_track_meta(False)
    both = ["image", "label"]
    transform = Compose(
        [
            LoadImaged(both),
            EnsureChannelFirstd(both, channel_dim="no_channel"),
            NormalizeIntensityd("image"),
            FgBgToIndicesd("label"),
            RandCropByPosNegLabeld(
                both,
                "label",
                (edge, edge, edge),
                pos=FOREGROUND,
                neg=1 - FOREGROUND,
                fg_indices_key="label_fg_indices",
                bg_indices_key="label_bg_indices",
            ),
        ]
    )
    cases = [{"image": str(image), "label": str(label)} for image, label in pairs(folder)]
    dataset: Any
    if persistent:
        dataset = PersistentDataset(cases, transform, cache_dir=cache)
    else:
        dataset = CacheDataset(cases, transform, num_workers=1, progress=False)

    def batch(number: int) -> Any:
        drawn = range(number * BATCH, (number + 1) * BATCH)
        found = [dataset[one % len(cases)][0] for one in drawn]
        return tuple(torch.stack([one[key].float() for one in found]) for key in both)

    return batch


MAKE: dict[str, Callable[[Path, Path, int], Batch]] = {
    OURS: ours,
    "MONAI CacheDataset": lambda *given: monai(*given, persistent=False),
    "MONAI PersistentDataset": lambda *given: monai(*given, persistent=True),
}


def measure(way: str, folder: Path, edge: int, batches: int) -> dict[str, float]:
    """Seconds a patch and bytes, in this process."""
    import monai.data
    import monai.transforms  # noqa: F401
    import torch

    import medvision.data.preprocess
    import medvision.training.feed  # noqa: F401  # importing is no part of the input

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as cache:
        before = {"peak": resident("VmRSS"), "own": resident("RssAnon")}
        batch = MAKE[way](folder, Path(cache), edge)
        images, masks = batch(0)
        if not images.shape == masks.shape == (BATCH, 1, edge, edge, edge):
            raise SystemExit(f"{way}: {tuple(images.shape)}, {tuple(masks.shape)}")
        found = timed(batch, batches)
    return {key: value - before.get(key, 0) for key, value in found.items()}


def program(text: str) -> str:
    """A program that is there."""
    if not (found := shutil.which(text)):
        raise argparse.ArgumentTypeError(f"there is no program {text[:200]!r}")
    return found


def main() -> None:
    """Command line; see the module's docstring."""
    begin_command()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rounds", type=whole, default=5)
    add("--volumes", type=whole, default=8)
    add("--edge", type=whole, default=96, help="voxels of a patch along each axis")
    add("--batches", type=whole, default=100, help=f"of {BATCH} patches, timed together")
    add("--nnunet", type=program, metavar="PYTHON", help="a Python that has nnunetv2")
    add("--one", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    sizes = ["--edge", str(arguments.edge), "--batches", str(arguments.batches)]
    if arguments.one:
        way, folder = arguments.one
        print(json.dumps(measure(way, Path(folder), arguments.edge, arguments.batches)))
        return
    print(", ".join(f"{name} {version(name)}" for name in ("monai", "numpy", "torch")))
    with tempfile.TemporaryDirectory() as folder:
        write_volumes(Path(folder), arguments.volumes)
        here = [sys.executable, "-m", "benchmarks.patch_input", *sizes, "--one"]
        commands = {way: [*here, way, folder] for way in WAYS}
        if arguments.nnunet:
            script = str(Path(__file__).with_name("patch_nnunet.py"))
            commands[THEIRS] = [arguments.nnunet, script, folder, *sizes]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
        found: dict[str, list[dict[str, float]]] = {way: [] for way in commands}
        for _ in range(arguments.rounds):
            for way, command in commands.items():
                done = subprocess.run(
                    command, check=True, stdout=subprocess.PIPE, text=True, env=environment
                )
                found[way].append(json.loads(done.stdout.splitlines()[-1]))
    _table(found)


def _table(found: dict[str, list[dict[str, float]]]) -> None:
    """Print medians and ratios."""
    seconds, peak, own = (
        {way: statistics.median(run[key] for run in runs) for way, runs in found.items()}
        for key in ("seconds", "peak", "own")
    )
    print(
        "| way | ms a patch | patches/s | time / ours | MiB | MiB, own |\n|---|--:|--:|--:|--:|--:|"
    )
    for way in found:
        print(
            f"| {way} | {1e3 * seconds[way]:.2f} | {1 / seconds[way]:.0f} | "
            f"{seconds[way] / seconds[OURS]:.2f} | {peak[way] / 2**20:.0f} | "
            f"{own[way] / 2**20:.0f} |"
        )


if __name__ == "__main__":
    main()
