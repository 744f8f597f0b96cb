"""Per-case metrics: `medvision.metrics` compared with MONAI, DeepMind's surface-distance and medpy,
on the same masks.

    pip install --no-deps --target FOLDER medpy==0.5.2 surface-distance==0.1
    python -m benchmarks.metrics --libraries FOLDER > table.md

surface-distance is DeepMind's code as the registry has it; it needs `np.Inf`, which NumPy 2 dropped
and this script puts back. MONAI comes with the project. A library that is missing is skipped with a
message. Each library is compared with our call of the same definitions, which also returns HD, ASSD
and the overlap metrics. Everything gets one thread, and times are CPU time, which other work on the
machine moves little: medians of interleaved runs after one warm-up. Memory is the peak of the
resident size during one call above the size before it, in a process of its own that hands freed
memory back (Linux with glibc only).
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402

from benchmarks.metric_libraries import COMPARISONS, Comparison, Values, make_masks, ours  # noqa: E402
from record.arguments import folder, whole  # noqa: E402
from record.command import begin_command  # noqa: E402

SIZES = {  # shape: spacing in mm
    (64, 64, 64): (1.0, 1.0, 1.0),
    (128, 128, 128): (1.0, 1.0, 1.0),
    (240, 240, 155): (1.0, 1.0, 1.0),
    (512, 512, 200): (0.75, 0.75, 2.5),
}
SIDES = ("library", "ours")
OBJECTS = ("large organ", "far false positive", "small lesion")


@dataclass(frozen=True)
class Row:
    """One comparison on one pair of masks: values, seconds and MiB, each of the library and then of
    ours.
    """

    comparison: Comparison
    shape: tuple[int, int, int]
    name: str
    values: tuple[Values, ...]
    seconds: tuple[float, ...]
    memory: tuple[float, ...]

    def difference(self) -> float:
        (theirs, their_nsd), (mine, my_nsd) = self.values
        nsd = 0.0 if np.isnan(their_nsd) else abs(their_nsd - my_nsd)
        return max(abs(theirs - mine) / max(theirs, 1.0), nsd)

    def speed(self) -> float:
        return self.seconds[0] / self.seconds[1]

    def memory_share(self) -> float:
        return self.memory[1] / self.memory[0]


def measure(shapes: list[tuple[int, int, int]], runs: int) -> Iterator[Row]:
    calls = {}
    for comparison in COMPARISONS:
        try:
            calls[comparison] = (comparison.make(), ours(*comparison.definitions))
        except ImportError as error:
            print(f"skipped: {comparison.library} ({error})", file=sys.stderr)
    for shape in shapes:
        for name in OBJECTS:
            print(f"{size_name(shape)}, {name} ...", file=sys.stderr)
            masks, spacing = make_masks(shape, name), SIZES[shape]
            values = {c: tuple(call(masks, spacing) for call in pair) for c, pair in calls.items()}
            seconds: dict[Comparison, tuple[list[float], list[float]]] = {
                c: ([], []) for c in calls
            }
            for _ in range(runs):
                for comparison, pair in calls.items():
                    for call, times in zip(pair, seconds[comparison], strict=True):
                        start = time.process_time()
                        call(masks, spacing)
                        times.append(time.process_time() - start)
            for number, comparison in enumerate(COMPARISONS):
                if comparison in calls:
                    median = tuple(statistics.median(times) for times in seconds[comparison])
                    memory = tuple(peak_in_new_process(number, side, shape, name) for side in SIDES)
                    yield Row(comparison, shape, name, values[comparison], median, memory)


def peak_in_new_process(number: int, side: str, shape: tuple[int, int, int], name: str) -> float:
    task = ["--peak", str(number), side, size_name(shape), name]
    # Without fixed thresholds glibc keeps freed memory, and a call that uses it again would seem to
    # need none.
    hand_back = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.metrics", *sys.argv[1:], *task],
        capture_output=True,
        text=True,
        env={**os.environ, **hand_back},
    )
    return float(done.stdout) if done.returncode == 0 else float("nan")


def peak_memory(number: int, side: str, shape: tuple[int, int, int], name: str) -> float:
    """MiB that one call needs at most beyond what the process held before it."""
    comparison = COMPARISONS[number]
    call = comparison.make() if side == "library" else ours(*comparison.definitions)
    call(make_masks((32, 32, 32), "far false positive"), (1.0, 1.0, 1.0))
    masks = make_masks(shape, name)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = resident("VmRSS")
    call(masks, SIZES[shape])
    return (resident("VmHWM") - before) / 1024


def resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(field)))


def report(rows: list[Row]) -> Iterator[str]:
    packages = sorted(
        {row.comparison.package for row in rows} | {"numpy", "scipy", "numba", "torch"}
    )
    yield (
        f"Machine: {processor()}, {os.cpu_count()} cores, one thread used; Python "
        f"{platform.python_version()}; "
    )
    yield ", ".join(f"{name} {metadata.version(name)}" for name in packages) + "."
    yield ""
    yield (
        "| masks | object | library | ms | ours, ms | times faster | MiB | ours, MiB | largest "
        "difference |"
    )
    yield "|---|---|---|--:|--:|--:|--:|--:|--:|"
    for row in rows:
        times = " | ".join(f"{1000 * seconds:.1f}" for seconds in row.seconds)
        memory = " | ".join(f"{size:.1f}" for size in row.memory)
        yield (
            f"| {size_name(row.shape)} | {row.name} | {row.comparison.library} | {times} | "
            f"{row.speed():.1f} | {memory} | {row.difference():.0e} |"
        )
    yield ""
    yield "| masks | object | " + " | ".join(f"{c.library}" for c in COMPARISONS) + " |"
    yield "|---|---|" + "--:|" * len(COMPARISONS)
    for shape, name in dict.fromkeys((row.shape, row.name) for row in rows):
        found = {
            row.comparison: row.values[0] for row in rows if (row.shape, row.name) == (shape, name)
        }
        cells = [" / ".join(f"{v:.6g}" for v in found.get(c, ())) for c in COMPARISONS]
        yield f"| {size_name(shape)} | {name} | " + " | ".join(cells) + " |"
    yield ""
    yield from targets(rows)


def targets(rows: list[Row]) -> Iterator[str]:
    """What was aimed at, each with the worst case found and whether that reaches it."""
    for comparison in dict.fromkeys(row.comparison for row in rows):
        name, mine = comparison.library, [row for row in rows if row.comparison == comparison]
        yield verdict(
            f"{name}: equal to {comparison.equal:.0e}", mine, Row.difference, most=comparison.equal
        )
        large = [row for row in mine if row.shape[0] >= 128]
        if comparison.faster and large:
            target = f"{name}: {comparison.faster} times faster from 128³ upward"
            yield verdict(target, large, Row.speed, least=comparison.faster)
        if comparison.package == "monai":
            yield verdict(f"{name}: under a fifth of its memory", mine, Row.memory_share, most=0.2)
    small = [row for row in rows if row.name == "small lesion"]
    fastest = {row.shape: min(r.seconds[0] for r in small if r.shape == row.shape) for row in small}
    target = "small lesions: never slower than the fastest library (times faster)"
    yield verdict(target, small, lambda row: fastest[row.shape] / row.seconds[1], least=1)


def verdict(
    target: str,
    rows: list[Row],
    value: Callable[[Row], float],
    least: float = -np.inf,
    most: float = np.inf,
) -> str:
    worst = max(rows, key=value) if most < np.inf else min(rows, key=value)
    word = "reached" if least <= value(worst) <= most else "MISSED"
    return (
        f"- {target}: **{word}**, worst {value(worst):.3g} ({size_name(worst.shape)}, "
        f"{worst.name})."
    )


def size_name(shape: tuple[int, int, int]) -> str:
    return "x".join(map(str, shape))


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    begin_command()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--libraries", type=folder, help="folder into which pip put medpy and surface-distance"
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        choices=[size_name(shape) for shape in SIZES],
        default=[size_name(shape) for shape in SIZES],
        help="default: all",
    )
    parser.add_argument(
        "--runs", type=whole, default=3, help="interleaved runs of each call (default 3)"
    )
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.libraries:
        sys.path.append(str(options.libraries))
    warnings.simplefilter("ignore")
    shapes = {size_name(shape): shape for shape in SIZES}
    if options.peak:
        number, side, size, name = options.peak
        print(peak_memory(int(number), side, shapes[size], name))
        return
    rows = list(measure([shapes[size] for size in options.sizes], options.runs))
    print("\n".join(report(rows)))


if __name__ == "__main__":
    main()
