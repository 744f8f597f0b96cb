"""One layer out of a 32-layer checkpoint: `load_block` compared with `from_pretrained` of the whole
model.

    python -m benchmarks.llm_block [--layers 32] [--hidden 1536] [--folder DIR]

Writes a Llama checkpoint of about 2.2 GB (bfloat16, sharded safetensors) into a temporary folder,
and loads its last layer in a fresh process per way, with the files dropped from the page cache.
Printed for each: seconds without imports, bytes that came from the disk, and by how much the
highest resident memory rose. Targets: at most 1.2 times the layer's bytes read, at most 2 times its
float32 size in memory. Where the dtype is the checkpoint's own, transformers maps the files into
memory: little is resident until the weights are used. Takes about a minute, and needs Linux's
/proc.

Then, of the layer on 512 tokens, the bytes of its weights and of what it keeps for backward beside
them, in float32 and under autocast to bfloat16: before (float32 weights, and rotary positions that
turn nothing, multiplied all the same) and after (`keep_halves`, and no such multiplication), with
the largest difference of output and gradient, which is 0.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from record.arguments import folder as folder_of
from record.arguments import whole
from record.command import begin_command

READ_TARGET, MEMORY_TARGET = 1.2, 2.0
WAYS = (
    "load_block, first time",
    "load_block, from its cache",
    "from_pretrained, float32",
    "from_pretrained, bfloat16",
)


def write_checkpoint(folder: Path, layers: int, hidden: int) -> tuple[int, int]:
    """Write a random Llama, four layers a shard; bytes of one layer as stored and of all files."""
    from transformers import LlamaConfig

    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 256,
        vocab_size=1000,
        architectures=["LlamaForCausalLM"],
        dtype="bfloat16",
    )
    config.save_pretrained(folder)
    narrow = config.num_key_value_heads * 64
    shapes = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (narrow, hidden),
        "self_attn.v_proj": (narrow, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (4 * hidden, hidden),
        "mlp.up_proj": (4 * hidden, hidden),
        "mlp.down_proj": (hidden, 4 * hidden),
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.bfloat16).normal_(0.0, 0.02, generator=generator)

    outside = {
        "model.embed_tokens": (1000, hidden),
        "lm_head": (1000, hidden),
        "model.norm": (hidden,),
    }
    index: dict[str, str] = {}
    for start in range(0, layers, 4):
        tensors = {
            f"model.layers.{number}.{name}.weight": drawn(*shape)
            for number in range(start, min(start + 4, layers))
            for name, shape in shapes.items()
        }
        if start + 4 >= layers:
            tensors |= {f"{name}.weight": drawn(*shape) for name, shape in outside.items()}
        file = f"model-{start // 4 + 1:05}-of-{-(-layers // 4):05}.safetensors"
        save_file(tensors, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(tensors, file)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )
    layer = 2 * sum(torch.Size(shape).numel() for shape in shapes.values())
    return layer, sum(path.stat().st_size for path in folder.iterdir())


def forget(folder: Path) -> None:
    """Drop the folder's files from the page cache, so that reading them is counted."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def proc(file: str, key: str) -> int:
    """A number from one of this process's files in /proc."""
    lines = Path(f"/proc/self/{file}").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key + ":")).split()[1])


def measure(way: str, folder: Path, layer: int) -> None:
    """In a process of its own: load, and print what it cost and what came out, as JSON."""
    from transformers import LlamaForCausalLM

    from medvision.llm import load_block

    def whole(dtype: torch.dtype) -> torch.nn.Module:
        return LlamaForCausalLM.from_pretrained(folder, dtype=dtype)

    ways: tuple[Callable[[], torch.nn.Module], ...] = (
        lambda: load_block(folder, layer, final_norm=False),
        lambda: load_block(folder, layer, final_norm=False),
        lambda: whole(torch.float32),
        lambda: whole(torch.bfloat16),
    )
    small = {
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "vocab_size": 10,
    }  # both ways once: imports, allocators
    with tempfile.TemporaryDirectory() as scratch:
        config = LlamaForCausalLM.config_class(**small)
        LlamaForCausalLM(config).save_pretrained(scratch)
        LlamaForCausalLM.from_pretrained(scratch)
        load_block(scratch)
    Path("/proc/self/clear_refs").write_text("5")  # reset the highest resident size
    resident, disk, started = proc("status", "VmRSS"), proc("io", "read_bytes"), time.perf_counter()
    module = ways[WAYS.index(way)]()
    seconds = time.perf_counter() - started
    cost = {
        "seconds": seconds,
        "read": proc("io", "read_bytes") - disk,
        "memory": 1024 * (proc("status", "VmHWM") - resident),
    }
    tokens = torch.randn(1, 64, module.hidden_size if "block" in way else module.config.hidden_size,
                         generator=torch.Generator().manual_seed(1))  # fmt: skip
    if way == "from_pretrained, float32":
        inner = module.model.layers[layer]
        inner.self_attn.is_causal = False  # type: ignore[assignment]
        unturned = (torch.ones(1, 1, 1), torch.zeros(1, 1, 1))
        out = inner(tokens, position_embeddings=unturned)
    elif "block" in way:
        out = module(tokens)
    else:
        out = torch.zeros(1)
    torch.save(out.detach(), folder.parent / f"{WAYS.index(way)}.pt")
    print(json.dumps(cost))


def kept_for_backward(folder: Path) -> list[str]:
    """A line for each way of computing the last layer: bytes of weights and of what is kept."""
    from transformers.models.llama import modeling_llama

    from medvision.llm import load_block

    lines, found = [], dict[tuple[bool, bool], tuple[torch.Tensor, torch.Tensor]]()
    for autocast in (False, True):
        for after in (False, True):
            block = load_block(folder, final_norm=False)
            turn = modeling_llama.apply_rotary_pos_emb
            if after:
                block.keep_halves()
            else:
                modeling_llama.apply_rotary_pos_emb = turn.__wrapped__
            weights = {p.untyped_storage().data_ptr(): p.nbytes for p in block.parameters()}
            kept: dict[int, int] = {}

            def keep(
                tensor: torch.Tensor, weights: dict[int, int] = weights, kept: dict[int, int] = kept
            ) -> torch.Tensor:
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in weights:
                    kept[storage.data_ptr()] = storage.nbytes()
                return tensor

            generator = torch.Generator().manual_seed(1)
            tokens = torch.randn(1, 512, block.hidden_size, generator=generator).requires_grad_()
            started = time.perf_counter()
            with (
                torch.autocast("cpu", torch.bfloat16, enabled=autocast),
                torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            ):
                out = block(tokens)
            out.float().square().mean().backward()
            seconds = time.perf_counter() - started
            modeling_llama.apply_rotary_pos_emb = turn
            assert tokens.grad is not None
            found[autocast, after] = (out.detach(), tokens.grad)
            lines.append(
                f"| {'bfloat16' if autocast else 'float32'} | {'after' if after else 'before'} | "
                f"{sum(weights.values()) / 1e6:.0f} | {sum(kept.values()) / 1e6:.0f} | "
                f"{seconds:.2f} |"
            )
    differences = [
        float((one - other).abs().max())
        for autocast in (False, True)
        for one, other in zip(found[autocast, False], found[autocast, True], strict=True)
    ]
    return [*lines, "", f"largest difference of output and gradient: {max(differences)}"]


def main() -> int:
    """Write the checkpoint, measure every way, print the table."""
    begin_command()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=whole, default=32)
    parser.add_argument("--hidden", type=whole, default=1536, help="a multiple of 256")
    parser.add_argument("--folder", type=folder_of, help="where to put the temporary files")
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.hidden % 256:
        parser.error(f"--hidden must be a multiple of 256, but is {arguments.hidden}")
    if arguments.measure:
        measure(arguments.measure, arguments.folder, arguments.layers - 1)
        return 0

    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        folder = Path(scratch) / "checkpoint"
        layer, total = write_checkpoint(folder, arguments.layers, arguments.hidden)
        print(
            f"checkpoint: {total / 1e9:.2f} GB in {arguments.layers} layers of {layer / 1e6:.1f} "
            "MB bfloat16"
        )
        environment = {**os.environ, "MEDVISION_CACHE": f"{scratch}/cache"}
        costs = {}
        for way in WAYS:
            forget(Path(scratch))
            command = [
                sys.executable,
                "-m",
                "benchmarks.llm_block",
                "--measure",
                way,
                "--folder",
                str(folder),
            ]
            command += ["--layers", str(arguments.layers)]
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SystemExit(f"{way} failed:\n{done.stderr}")
            costs[way] = json.loads(done.stdout)
        os.environ["MEDVISION_CACHE"] = f"{scratch}/cache"
        backward = kept_for_backward(folder)
        outs = [
            torch.load(Path(scratch) / f"{number}.pt", weights_only=True) for number in range(3)
        ]
    difference = max(float((out - outs[2]).abs().max()) for out in outs[:2])

    print("\n| way | seconds | MB read | read / layer | MB memory | memory / float32 layer |")
    print("|---|---|---|---|---|---|")
    for way, cost in costs.items():
        print(
            f"| {way} | {cost['seconds']:.2f} | {cost['read'] / 1e6:.0f} | "
            f"{cost['read'] / layer:.2f} | {cost['memory'] / 1e6:.0f} | "
            f"{cost['memory'] / (2 * layer):.2f} |"
        )
    first, full = costs["load_block, first time"], costs["from_pretrained, float32"]
    times = {key: full[key] / first[key] for key in first}
    print(
        f"\nload_block, first time, against from_pretrained, float32: {times['seconds']:.1f} "
        "times faster, "
        f"{times['read']:.1f} times less read, {times['memory']:.1f} times less memory"
    )
    print(f"largest difference between the layer's outputs: {difference}")
    kept = first["read"] <= READ_TARGET * layer and first["memory"] <= MEMORY_TARGET * 2 * layer
    kept = kept and difference == 0
    print(
        "\n| products in | | MB weights | MB kept for backward | seconds |\n|---|---|---|---|---|"
    )
    print("\n".join(backward))
    verdict = "kept" if kept else "MISSED"
    print(f"targets (read <= {READ_TARGET}, memory <= {MEMORY_TARGET}, difference 0): {verdict}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
