"""Weights that no training survives, files that stand for others, and endings that lie: one clear
line each, whatever the format and the number type.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medvision.llm import BlockError, load_block, prepare_block
from medvision.placeholders import placeholder

FORMATS = ("safetensors", "sharded safetensors", "bin", "sharded bin", "legacy bin", "meta", "gguf")
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
TENSORS = (
    "model.layers.2.self_attn.q_proj.weight",
    "model.layers.2.self_attn.o_proj.weight",
    "model.layers.2.mlp.down_proj.weight",
    "model.layers.2.input_layernorm.weight",
    "model.norm.weight",
)
OPTIONAL = ("rope_theta", "n_kv_heads", "head_dim", "moe", "vision_chunk_size")
ELSEWHERE = ("model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "lm_head.weight")


@pytest.fixture
def write_as(write, write_meta, write_gguf, tmp_path):
    """`write_as(model, format)`: a new checkpoint, and a new cache for it."""
    many = iter(range(10**6))

    def make(model, fmt, monkeypatch):
        monkeypatch.setenv("MEDVISION_CACHE", str(tmp_path / f"cache-{next(many)}"))
        shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)
        if fmt == "meta":
            return write_meta(model, 2)
        return write_gguf(model) if fmt == "gguf" else write(model, fmt)

    return make


def spoil(model, name: str, value: float, at: int) -> None:
    tensor = model.state_dict()[name]
    tensor.view(-1)[at % tensor.numel()] = value


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    fmt=st.sampled_from(FORMATS),
    dtype=st.sampled_from(DTYPES),
    name=st.sampled_from(TENSORS),
    value=st.sampled_from((float("nan"), float("inf"), float("-inf"))),
    at=st.integers(0, 10**4),
)
def test_nan_and_infinite_weights_are_refused_and_named(
    make_model, write_as, tmp_path, fmt, dtype, name, value, at
):
    model = make_model("llama").to(torch.float32 if fmt == "gguf" else dtype)
    spoil(model, name, value, at)
    counts = "1 NaN and 0 infinite" if value != value else "0 NaN and 1 infinite"
    with pytest.MonkeyPatch.context() as patch:
        source = write_as(model, fmt, patch)
        where = name.removeprefix("model.")
        for ask in (prepare_block, load_block):
            with pytest.raises(BlockError, match=f"{where} holds {counts} values of"):
                ask(source)
        if name.startswith("model.layers.2."):
            assert load_block(source, 1).layer == 1


@pytest.mark.parametrize("fmt", ["safetensors", "bin"])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_the_block_does_not_read_is_not_its_concern(make_model, write, fmt, name):
    model = make_model("llama")
    spoil(model, name, float("nan"), 3)
    assert load_block(write(model, fmt)).layer == 2


@pytest.mark.parametrize("fmt", ["safetensors", "bin"])
def test_float64_beyond_float32(make_model, write, fmt):
    model = make_model("llama").double()
    spoil(model, TENSORS[2], 1e300, 5)
    with pytest.raises(BlockError, match=r"0 NaN and 1 infinite values of 6144 \(float64\)"):
        load_block(write(model, fmt))


@pytest.mark.parametrize("cached", [False, True])
def test_weights_that_overflow_in_the_asked_dtype(make_model, write, cached):
    model = make_model("llama").to(torch.bfloat16)
    spoil(model, TENSORS[2], 1e6, 5)
    folder = write(model)
    if cached:
        prepare_block(folder)
    with pytest.raises(BlockError, match=r"not finite in torch\.float16: take torch\.float32"):
        load_block(folder, dtype=torch.float16)
    assert load_block(folder, dtype=torch.bfloat16).layer == 2


def edit(folder: Path, name: str, **values: object) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("key", ["quantization_config", "compression_config"])
@pytest.mark.parametrize(
    "value",
    [None, {}, {"quant_method": "bitsandbytes", "load_in_8bit": False, "load_in_4bit": False}],
)
def test_a_quantisation_that_is_none(make_model, write, key, value):
    model = make_model("llama")
    plain = load_block(write(model)).fingerprint
    folder = write(model, "bin")
    edit(folder, "config.json", **{key: value})
    assert load_block(folder).fingerprint == plain


@pytest.mark.parametrize(
    "value",
    [
        {"quant_method": "hqq"},
        {"quant_method": "gptq", "bits": 3},
        {"quant_method": "awq", "bits": 4, "version": "gemv"},
        "gptq",
    ],
)
def test_a_quantisation_that_nobody_reads(make_model, write, value):
    folder = write(make_model("llama"))
    edit(folder, "config.json", quantization_config=value)
    with pytest.raises(BlockError, match="is quantised"):
        load_block(folder)


@given(
    st.sets(st.sampled_from(("rope_theta", "n_kv_heads", "head_dim", "moe", "vision_chunk_size")))
)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_null_in_params_json_is_not_set(make_model, write_as, keys):
    model = make_model("llama", num_key_value_heads=4, rope_theta=10000.0)
    with pytest.MonkeyPatch.context() as patch:
        folder = write_as(model, "meta", patch)
        plain = prepare_block(folder)
        edit(folder, "params.json", **dict.fromkeys(keys))
        assert prepare_block(folder) == plain


@pytest.mark.parametrize(
    "values", [{"ffn_dim_multiplier": "big"}, {"multiple_of": 0}, {"multiple_of": "256"}]
)
def test_params_that_make_no_width(make_model, write_meta, values):
    folder = write_meta(make_model("llama"), **values)
    with pytest.raises(BlockError, match="of which no width can be made"):
        load_block(folder)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 5368709120\n" % (b"a" * 64)
PLACEHOLDERS = {
    "Git LFS pointer to a file of 5,368,709,120 bytes.*git lfs pull": LFS,
    "Git LFS pointer": b"version https://hawser.github.com/spec/v1\noid sha256:0\n",
    "Xet pointer to a file of 7 bytes": b"# xet version 0\nfilesize = 7\nhash = 'a'\n",
    "git-annex pointer.*datalad get": b"/annex/objects/SHA256E-s1--a.bin\n",
    "is a web page": b"\n<!DOCTYPE html><html><body>Access denied</body></html>",
}


@pytest.mark.parametrize("match", PLACEHOLDERS)
@pytest.mark.parametrize("fmt", ["safetensors", "bin", "sharded bin", "meta", "gguf"])
@pytest.mark.parametrize("which", ["weights", "settings"])
def test_files_that_stand_for_others_are_told_as_what_they_are(
    make_model, write_as, monkeypatch, match, fmt, which
):
    source = write_as(make_model("llama"), fmt, monkeypatch)
    files = [source] if source.is_file() else sorted(source.iterdir())
    for file in files:
        if source.is_file() or (file.suffix == ".json") == (which == "settings"):
            file.write_bytes(PLACEHOLDERS[match])
    with pytest.raises(BlockError, match=match):
        load_block(source)


@given(st.binary(max_size=1024))
@settings(max_examples=200, deadline=None)
def test_no_binary_file_is_taken_for_a_placeholder(head):
    assert placeholder(b"\x93\x00" + head) is None


def test_a_dangling_link_says_where_it_led(make_model, write):
    folder = write(make_model("llama"))
    weights = folder / "model.safetensors"
    weights.unlink()
    weights.symlink_to("../.git/annex/objects/SHA256E-s1--a.safetensors")
    for ask in (load_block, prepare_block):
        with pytest.raises(BlockError, match=r"is a link to .*annex.*which is not there"):
            ask(folder)


@pytest.mark.parametrize(
    ("source", "target", "match"),
    [
        ("bin", "model.safetensors", "no safetensors file.*zip archive, as torch.save"),
        ("legacy bin", "model.safetensors", "no safetensors file.*a pickle, as torch.save"),
        ("safetensors", "pytorch_model.bin", "no PyTorch checkpoint.*is a safetensors file"),
        ("safetensors", "model.gguf", "no GGUF file.*is a safetensors file"),
        ("gguf", "model.safetensors", "no safetensors file.*is a GGUF file"),
        ("gguf", "pytorch_model.bin", "no PyTorch checkpoint.*is a GGUF file"),
    ],
)
def test_an_ending_that_lies(make_model, write_as, monkeypatch, source, target, match):
    model = make_model("llama")
    written = write_as(model, source, monkeypatch)
    names = {"safetensors": "model.safetensors"}
    file = written if source == "gguf" else written / names.get(source, "pytorch_model.bin")
    folder = file.parent / "renamed"
    folder.mkdir(exist_ok=True)
    model.config.save_pretrained(folder)
    shutil.copy(file, folder / target)
    with pytest.raises(BlockError, match=match):
        load_block(folder)


@pytest.mark.parametrize("fmt", ["safetensors", "bin", "gguf", "meta"])
def test_endings_in_capitals(make_model, write_as, monkeypatch, fmt):
    model = make_model("llama")
    written = write_as(model, fmt, monkeypatch)
    plain = load_block(written).fingerprint
    folder = written.parent / "capitals"
    folder.mkdir()
    for file in [written] if written.is_file() else sorted(written.iterdir()):
        json_file = file.suffix == ".json"
        shutil.copy(
            file, folder / (file.name if json_file else f"{file.stem}{file.suffix.upper()}")
        )
    assert load_block(folder).fingerprint == plain


@pytest.mark.parametrize("name", ["model.h5", "model.msgpack", "model.ckpt", "weights.npz"])
def test_formats_that_are_not_read(make_model, tmp_path, name):
    folder = tmp_path / "other"
    make_model("llama").config.save_pretrained(folder)
    (folder / name).write_bytes(b"\x89HDF\r\n")
    with pytest.raises(BlockError, match=f"no supported checkpoint.*{name}.*what works"):
        load_block(folder)
