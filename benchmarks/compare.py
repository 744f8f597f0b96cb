"""How long `medvision compare` takes: masks of 240 x 240 x 155 with the three nested structures of
a brain tumour, two methods, all cores of this process.

    taskset -c 0,1 python -m benchmarks.compare --cases 25 > table.md

Files are made first, in a folder that is removed again, and are not counted. The time of the whole
command (reading, checking, scoring, writing the report) is measured for one number of cases and for
twice as many: their difference is what further masks take, and the line for 1,000 masks is its
extrapolation, said as such. Where other work shares the cores, the time of computing says more.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np

from orchestrator.compare import compare
from orchestrator.comparing.scored import cores
from record.arguments import whole
from record.command import begin_command

SHAPE = (240, 240, 155)
LABELS = {"whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
METHODS = ("A", "B")
WANTED = 1000


def make_cases(folder: Path, cases: int) -> None:
    """Truths and two methods' masks of tumours of 20 to 35 voxels' radius with rough surfaces."""
    rng = np.random.default_rng(0)
    axes = [np.arange(size, dtype=np.float32) for size in SHAPE]
    for number in range(cases):
        centre, radius = rng.uniform(0.35, 0.65, 3) * SHAPE, rng.uniform(20, 35)
        for name, moved in (("truth", 0.0), ("A", 1.5), ("B", 3.0)):
            place = centre + rng.normal(0, moved, 3)
            squares = [(axis - middle) ** 2 for axis, middle in zip(axes, place, strict=True)]
            distance = np.sqrt(
                squares[0][:, None, None] + squares[1][:, None] + squares[2]
            ) + rng.normal(0, 0.7, SHAPE).astype(np.float32)
            label = sum((distance < radius * share).astype(np.uint8) for share in (1.0, 0.7, 0.4))
            (folder / name).mkdir(parents=True, exist_ok=True)
            image = nibabel.Nifti1Image(np.asarray(label, np.uint8), np.eye(4))
            nibabel.save(image, folder / name / f"case_{number:04d}.nii.gz")


def measured(folder: Path, cases: int) -> tuple[float, float]:
    """Seconds of the whole comparison of so many cases, and those that its threads computed."""
    files = {
        name: {
            path.name.partition(".")[0]: path for path in sorted((folder / name).iterdir())[:cases]
        }
        for name in ("truth", *METHODS)
    }
    start = time.perf_counter(), time.process_time()
    compare(
        files["truth"],
        {name: files[name] for name in METHODS},
        output=folder / f"out-{cases}",
        labels=LABELS,
        name="tumours",
    )
    return time.perf_counter() - start[0], time.process_time() - start[1]


def main(argv: list[str] | None = None) -> int:
    begin_command()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=whole, default=25, help="and twice as many")
    cases = parser.parse_args(argv).cases
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        print(f"making {2 * cases} cases ...", file=sys.stderr)
        make_cases(folder, 2 * cases)
        measured(folder, 1)  # compiles the kernels, and reads the libraries
        seconds = {2 * count: measured(folder, count) for count in (cases, 2 * cases)}
    few, many = seconds
    each = [
        (after - before) / (many - few) for before, after in zip(*seconds.values(), strict=True)
    ]
    seconds[WANTED] = tuple(
        now + (WANTED - many) * one for now, one in zip(seconds[many], each, strict=True)
    )
    print(f"Masks of {' x '.join(map(str, SHAPE))}, {len(LABELS)} structures, {cores()} cores.\n")
    print("| masks | seconds | of computing, all cores together |\n| ---: | ---: | ---: |")
    for count, (took, computed) in seconds.items():
        how = " (extrapolated)" if count == WANTED else ""
        print(f"| {count}{how} | {took:.1f} | {computed:.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
