"""Only the asked layer is read, and little more than it is held in memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medvision.llm import load_block, prepare_block

BIG = {"num_hidden_layers": 32, "hidden_size": 128, "intermediate_size": 768}

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/io").exists(), reason="counts bytes through Linux's /proc"
)


def bytes_read() -> int:
    """What this process has asked the kernel to read so far, from the disk or its cache."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["rchar"])


@pytest.mark.parametrize("fmt", ["sharded safetensors", "safetensors", "bin", "sharded bin"])
def test_at_most_a_fifth_more_than_the_layer_is_read(fmt, make_model, write):
    model = make_model("llama", **BIG)
    folder = write(model, fmt)
    load_block(write(make_model("mistral"), fmt))  # imports are read as well
    layer = sum(p.numel() * 4 for p in model.model.layers[17].parameters())
    before = bytes_read()
    block = load_block(folder, 17)
    first = bytes_read() - before
    assert layer <= first <= 1.2 * layer
    before = bytes_read()
    prepare_block(folder, 17)
    assert bytes_read() - before < 10_000
    assert torch.equal(
        block.layers[0].mlp.up_proj.weight, model.model.layers[17].mlp.up_proj.weight
    )


def test_gguf_reads_its_header_and_the_layer(make_model, write_gguf):
    model = make_model("llama", **BIG)
    path = write_gguf(model)
    load_block(path, 1)
    layer = sum(p.numel() * 4 for p in model.model.layers[17].parameters())
    before = bytes_read()
    load_block(path, 17)
    # The table of tensors is read in windows of a mebibyte, for the configuration and for the
    # tensors.
    assert bytes_read() - before <= 1.2 * layer + 2 * (1 << 20)


@pytest.mark.parametrize("parts", [1, 2])
def test_metas_files_are_read_for_the_layer_alone(parts, make_model, write, write_meta):
    model = make_model("llama", **BIG)
    folder = write_meta(
        model, parts, ffn_dim_multiplier=2.25
    )  # int(2.25 * int(8 * 128 / 3)) = 767, up to 768
    load_block(write(make_model("llama"), "bin"))  # imports are read as well
    layer = sum(p.numel() * 4 for p in model.model.layers[17].parameters())
    before = bytes_read()
    block = load_block(folder, 17)
    assert layer <= bytes_read() - before <= 1.2 * layer
    assert torch.equal(
        block.layers[0].mlp.up_proj.weight, model.model.layers[17].mlp.up_proj.weight
    )


MEASURE = """
import sys, gc
from pathlib import Path
import torch
from medvision.llm import load_block

def status(key):
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(key))
    return int(line.split()[1]) * 1024

load_block(sys.argv[1])  # imports
gc.collect()
Path("/proc/self/clear_refs").write_text("5")  # forget the highest resident size so far
before = status("VmRSS")
block = load_block(sys.argv[2], 3)
print(status("VmHWM") - before, sum(p.numel() * 4 for p in block.parameters()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("fmt", ["sharded safetensors", "bin"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_peak_memory_is_at_most_twice_the_layer(fmt, dtype, make_model, write):
    big = {
        "num_hidden_layers": 6,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
    }
    folder = write(make_model("llama", **big).to(dtype), fmt)
    command = [sys.executable, "-c", MEASURE, str(write(make_model("qwen2"), fmt)), str(folder)]
    # Each tensor of a real layer is large enough to get a mapping of its own, which glibc gives
    # back; whether it does so for these smaller ones depends on a threshold that moves.
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    rise, layer = map(int, done.stdout.split())
    assert layer > 50_000_000
    assert rise <= 2 * layer
