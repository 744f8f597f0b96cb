"""One epoch of samples: ours compared with the official recipe and with MONAI's two caching
datasets.

    python -m benchmarks.input [--rounds 3] [--volumes 10] [--steps LABEL ...] [--threads 1]

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
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.input_ways import SIZE, Epochs, monai, official, ours, write_volumes
from medvision.models.registry import canonical_label
from record.arguments import whole
from record.command import begin_command

WAYS = ("official recipe", "MONAI PersistentDataset", "MONAI CacheDataset", "ours")
TARGETS = (30.0, 2.0)


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
    begin_command()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=whole, default=3)
    parser.add_argument("--volumes", type=whole, default=10)
    parser.add_argument("--threads", type=whole, default=1)
    parser.add_argument(
        "--steps",
        nargs="*",
        default=[],
        metavar="LABEL",
        help="models whose training step is timed",
    )
    parser.add_argument("--one", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for label in arguments.steps:
        try:
            canonical_label(label)
        except ValueError as error:
            parser.error(f"--steps: {error}")
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
                    "-m",
                    "benchmarks.input",
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

    from benchmarks.train_step import measure as two_steps

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    started = time.process_time()
    two_steps(label, SIZE, "", torch.device("cpu"), 1)
    return (time.process_time() - started) / 2


if __name__ == "__main__":
    main()
