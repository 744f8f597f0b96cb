"""How long `medvision compare` takes for 1,000 masks of 240 x 240 x 155, as those of BraTS: tumours
with the three labels necrosis, oedema and enhancing tumour, two methods, the truth beside them.

    taskset -c 0,1 python -m benchmarks.compare > table.md

Files are made first, in a folder that is removed again, and are not counted. Measured is the whole
command as a user starts it: Python and its libraries, reading, checking, scoring, the report. Where
other work shares the cores, the seconds of computing say more: those of all its threads and
processes, by the operating system's account.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

from orchestrator.comparing.scored import cores
from record.arguments import whole
from record.command import begin_command

SHAPE = (240, 240, 155)
NECROSIS, OEDEMA, ENHANCING = 1, 2, 3
STRUCTURES = ("whole=1,2,3", "core=1,3", "enhancing=3")
METHODS = ("A", "B")
MEDIAN_ML, SPREAD, RANGE_ML = 80.0, 0.8, (5.0, 300.0)  # log-normal volumes of whole tumours
LOBES = 0.35  # of a tumour's surface, in shares of its radius
ERRORS = {"truth": 0.0, "A": 0.12, "B": 0.16}  # the same of a mask's surface
ROUGH = 0.02  # of every voxel of its own


@dataclass(frozen=True)
class Took:
    """Seconds of a command, those that its threads and processes computed, and its peak memory in
    bytes.
    """

    seconds: float
    computed: float
    memory: int


def make_cases(folder: Path, numbers: Iterable[int]) -> None:
    """Truths and two methods' masks of these tumours, as .nii.gz of uint8, on all cores."""
    for name in ERRORS:
        (folder / name).mkdir(parents=True, exist_ok=True)

    def make(number: int) -> None:
        rng = np.random.default_rng(number)
        for name, label in zip(ERRORS, _tumours(rng), strict=True):
            image = nibabel.Nifti1Image(label, np.eye(4))
            nibabel.save(image, folder / name / f"case_{number:04d}.nii.gz")

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(make, numbers))


def _tumours(rng: np.random.Generator) -> list[np.ndarray]:
    """One tumour's label, uint8 [X, Y, Z], once for each of ERRORS."""
    volume = np.clip(MEDIAN_ML * np.exp(rng.normal(0, SPREAD)), *RANGE_ML) * 1000.0
    radius = (volume * 3 / (4 * np.pi)) ** (1 / 3)
    reach = int(radius * (1 + 2 * LOBES)) + 1
    start = [int(rng.uniform(0.3, 0.7) * size) - reach for size in SHAPE]
    inside = tuple(
        slice(max(low, 0), min(low + 2 * reach, size))
        for low, size in zip(start, SHAPE, strict=True)
    )
    axes = np.ogrid[inside]
    distance = sum((axis - low - reach) ** 2 for axis, low in zip(axes, start, strict=True))
    field = (np.sqrt(distance) / radius).astype(np.float32)
    shape = field + LOBES * _smooth(rng, field.shape)
    labels = []
    for error in ERRORS.values():
        own = shape + error * _smooth(rng, field.shape)
        own += ROUGH * rng.standard_normal(field.shape, np.float32)
        label = np.zeros(SHAPE, np.uint8, order="F")
        label[inside] = np.select([own < 0.4, own < 0.65, own < 1], [NECROSIS, ENHANCING, OEDEMA])
        labels.append(label)
    return labels


def _smooth(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Noise of standard deviation about 1/2 that is the same over a sixth of the box or so."""
    coarse = rng.standard_normal((6, 6, 6), np.float32)
    return ndimage.zoom(coarse, np.divide(shape, coarse.shape), order=1)


def measured(folder: Path, output: Path, cases: int | None = None) -> Took:
    """The whole command on all cases, or on the first of them."""
    truth, masks = folder / "truth", {name: folder / name for name in METHODS}
    if cases is not None:
        few = folder / f"first-{cases}"
        for name in ERRORS:
            (few / name).mkdir(parents=True)
            for path in sorted((folder / name).iterdir())[:cases]:
                (few / name / path.name).symlink_to(path)
        truth, masks = few / "truth", {name: few / name for name in METHODS}
    command = [sys.executable, "-m", "orchestrator.compare", str(truth)]
    command += ["--masks", *(f"{name}={place}" for name, place in masks.items())]
    command += ["--labels", *STRUCTURES, "--name", "tumours", "--output", str(output)]
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"medvision compare ended with exit code {child.returncode}")
    seconds = time.perf_counter() - start
    return Took(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def main(argv: list[str] | None = None) -> int:
    begin_command()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=whole, default=500, help="two masks each")
    cases = parser.parse_args(argv).cases
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        print(f"making {cases} cases ...", file=sys.stderr)
        make_cases(folder, range(cases))
        print("comparing ...", file=sys.stderr)
        took = {2: measured(folder, folder / "few", 1)}  # compiles the kernels where none are kept
        took[2 * cases] = measured(folder, folder / "all")
    print(f"Masks of {' x '.join(map(str, SHAPE))}, {len(STRUCTURES)} structures, ", end="")
    print(f"{cores()} cores.\n")
    print("| masks | seconds | of computing | a core's share of it | peak memory |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for masks, one in took.items():
        share = one.computed / cores()
        memory = f"{one.memory / 2**30:.1f} GiB"
        print(f"| {masks:,} | {one.seconds:.1f} | {one.computed:.1f} | {share:.1f} | {memory} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
