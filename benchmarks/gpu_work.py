"""What `benchmarks.gpu` measures with: made-up cases, a block, and times of steps and loops."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.train_step import _wait, make
from medvision.data.views.base import PreprocessedCase
from medvision.data.views.paper import Stretched
from medvision.device import autocast
from medvision.settings import Precision
from medvision.training.batches import Draw
from medvision.training.feed import Feed
from medvision.training.loop import train
from medvision.training.losses import dice_bce
from medvision.training.ranks import Ranks
from medvision.training.settings import Training
from medvision.training.state import Checkpoints, Trained
from medvision.training.watch import Watch

STEPS, WARM = 15, 5
Size = tuple[int, int, int]


def write_block(folder: str, *, tiny: bool = False) -> str:
    """A checkpoint of one layer with the widths of Llama-3.1-8B, 440 MB in bfloat16, or a tiny
    one's.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = (32, 64, 4, 2) if tiny else (4096, 14336, 32, 8)
    names = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    widths = dict(zip(names, sizes, strict=True))
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


def trained(
    label: str,
    size: Size,
    batch: int,
    llm: str,
    device: torch.device,
    *,
    checkpoints: Checkpoints | None = None,
    watch: Watch | None = None,
    cases: int = 3,
    **recipe: Any,
) -> Trained:
    """A training of `cases` batches an epoch, `STEPS` steps in bfloat16 unless `recipe` says
    otherwise.
    """
    torch.manual_seed(0)
    shown = random_cases(size, cases * batch)
    usual = {"steps": STEPS, "batch_size": batch, "precision": "bf16", "prior_bias": False}
    return train(
        make(label, size, llm),
        shown,
        list(shown),
        (),
        Training.model_validate(usual | recipe),
        seed=0,
        ranks=Ranks(device=device),
        watch=watch,
        checkpoints=checkpoints,
    )


def loop(
    label: str,
    size: Size,
    batch: int,
    llm: str,
    device: torch.device,
    **recipe: Any,
) -> float:
    """Milliseconds of a step of the training loop: the median of steps six and later."""
    ends = list[float]()

    def beat() -> None:
        ends.append(time.perf_counter())

    trained(label, size, batch, llm, device, watch=Watch(beat=beat), **recipe)
    _wait(device)
    return 1000 * statistics.median(b - a for a, b in itertools.pairwise(ends[WARM:]))
