"""A loaded layer is the same layer as inside transformers' whole model: difference 0 in float32."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medvision.llm import BlockError, describe_block, load_block

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "bert", "biogpt")
FORMATS = ("safetensors", "sharded safetensors", "base model", "bin", "legacy bin", "sharded bin")
ROTARY = ("llama", "mistral", "qwen2", "qwen3", "gemma2")


def as_trained(source, layer, family, **settings):
    """The layer alone, with the rotary embedding and mask that its model has."""
    return load_block(
        source, layer, rope=family in ROTARY, causal=family != "bert", final_norm=False, **settings
    )


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_layer_inside_the_whole_model(family, fmt, make_model, write, inside):
    model = make_model(family)
    folder = write(model, fmt)
    for index in (0, 2):
        given, expected = inside(model, index)
        for again in ("from the checkpoint", "from the cache"):
            block = as_trained(folder, index, family)
            torch.testing.assert_close(
                block(given), expected, rtol=0, atol=0, msg=f"layer {index} {again}"
            )
            assert (block.family, block.layer, block.hidden_size) == (family, index, 64)
    other = as_trained(folder, 1, family)
    assert not torch.allclose(other(given), expected, atol=0.01)


@pytest.mark.parametrize("family", FAMILIES)
def test_negative_index_and_several_layers_with_the_final_norm(family, make_model, write, inside):
    model = make_model(family)
    folder = write(model)
    given, _ = inside(model, 1)
    _, last = inside(model, 2)
    base = model.base_model
    norm = getattr(base, "layer_norm", getattr(base, "norm", nn.Identity()))
    block = load_block(folder, [1, -1], rope=family in ROTARY, causal=family != "bert")
    torch.testing.assert_close(block(given), norm(last), rtol=0, atol=0)
    assert block.layer == (1, 2)
    assert load_block(folder).layer == 2
    assert load_block(folder).fingerprint == load_block(folder, 2).fingerprint != block.fingerprint


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_checkpoints(family, dtype, make_model, write, inside):
    model = make_model(family).to(dtype)
    folder = write(model, "sharded safetensors")
    # Read back by transformers: casting the model itself would round the rotary frequencies as
    # well.
    given, expected = inside(type(model).from_pretrained(folder, dtype=torch.float32), 2)
    block = as_trained(folder, 2, family)
    torch.testing.assert_close(block(given), expected, rtol=0, atol=0)
    half = as_trained(folder, 2, family, dtype=dtype)
    assert {parameter.dtype for parameter in half.parameters()} == {dtype}
    assert half(given).dtype == given.dtype
    assert half.fingerprint == block.fingerprint


@pytest.mark.parametrize("family", ["mistral", "gemma2", "qwen2"])
def test_sliding_window_of_a_causal_block(family, make_model, write, inside):
    settings = {"sliding_window": 4}
    if family == "qwen2":
        settings |= {"use_sliding_window": True, "max_window_layers": 1}
    model = make_model(family, **settings)
    folder = write(model)
    for index in (1, 2):  # of Gemma-2 and Qwen2 here, one with the window and one without
        given, expected = inside(model, index, length=11)
        torch.testing.assert_close(
            as_trained(folder, index, family)(given), expected, rtol=0, atol=0
        )


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "linear", "factor": 4.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ],
    ids=lambda scaling: scaling["rope_type"],
)
def test_scaled_rotary_embeddings(scaling, make_model, write, inside):
    model = make_model("llama", rope_parameters={"rope_theta": 5000.0, **scaling})
    folder = write(model)
    given, expected = inside(model, 2, length=40)
    torch.testing.assert_close(as_trained(folder, 2, "llama")(given), expected, rtol=0, atol=0)
    plain = make_model("llama")
    assert not torch.equal(as_trained(write(plain, "bin"), 2, "llama")(given), expected)


def test_biases_of_llama(make_model, write, inside):
    model = make_model("llama", attention_bias=True, mlp_bias=True)
    given, expected = inside(model, 1)
    block = as_trained(write(model), 1, "llama")
    assert any(name.endswith("q_proj.bias") for name, _ in block.named_parameters())
    torch.testing.assert_close(block(given), expected, rtol=0, atol=0)


def test_first_bert_configurations_name_no_type(make_model, write):
    import json

    folder = write(make_model("bert"), "legacy bin")
    config = json.loads((folder / "config.json").read_text())
    for key in ("model_type", "architectures"):
        config.pop(key, None)
    (folder / "config.json").write_text(json.dumps(config))
    assert load_block(folder).family == "bert"


@pytest.mark.parametrize("family", FAMILIES)
def test_description_needs_no_tensor(family, make_model, write):
    folder = write(make_model(family))
    (folder / "model.safetensors").write_bytes(b"")
    expected = {
        "family": family,
        "hidden_size": 64,
        "layers": 3,
        "heads": 4,
        "format": "safetensors",
    }
    kv_heads = 4 if family in ("bert", "biogpt") else 2
    head_dim = 24 if family == "qwen3" else 16
    sizes = {
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "intermediate_size": 96,
        "gated": kv_heads == 2,
    }
    assert describe_block(folder) == expected | sizes


@pytest.mark.parametrize("family", ["bert", "biogpt"])
def test_rope_is_refused_where_there_is_none(family, make_model, write):
    with pytest.raises(BlockError, match=f"{family} has no rotary"):
        load_block(write(make_model(family)), rope=True)
