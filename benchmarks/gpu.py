"""What the training loop and its input add to a step on a GPU.

    python -m benchmarks.gpu [LABEL ...] [--size 128,128,128] [--batch 4] [--llm FOLDER] [--device
      cuda]
    python -m benchmarks.gpu --all [--out gpu.md] [--minutes 9]
    python -m benchmarks.gpu --all --cpu

`step`: forward, Dice + BCE, backward and AdamW over a batch that lies on the device; the median of
three times three steps, with their peak memory. `loop`: `medvision.training.loop.train` over
prepared cases in memory, from which every batch is stacked, copied and, in `loop + changes`,
rotated and scaled as `augmentation` has it by default; the median of steps six and later. Without
`--llm` the blocks have the size of Llama-3.1-8B's and random weights: time does not depend on their
values.

`--all` measures and checks the whole way of a training on a GPU (`benchmarks.gpu_checks`), and
writes what it found as a table; what does not hold makes the exit code 1. `--cpu` rehearses it
with tiny sizes where there is no GPU: its times say nothing, its numbers must hold.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.gpu_checks import Bench, checked_all
from benchmarks.gpu_work import loop, milliseconds, random_cases, step, write_block
from benchmarks.train_step import checked
from medvision.data.augment import augment
from medvision.models import MODEL_LABELS
from medvision.training.batches import Draw
from medvision.training.feed import Feed
from medvision.training.settings import Augmentation
from record.arguments import amount, whole
from record.arguments import size as size_of
from record.command import begin_command

TINY = (16, 16, 16)


def main() -> None:
    begin_command()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("labels", nargs="*", metavar="LABEL", help="of the models, by default all")
    parser.add_argument("--size", type=size_of, default=(128, 128, 128), metavar="X,Y,Z")
    parser.add_argument("--batch", type=whole, default=4)
    parser.add_argument("--llm", default="", help="checkpoint of every block")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--all", action="store_true", help="every check, with a table")
    parser.add_argument("--cpu", action="store_true", help="rehearse --all without a GPU")
    parser.add_argument("--out", type=Path, default=Path("gpu.md"), help="of --all")
    parser.add_argument(
        "--minutes", type=amount, default=9.0, help="after which --all begins no further check"
    )
    arguments = parser.parse_args()
    if arguments.cpu:
        if not arguments.all:
            parser.error("--cpu: rehearses --all, give both")
        arguments.device, arguments.size, arguments.batch = "cpu", TINY, 2
    if arguments.all and (arguments.out.is_dir() or not arguments.out.absolute().parent.is_dir()):
        parser.error(f"--out {arguments.out}: is no file in a folder that is there")
    device = checked(parser, arguments, arguments.size)
    with tempfile.TemporaryDirectory() as folder:
        llm = arguments.llm or write_block(folder, tiny=arguments.cpu)
        if not arguments.all:
            steps_and_loops(arguments, device, llm)
            return
        bench = Bench(arguments.size, arguments.batch, llm, device, 60 * arguments.minutes)
        table, holds = checked_all(bench)
    arguments.out.write_text(table)
    print(table)
    raise SystemExit(0 if holds else 1)


def steps_and_loops(arguments: argparse.Namespace, device: torch.device, llm: str) -> None:
    """Print a row for each model."""
    size, batch = arguments.size, arguments.batch
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    cases = random_cases(size, batch)
    feed, draws = Feed(cases, device), [Draw(case, 0) for case in cases]
    images, masks = feed.batch(draws)
    changes = Augmentation().changes
    stacked = milliseconds(lambda: feed.batch(draws), device)
    changed = milliseconds(
        lambda: augment(images, masks, list(cases), seed=0, epoch=1, **changes), device
    )
    print(
        f"torch {torch.__version__}, {name}; a batch of {batch} at {size}: stacked and copied "
        f"in {stacked:.1f} ms, changed in {changed:.1f} ms\n\n"
        "| model | step, fp32 | GiB | step, bf16 | GiB | loop, bf16 | loop + changes |\n"
        "|---|--:|--:|--:|--:|--:|--:|"
    )
    for label in arguments.labels or MODEL_LABELS:
        row = [
            f"{value:.1f}"
            for precision in ("fp32", "bf16")
            for value in step(label, precision, size, batch, llm, device)
        ]
        for augmentation in (None, Augmentation()):
            took = loop(label, size, batch, llm, device, augmentation=augmentation)
            row.append(f"{took:.1f}")
        print(f"| {label} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
