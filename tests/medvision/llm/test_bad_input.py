"""Whatever is wrong with a checkpoint is said in one clear error, and nothing of it stays in the
cache.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from medvision.llm import BlockError, cached_fingerprint, describe_block, load_block, prepare_block


@pytest.fixture
def refused(cache):
    """`refused(source, match, layer=...)`: every way in raises that error and leaves the cache
    empty.
    """

    def check(source, match, layer=-1):
        for ask in (load_block, prepare_block):
            with pytest.raises(BlockError, match=match):
                ask(source, layer)
        assert not cache.exists() or {path.name for path in cache.iterdir()} <= {".lock"}

    return check


def edit(folder: Path, **values: object) -> None:
    """Change keys of config.json; None removes one."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


@pytest.mark.parametrize("layer", [3, -4, [0, 99]])
def test_a_layer_that_is_not_there(layer, make_model, write, refused):
    refused(write(make_model("llama")), "does not exist.*3 layers, 0 to 2", layer)


def test_a_source_that_is_nowhere(refused, tmp_path):
    for source in (tmp_path / "nowhere", "smollm3", "a b/c"):
        refused(source, "no such file or folder.*smollm2-135m")
        with pytest.raises(BlockError, match="no such file or folder"):
            cached_fingerprint(source)


def test_folders_without_a_checkpoint(refused, tmp_path, make_model, write):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no supported checkpoint.*nothing")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("hello")
    refused(tmp_path / "notes", "no supported checkpoint.*readme.txt.*what works")
    refused(tmp_path / "notes" / "readme.txt", "no supported checkpoint")
    folder = write(make_model("llama"))
    (folder / "config.json").unlink()
    refused(folder, "model.safetensors needs a config.json beside it")


def test_families_that_are_not_supported(make_model, write, refused):
    folder = write(make_model("llama"))
    for name in (None, 7):
        edit(folder, model_type=name, architectures=None)
        refused(folder, f"names no model family .model_type is {name}., .* none of llama, mistral")
    edit(folder, model_type="my-llama")
    refused(folder, "'my-llama' is not supported: transformers has no class for it")
    edit(folder, model_type="gpt2")
    refused(folder, "lacks 14 of the 14 tensors of gpt2 layer")


def test_a_configuration_of_another_model(make_model, write, refused):
    folder = write(make_model("llama"))
    edit(folder, model_type="bert")
    refused(folder, "lacks 16 of the 16 tensors of bert layer 2: encoder.layer.2")
    edit(folder, model_type="gemma2")
    refused(folder, "lacks 2 of the 12 tensors of gemma2 layer 2: .*feedforward_layernorm")
    edit(folder, model_type="llama", intermediate_size=128)
    refused(
        folder, r"has shape \[96, 64\], but by the configuration a llama layer needs \[128, 64\]"
    )


def test_biases_that_the_configuration_denies(make_model, write, refused):
    folder = write(make_model("llama", attention_bias=True))
    edit(folder, attention_bias=False)
    refused(folder, "comes with a bias that the configuration does not allow")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"hidden_size": "64"}, "hidden_size is '64'"),
        ({"num_hidden_layers": None}, "num_hidden_layers is None"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ({"num_attention_heads": 5, "head_dim": None}, "transformers refuses|cannot build"),
        ({"hidden_act": "no such activation"}, "cannot build its llama layer.*no such activation"),
        ({"rms_norm_eps": "small"}, "transformers refuses its configuration"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised.*gptq.*GGUF"),
    ],
)
def test_settings_that_cannot_be(values, match, make_model, write, refused):
    folder = write(make_model("llama"))
    edit(folder, **values)
    refused(folder, match)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "[" * 100_000, "\x00\xff"])
def test_a_configuration_that_is_no_json_object(text, make_model, write, refused):
    folder = write(make_model("llama"))
    (folder / "config.json").write_text(text)
    refused(folder, "is no JSON|JSON object is expected")
    with pytest.raises(BlockError):
        describe_block(folder)


@pytest.mark.parametrize(
    "fmt", ["safetensors", "sharded safetensors", "bin", "sharded bin", "legacy bin"]
)
@pytest.mark.parametrize("keep", [0, 5, 200, 0.5, 0.99])
def test_truncated_files(fmt, keep, make_model, write, refused):
    folder = write(make_model("bert"), fmt)
    for path in [*folder.glob("*.safetensors"), *folder.glob("*.bin")]:
        size = path.stat().st_size
        os.truncate(path, int(keep * size) if 0 < keep < 1 else keep)
    refused(folder, "truncated|damaged|ends at|bytes")


@pytest.mark.parametrize("keep", [0, 10, 100, 20_000, 0.99])
def test_truncated_gguf(keep, make_model, write_gguf, refused):
    path = write_gguf(make_model("llama"))
    os.truncate(path, int(keep * path.stat().st_size) if 0 < keep < 1 else keep)
    refused(path, "truncated|no GGUF file|ends at")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "model.gguf"])
def test_foreign_files(name, make_model, write, refused):
    folder = write(make_model("llama"))
    (folder / "model.safetensors").unlink()
    for content in (b"<html>404 Not Found</html>" * 50, b"PK\x03\x04" + bytes(500), bytes(4000)):
        (folder / name).write_bytes(content)
        refused(folder, "is no |is a web page|refused: it is damaged")


class _Opens:
    """A pickle that would make a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_with_a_payload_is_refused_and_not_run(
    legacy, make_model, write, write_meta, refused, tmp_path
):
    proof = tmp_path / "proof"
    for folder, name in (
        (write(make_model("llama"), "bin"), "pytorch_model.bin"),
        (write_meta(make_model("llama")), "consolidated.00.pth"),
    ):
        state = torch.load(folder / name, weights_only=True) | {"payload": _Opens(proof)}
        torch.save(state, folder / name, _use_new_zipfile_serialization=not legacy)
        refused(folder, "was refused.*could run code")
        (folder / name).write_bytes(pickle.dumps(_Opens(proof)))
        refused(folder, "was refused")
    assert not proof.exists()


def test_a_file_with_something_else_than_tensors(make_model, write, refused):
    folder = write(make_model("llama"), "bin")
    torch.save([torch.zeros(3)], folder / "pytorch_model.bin")
    refused(folder, "holds a list")


def test_integers_are_no_weights(make_model, write, refused):
    folder = write(make_model("llama"))
    state = load_file(folder / "model.safetensors")
    state["model.layers.2.mlp.up_proj.weight"] = state["model.layers.2.mlp.up_proj.weight"].to(
        torch.int8
    )
    save_file(state, folder / "model.safetensors")
    refused(folder, "has dtype I8")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    refused(folder, "has dtype torch.int8")


def test_an_index_that_lies(make_model, write, refused, tmp_path):
    folder = write(make_model("llama"), "sharded safetensors")
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    save_file({"x": torch.zeros(2)}, folder / "model-other.safetensors")
    save_file({"x": torch.zeros(2)}, tmp_path / "outside.safetensors")
    name = "model.layers.2.mlp.up_proj.weight"
    for shard, match in (
        ("../../outside.safetensors", "which is not there"),
        (str(tmp_path / "outside.safetensors"), "which is not there"),
        (["a"], "which is not there"),
        ("model-other.safetensors", "does not hold it"),
    ):
        path.write_text(json.dumps({"weight_map": index["weight_map"] | {name: shard}}))
        refused(folder, match)
    path.write_text(json.dumps({"weight_map": 3}))
    refused(folder, "no weight_map")


def test_a_shard_that_was_not_copied(make_model, write, refused):
    folder = write(make_model("llama"), "sharded safetensors")
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    (folder / index["model.layers.2.mlp.up_proj.weight"]).unlink()
    refused(folder, "which is not there")
    assert load_block(folder, 0).layer == 0


def test_several_gguf_files_and_other_architectures(make_model, write_gguf, refused):
    path = write_gguf(make_model("llama"))
    other = write_gguf(make_model("qwen2"))
    refused(path.parent, "several GGUF files; name one of them: llama-F32.gguf, qwen2-F32.gguf")
    content = other.read_bytes()
    path.write_bytes(content.replace(b"qwen2", b"gptj2"))
    refused(path, "architecture 'gptj2' is not supported")
    path.write_bytes(content[:4] + struct.pack(">I", 3) + content[8:])
    refused(path, "version 50331648 is not supported")


def test_meta_parameters_of_another_model(make_model, write_meta, refused):
    folder = write_meta(make_model("llama"))
    params = json.loads((folder / "params.json").read_text())
    for change, match in (
        ({"dim": None}, "lacks dim"),
        ({"moe": {"num_experts": 8}}, "mixture of experts"),
        ({"multiple_of": 256}, r"has shape \[96, 64\]"),
    ):
        (folder / "params.json").write_text(json.dumps(params | change))
        refused(folder, match)
    (folder / "params.json").unlink()
    refused(folder, "needs a params.json")


@pytest.mark.parametrize("dtype", [torch.int8, "float32", None])
def test_dtypes_that_are_none(dtype, make_model, write):
    with pytest.raises(BlockError, match="floating-point"):
        load_block(write(make_model("llama")), dtype=dtype)


@pytest.fixture
def damaged_files(make_model, write, write_gguf, tmp_path):
    """Small files of each format, and a place to put damaged copies of them."""
    folder = write(make_model("bert", num_hidden_layers=1), "bin")
    state = {
        name: tensor.contiguous()
        for name, tensor in torch.load(folder / "pytorch_model.bin", weights_only=True).items()
    }
    state = {name: tensor.clone() for name, tensor in state.items()}
    save_file(state, tmp_path / "whole.safetensors")
    good = {
        "model.safetensors": (tmp_path / "whole.safetensors").read_bytes(),
        "pytorch_model.bin": (folder / "pytorch_model.bin").read_bytes(),
        "model.gguf": write_gguf(make_model("llama", num_hidden_layers=1)).read_bytes(),
    }
    (folder / "pytorch_model.bin").unlink()
    return folder, good


@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_damaged_bytes_give_a_block_or_one_kind_of_error(damaged_files, data):
    folder, good = damaged_files
    name = data.draw(st.sampled_from(sorted(good)))
    content = bytearray(good[name])
    # Damage the tables rather than the numbers: the head of each file, and the tail, where zip
    # keeps its own.
    spots = st.integers(0, min(len(content), 9000) - 1) | st.integers(-1500, -1)
    for at in data.draw(st.lists(spots, min_size=1, max_size=4)):
        content[at] = data.draw(st.integers(0, 255))
    (folder / name).write_bytes(content)
    # Any other kind of error fails the test.
    with contextlib.suppress(BlockError):
        assert load_block(folder / name).hidden_size > 0
    (folder / name).unlink()
