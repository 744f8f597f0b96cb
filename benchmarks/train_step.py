"""Time and peak memory of one training step of every model, compared with a plain
nn.MultiheadAttention vision transformer.

    python -m benchmarks.train_step [LABEL ...] [--size X,Y,Z ...] [--device cuda] [--longest
      SECONDS] [--threads N]

One sample, float32, AdamW, Dice + BCE, after one step of warm-up; each model in a process of its
own. Memory is that of the steps, the first one's too: on a CPU the process's highest resident size
once the model is built (counted anew through Linux's /proc) above what it had then; with CUDA the
highest allocated from then on, which the model is part of. The blocks are small real ones (`python
-m medvision.assets fetch --all`); `--llm SOURCE` takes another for all. A model whose step would
take longer than `--longest` by arithmetic is not run, and the table says so.

`plain attention` is ViT_Baseline written with nn.MultiheadAttention as the official code has it:
dropout of 0.2 inside the attention, in training mode. Target: ViT_Baseline at least 8 times as fast
at 2,048 tokens on a CPU. The matmul limit is the time that the step's arithmetic (three forward
passes) would take at this machine's rate for large matrices.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medvision.assets import AssetError
from medvision.device import usable_device
from medvision.llm import BlockError, describe_block
from medvision.models import MODEL_LABELS, build_model
from medvision.models.registry import PAPER_SOURCES, canonical_label, resolve_settings
from medvision.models.sizes import Sizes
from medvision.training.losses import dice_bce
from record.arguments import amount, whole
from record.arguments import size as size_of
from record.command import begin_command

PATCH = (8, 8, 8)
SIZES = ((64, 64, 64), (128, 128, 64))
PLAIN, TARGET = "plain attention", 8.0
BLOCKS = {
    "MedVision_BioBERT": "minilm-l6",
    "MedVision_ClinicalBERT": "minilm-l6",
    "MedVision_BioGPT": "tiny-biogpt",
}


class PlainBlock(nn.Module):
    """Pre-norm block with nn.MultiheadAttention and torch's own dropout everywhere."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True)
        widen, narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.mlp = nn.Sequential(widen, nn.GELU(), nn.Dropout(dropout), narrow, nn.Dropout(dropout))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        normed = self.norm1(tokens)
        tokens = tokens + self.attention(normed, normed, normed)[0]
        return tokens + self.mlp(self.norm2(tokens))


def make(label: str, size: tuple[int, int, int], llm: str) -> nn.Module:
    """The model of a label, or `plain attention`: ViT_Baseline with other blocks."""
    if label == PLAIN:
        model = build_model("ViT_Baseline", image_size=size, patch_size=PATCH)
        model.blocks = nn.ModuleList(PlainBlock(64, 4, 0.2) for _ in range(16))
        model.dropout = nn.Dropout(0.2)
        return model
    return build_model(label, image_size=size, patch_size=PATCH, **options_of(label, llm))


def options_of(label: str, llm: str) -> dict[str, Any]:
    """The block's source for labels that need one, however they are spelled."""
    label = canonical_label(label)
    if label not in PAPER_SOURCES:
        return {}
    return {"llm": {"source": llm or BLOCKS.get(label, "smollm2-135m")}}


def measure(
    label: str, size: tuple[int, int, int], llm: str, device: torch.device, steps: int
) -> dict[str, float]:
    """Median seconds and peak bytes of a step, in this process."""
    torch.manual_seed(0)
    model = make(label, size, llm).to(device).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    image = torch.rand(1, 1, *size, device=device)
    mask = (torch.rand(1, 1, *size, device=device) > 0.5).float()
    before, seconds = _start_of_peak(device), []
    for _ in range(steps + 1):
        _wait(device)
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        dice_bce(model(image), mask).sum().backward()
        optimizer.step()
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return {"seconds": statistics.median(seconds[1:]), "bytes": _peak(device) - before}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _start_of_peak(device: torch.device) -> int:
    """Forget the highest use of memory so far; the bytes that the next peak is counted from."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return 0
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _status("VmHWM")


def _status(key: str) -> int:
    """Bytes from Linux's account of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{key}:")).split()[1])


def matmul_rate(device: torch.device) -> float:
    """Operations a second of a large float32 matrix product, the best of several."""
    edge = 4096 if device.type == "cuda" else 1024
    left, right = torch.rand(edge, edge, device=device), torch.rand(edge, edge, device=device)
    best = float("inf")
    for _ in range(8):
        _wait(device)
        started = time.perf_counter()
        left @ right
        _wait(device)
        best = min(best, time.perf_counter() - started)
    return 2 * edge**3 / best


def in_a_process(
    label: str, size: tuple[int, int, int], arguments: argparse.Namespace
) -> dict[str, float]:
    """`measure` in a fresh interpreter, so that one model's memory is not another's."""
    command = [sys.executable, "-m", "benchmarks.train_step", label, "--one"]
    command += ["--size", ",".join(map(str, size))]
    command += [
        "--device",
        arguments.device,
        "--steps",
        str(arguments.steps),
        "--threads",
        str(arguments.threads),
    ]
    command += ["--llm", arguments.llm]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{label} at {size} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def checked(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, *sizes: tuple[int, int, int]
) -> torch.device:
    """The device of `--device`; labels, sizes and `--llm` are looked at before hours are spent."""
    try:
        device = usable_device(arguments.device)
        for label in arguments.labels:
            if label != PLAIN:
                canonical_label(label)
        if arguments.llm:
            describe_block(arguments.llm)
    except (ValueError, AssetError, BlockError) as error:
        parser.error(str(error))
    for size in sizes:
        if any(edge % patch for edge, patch in zip(size, PATCH, strict=True)):
            parser.error(f"--size: {size} is no multiple of the patch {PATCH}")
    return device


def main() -> None:
    """Print one Markdown table a size."""
    begin_command()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "labels", nargs="*", metavar="LABEL", help=f"of the models, or {PLAIN!r}; by default all"
    )
    parser.add_argument(
        "--size", type=size_of, action="append", metavar="X,Y,Z", help="64,64,64 and 128,128,64"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=whole, default=os.cpu_count() or 1)
    parser.add_argument("--steps", type=whole, default=3)
    parser.add_argument(
        "--longest",
        type=amount,
        default=600.0,
        help="seconds of a step beyond which a model is left out",
    )
    parser.add_argument("--llm", default="", help="checkpoint of every block")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = checked(parser, arguments, *(arguments.size or ()))
    if arguments.one:
        print(
            json.dumps(
                measure(
                    arguments.labels[0], arguments.size[0], arguments.llm, device, arguments.steps
                )
            )
        )
        return
    rate = matmul_rate(device)
    print(
        f"torch {torch.__version__}, {device}, {arguments.threads} threads; large matrices: "
        f"{rate / 1e9:.0f} GFLOP/s"
    )
    for size in arguments.size or SIZES:
        print(
            f"\n{size}, patch {PATCH}\n\n| model | s a step | times matmul limit | peak MiB "
            "|\n|---|---:|---:|---:|"
        )
        seconds: dict[str, float] = {}
        for label in arguments.labels or (PLAIN, *MODEL_LABELS):
            known = "ViT_Baseline" if label == PLAIN else canonical_label(label)
            settings = resolve_settings(known, **options_of(known, arguments.llm))
            limit = 3 * settings.flops(Sizes(size, PATCH), _block(settings)) / rate
            if 2 * limit > arguments.longest:
                print(f"| {label} | not run: at least {limit:.0f} s | | |", flush=True)
                continue
            found = in_a_process(label, size, arguments)
            seconds[PLAIN if label == PLAIN else known] = found["seconds"]
            values = (
                f"{found['seconds']:.3f} | {found['seconds'] / limit:.1f} | "
                f"{found['bytes'] / 2**20:,.0f}"
            )
            print(f"| {label} | {values} |", flush=True)
        if {PLAIN, "ViT_Baseline"} <= seconds.keys():
            ratio = seconds[PLAIN] / seconds["ViT_Baseline"]
            print(
                f"\nViT_Baseline is {ratio:.1f} times as fast as {PLAIN} (target {TARGET:g} at "
                "2,048 tokens on a CPU)"
            )


def _block(settings: Any) -> dict[str, int] | None:
    from medvision.llm.shapes import empty_block

    if (llm := settings.block) is None:
        return None
    block = empty_block(llm.source, llm.layer)
    return {
        "hidden_size": block.hidden_size,
        "parameters": sum(p.numel() for p in block.parameters()),
    }


if __name__ == "__main__":
    main()
