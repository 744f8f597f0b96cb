"""The cache of blocks: fingerprints, what is read, several writers, and no torch for a dry run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from medvision.llm import BlockError, cached_fingerprint, load_block, prepare_block


def flip(path: Path, where: str) -> None:
    """Turn one bit of the data over: the size, the header and the sidecar stay what they are."""
    content = bytearray(path.read_bytes())
    at = 8 + int.from_bytes(content[:8], "little") if where == "first" else len(content) - 1
    content[at] ^= 1
    path.write_bytes(content)


def sidecars(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.json"))


def test_nothing_is_known_before_and_the_fingerprint_after(make_model, write, cache):
    folder = write(make_model("llama"))
    assert cached_fingerprint(folder) is None
    assert not cache.exists()
    fingerprint = prepare_block(folder)
    assert cached_fingerprint(folder) == cached_fingerprint(str(folder), 2) == fingerprint
    assert cached_fingerprint(folder, 1) is None
    assert len(fingerprint) == 64
    assert load_block(folder).fingerprint == prepare_block(folder) == fingerprint
    assert (
        load_block(folder, rope=True, causal=True, dtype=torch.bfloat16).fingerprint == fingerprint
    )


@pytest.mark.parametrize("family", ["llama", "bert", "biogpt", "gemma2"])
def test_fingerprint_depends_on_the_weights_not_on_format_or_place(family, make_model, write):
    model = make_model(family)
    found = {
        fmt: prepare_block(write(model, fmt))
        for fmt in ("safetensors", "sharded safetensors", "base model", "bin")
    }
    assert len(set(found.values())) == 1
    folder = write(model)
    assert (
        prepare_block(folder, [1, 2]) != prepare_block(folder, [2, 1]) != prepare_block(folder, 1)
    )


def test_fingerprint_depends_on_the_settings_that_count(make_model, write):
    model = make_model("llama")
    folder = write(model)
    fingerprint = prepare_block(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(
        json.dumps(config | {"torch_dtype": "float16", "bos_token_id": 3, "attention_dropout": 0.3})
    )
    assert prepare_block(folder) == fingerprint
    path.write_text(json.dumps(config | {"rms_norm_eps": 1e-4}))
    assert prepare_block(folder) != fingerprint


def test_the_cached_file_is_plain_safetensors(make_model, write, cache):
    model = make_model("llama").to(torch.bfloat16)
    prepare_block(write(model), [0, 2])
    (path,) = cache.glob("*.safetensors")
    with safe_open(path, "pt") as file:
        about = file.metadata()
        assert about["family"] == "llama"
        assert json.loads(about["layers"]) == [0, 2]
        assert json.loads(about["config"])["hidden_size"] == 64
        for name, original in (("layers.1.mlp.up_proj.weight", "model.layers.2.mlp.up_proj.weight"),
                               ("norm.weight", "model.norm.weight")):  # fmt: skip
            assert torch.equal(file.get_tensor(name), model.state_dict()[original])
        assert len(file.keys()) == 2 * 9 + 1


def test_the_cache_answers_without_the_checkpoint(make_model, write, monkeypatch):
    folder = write(make_model("llama"))
    expected = load_block(folder)
    from medvision.llm import extraction

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the checkpoint was opened again")

    monkeypatch.setattr(extraction, "open_checkpoint", refuse)
    again = load_block(folder)
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), expected.parameters(), strict=True)
    )


def test_a_changed_checkpoint_is_read_anew(make_model, write):
    model = make_model("llama")
    folder = write(model, "sharded safetensors")
    fingerprint = prepare_block(folder)
    model.model.layers[2].mlp.up_proj.weight.data += 1
    write(model, "sharded safetensors")
    assert cached_fingerprint(folder) is None
    assert prepare_block(folder) != fingerprint


@pytest.mark.parametrize(
    "damage", ["tensors gone", "tensors cut off", "sidecar cut off", "sidecar of another version"]
)
def test_a_damaged_cache_is_no_cache(damage, make_model, write, cache):
    folder = write(make_model("llama"))
    fingerprint = prepare_block(folder, 2)
    (tensors,) = cache.glob("*.safetensors")
    (sidecar,) = sidecars(cache)
    if damage == "tensors gone":
        tensors.unlink()
    elif damage == "tensors cut off":
        os.truncate(tensors, tensors.stat().st_size - 1)
    elif damage == "sidecar cut off":
        os.truncate(sidecar, 40)
    else:
        sidecar.write_text(json.dumps({"layers": [2], "whatever": 1}))
    assert cached_fingerprint(folder, 2) is None
    assert load_block(folder, 2).fingerprint == fingerprint
    assert cached_fingerprint(folder, 2) == fingerprint


def test_damaged_tensors_of_the_right_size_are_read_anew(make_model, write, cache):
    folder = write(make_model("llama"))
    expected = load_block(folder)
    (tensors,) = cache.glob("*.safetensors")
    tensors.write_bytes(bytes(tensors.stat().st_size))
    again = load_block(folder)
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), expected.parameters(), strict=True)
    )
    assert any(tensors.read_bytes())


@pytest.mark.parametrize("where", ["first", "last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_flipped_byte_is_noticed_and_the_block_made_again(
    where, dtype, make_model, write, cache, caplog
):
    folder = write(make_model("llama").to(dtype))
    expected = load_block(folder)
    caplog.clear()
    (tensors,) = cache.glob("*.safetensors")
    flip(tensors, where)
    again = load_block(folder)
    assert again.fingerprint == expected.fingerprint
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), expected.parameters(), strict=True)
    )
    assert [record.getMessage() for record in caplog.records] == [
        f"the cached block {tensors} is damaged; it is made again from its source"
    ]
    caplog.clear()
    load_block(folder)
    assert not caplog.records


def test_a_damaged_block_whose_source_does_not_answer_is_one_clear_error(
    make_model, write, cache, monkeypatch
):
    folder = write(make_model("llama"))
    load_block(folder)
    (tensors,) = cache.glob("*.safetensors")
    flip(tensors, "last")
    from medvision.llm import extraction

    def gone(place: object) -> None:
        raise BlockError("hub model lab/tiny cannot be reached")

    monkeypatch.setattr(extraction, "open_checkpoint", gone)
    with pytest.raises(
        BlockError,
        match="is damaged, and cannot be made again: hub model lab/tiny cannot be reached",
    ):
        load_block(folder)


def test_a_damaged_block_is_not_replaced_by_other_weights(make_model, write, cache):
    """As of a hub's branch that moved on: the sidecar's name stays, the weights do not."""
    model = make_model("llama")
    folder = write(model)
    load_block(folder)
    (tensors,) = cache.glob("*.safetensors")
    flip(tensors, "last")
    files = [folder / "model.safetensors", folder / "config.json"]
    times = [path.stat() for path in files]
    model.model.layers[2].mlp.up_proj.weight.data += 1
    write(model)
    for path, then in zip(files, times, strict=True):
        os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))
    with pytest.raises(BlockError, match="holds other weights by now"):
        load_block(folder)


def test_several_writers_at_once(make_model, write, cache):
    folder = write(make_model("qwen2"))
    with ThreadPoolExecutor(8) as pool:
        blocks = list(pool.map(lambda number: load_block(folder, -1 - number % 2), range(16)))
    for block in blocks:
        twin = blocks[block.layer % 2]
        assert block.fingerprint == twin.fingerprint
        assert all(
            torch.equal(a, b) for a, b in zip(block.parameters(), twin.parameters(), strict=True)
        )
    assert (
        sorted(path.suffix for path in cache.iterdir() if path.suffix)
        == [".json"] * 4 + [".safetensors"] * 2
    )


def test_a_cache_that_is_a_file_is_said(make_model, write, cache):
    folder = write(make_model("llama"))
    cache.parent.write_text("no folder")
    with pytest.raises(BlockError, match="MEDVISION_CACHE"):
        load_block(folder)


@pytest.mark.parametrize("layer", [1.5, "1", True, None, [], [0, "1"]])
def test_layer_is_an_index_or_several(layer, make_model, write):
    folder = write(make_model("llama"))
    for ask in (load_block, prepare_block, cached_fingerprint):
        with pytest.raises(BlockError, match="give an index"):
            ask(folder, layer)


def test_a_dry_run_needs_no_torch(make_model, write):
    folder = write(make_model("llama"), "sharded safetensors")
    fingerprint = prepare_block(folder)
    code = (
        "import sys\n"
        "from medvision.llm import cached_fingerprint, describe_block, prepare_block\n"
        f"print(cached_fingerprint({str(folder)!r}), prepare_block({str(folder)!r}))\n"
        f"print(describe_block({str(folder)!r})['family'], cached_fingerprint('nobody/nothing'))\n"
        "heavy = {'torch', 'transformers', 'numpy', 'gguf', 'huggingface_hub', 'monai', 'numba'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:3] == [f"{fingerprint} {fingerprint}", "llama None", "[]"]


def test_an_asset_that_is_not_fetched():
    from medvision.assets import AssetError

    assert cached_fingerprint("minilm-l6") is None
    with pytest.raises(AssetError, match="fetch minilm-l6"):
        load_block("minilm-l6")
