"""What the training loop and its input add to a step on a GPU.

    python -m benchmarks.gpu [LABEL ...] [--size 128,128,128] [--batch 4] [--llm FOLDER] [--device
      cuda]

`step`: forward, Dice + BCE, backward and AdamW over a batch that lies on the device; the median of
three times three steps, with their peak memory. `loop`: `medvision.training.loop.train` over
prepared cases in memory, from which every batch is stacked, copied and, in `loop + changes`,
rotated and scaled as `augmentation` has it by default; the median of steps six and later. Without
`--llm` the blocks have the size of Llama-3.1-8B's and random weights: time does not depend on their
values.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.train_step import _wait, checked, make
from medvision.data.augment import augment
from medvision.data.views.base import PreprocessedCase
from medvision.data.views.paper import Stretched
from medvision.device import autocast
from medvision.models import MODEL_LABELS
from medvision.settings import Precision
from medvision.training.batches import Draw
from medvision.training.feed import Feed
from medvision.training.loop import train
from medvision.training.losses import dice_bce
from medvision.training.ranks import Ranks
from medvision.training.settings import Augmentation, Training
from medvision.training.watch import Watch
from record.arguments import size as size_of
from record.arguments import whole
from record.command import begin_command

STEPS, WARM = 15, 5
Size = tuple[int, int, int]


def write_block(folder: str) -> str:
    """A checkpoint of one layer with the widths of Llama-3.1-8B, 440 MB in bfloat16."""
    from transformers import LlamaConfig, LlamaForCausalLM

    widths = {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    }
    LlamaForCausalLM(
        LlamaConfig(num_hidden_layers=1, vocab_size=64, **widths)
    ).bfloat16().save_pretrained(folder)
    return folder


def random_cases(size: Size, count: int) -> dict[str, PreprocessedCase]:
    rng = np.random.default_rng(0)
    volumes = (rng.random((1, *size), dtype=np.float32) for _ in range(count))
    return {
        str(index): PreprocessedCase(
            volume.astype(np.float16), (volume > 0.9).astype(np.uint8), Stretched(size, size)
        )
        for index, volume in enumerate(volumes)
    }


def milliseconds(work: Callable[[], Any], device: torch.device, *, times: int = 3) -> float:
    """Median of three rounds; the device is waited for before and after a round."""
    work()
    rounds = []
    for _ in range(3):
        _wait(device)
        started = time.perf_counter()
        for _ in range(times):
            work()
        _wait(device)
        rounds.append(1000 * (time.perf_counter() - started) / times)
    return statistics.median(rounds)


def step(
    label: str, precision: Precision, size: Size, batch: int, llm: str, device: torch.device
) -> tuple[float, float]:
    """Milliseconds and peak GiB of a step."""
    torch.manual_seed(0)
    model = make(label, size, llm).to(device).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    cases = random_cases(size, batch)
    feed, draws = Feed(cases, device), [Draw(case, 0) for case in cases]
    images, masks = feed.batch(draws)

    def work() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, precision):
            logits = model(images)
        dice_bce(logits, masks).sum().backward()
        optimizer.step()

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    took = milliseconds(work, device)
    return took, torch.cuda.max_memory_allocated(
        device
    ) / 2**30 if device.type == "cuda" else float("nan")


def loop(
    label: str, changed: bool, size: Size, batch: int, llm: str, device: torch.device
) -> float:
    """Milliseconds of a step of the training loop in bfloat16."""
    torch.manual_seed(0)
    cases, ends = random_cases(size, 3 * batch), list[float]()
    recipe = Training(
        steps=STEPS,
        batch_size=batch,
        precision="bf16",
        prior_bias=False,
        augmentation=Augmentation() if changed else None,
    )
    watch = Watch(beat=lambda: ends.append(time.perf_counter()))
    train(
        make(label, size, llm),
        cases,
        list(cases),
        (),
        recipe,
        seed=0,
        ranks=Ranks(device=device),
        watch=watch,
    )
    return 1000 * statistics.median(b - a for a, b in itertools.pairwise(ends[WARM:]))


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
    arguments = parser.parse_args()
    device = checked(parser, arguments, arguments.size)
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
    print(f"torch {torch.__version__}, {name}; a batch of {batch} at {size}: stacked and copied "
          f"in {stacked:.1f} ms, "
          f"changed in {changed:.1f} ms\n")  # fmt: skip
    print(
        "| model | step, fp32 | GiB | step, bf16 | GiB | loop, bf16 | loop + changes "
        "|\n|---|--:|--:|--:|--:|--:|--:|"
    )
    with tempfile.TemporaryDirectory() as folder:
        llm = arguments.llm or write_block(folder)
        for label in arguments.labels or MODEL_LABELS:
            row = [f"{value:.1f}" for precision in ("fp32", "bf16")
                   for value in step(label, precision, size, batch, llm, device)]  # fmt: skip
            row += [
                f"{loop(label, changed, size, batch, llm, device):.1f}" for changed in (False, True)
            ]
            print(f"| {label} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
