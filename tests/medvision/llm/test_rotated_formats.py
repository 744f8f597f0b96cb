"""Meta's files and GGUF, with query and key rows in another order, against transformers' whole
model.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from medvision.llm import BlockError, describe_block, load_block


@pytest.mark.parametrize("parts", [1, 2])
def test_meta_files_equal_the_layer_inside_the_whole_model(parts, make_model, write_meta, inside):
    model = make_model("llama")
    folder = write_meta(model, parts)
    for index in (0, 2):
        given, expected = inside(model, index)
        block = load_block(folder, index, rope=True, causal=True, final_norm=False)
        torch.testing.assert_close(block(given), expected, rtol=0, atol=0)
    torch.testing.assert_close(
        load_block(folder).norm(given), model.model.norm(given), rtol=0, atol=0
    )
    assert describe_block(folder) == {
        "family": "llama",
        "hidden_size": 64,
        "layers": 3,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 16,
        "intermediate_size": 96,
        "gated": True,
        "format": "meta",
    }


def test_meta_and_hugging_face_give_the_same_fingerprint(make_model, write, write_meta):
    model = make_model("llama")
    assert load_block(write(model)).fingerprint == load_block(write_meta(model, 2)).fingerprint


def test_meta_scaled_rope(make_model, write_meta, inside):
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling |= {
        "rope_type": "llama3",
        "rope_theta": 5000.0,
        "original_max_position_embeddings": 8192,
    }
    model = make_model("llama", rope_parameters=scaling, max_position_embeddings=131072)
    given, expected = inside(model, 2, length=40)
    folder = write_meta(model, use_scaled_rope=True)
    block = load_block(folder, 2, rope=True, causal=True, final_norm=False)
    torch.testing.assert_close(block(given), expected, rtol=0, atol=0)


def test_meta_missing_part_is_noticed(make_model, write_meta):
    folder = write_meta(make_model("llama"), 2)
    (folder / "consolidated.01.pth").unlink()
    with pytest.raises(BlockError, match="needs"):
        load_block(folder)


@pytest.mark.parametrize(
    ("family", "kind"),
    [(family, "F32") for family in ("llama", "mistral", "qwen2", "qwen3", "gemma2", "bert")]
    + [("llama", kind) for kind in ("F16", "BF16", "Q8_0", "Q4_1")],
)
def test_gguf_equals_the_layer_inside_the_whole_model(family, kind, make_model, write_gguf, inside):
    model = make_model(family)
    path = write_gguf(model, kind)
    causal = family != "bert"
    for index in (0, 1):
        given, expected = inside(model, index)
        block = load_block(path, index, rope=causal, causal=causal, final_norm=False)
        torch.testing.assert_close(block(given), expected, rtol=0, atol=0)
    if causal:
        torch.testing.assert_close(
            load_block(path).norm(given), model.model.norm(given), rtol=0, atol=0
        )
    assert (
        load_block(path.parent, 0, final_norm=False).fingerprint == load_block(path, 0).fingerprint
    )


@pytest.mark.parametrize("family", ["llama", "qwen3", "bert"])
def test_gguf_and_safetensors_give_the_same_fingerprint(family, make_model, write, write_gguf):
    model = make_model(family)
    assert load_block(write_gguf(model)).fingerprint == load_block(write(model)).fingerprint


def test_gguf_rotary_factors(make_model, write_gguf, inside):
    """Llama 3.1's scaling comes as a tensor of divisors in GGUF."""
    model = make_model("llama")
    factors = torch.linspace(1, 8, 8)
    model.model.rotary_emb.inv_freq /= factors
    given, expected = inside(model, 2, length=30)
    path = write_gguf(model, rope_freqs__weight=factors)
    for _ in range(2):
        block = load_block(path, 2, rope=True, causal=True, final_norm=False)
        torch.testing.assert_close(block(given), expected, rtol=0, atol=0)
    assert set(block.state_dict()) == set(load_block(path, 2, final_norm=False).state_dict())


@settings(deadline=None, max_examples=30)
@drawn(heads=st.integers(1, 5), half=st.integers(1, 6), seed=st.integers(0, 99))
def test_unpermuted_rows_rotate_by_halves_as_the_stored_ones_by_pairs(heads, half, seed):
    """The definition: rotating neighbouring rows, seen in the new order, is transformers'
    rotation.
    """
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    from medvision.llm.tensors import unpermute

    generator = torch.Generator().manual_seed(seed)
    stored = torch.randn(heads * 2 * half, generator=generator, dtype=torch.float64)
    angle = torch.rand(half, generator=generator, dtype=torch.float64)
    pairs = torch.view_as_complex(stored.reshape(heads, half, 2)) * torch.polar(
        torch.ones_like(angle), angle
    )
    by_pairs = torch.view_as_real(pairs).reshape(-1)

    both = torch.cat((angle, angle))[None, None]
    query = unpermute(stored, heads).reshape(1, heads, 1, 2 * half)
    by_halves, _ = apply_rotary_pos_emb(query, query, both.cos(), both.sin())
    torch.testing.assert_close(by_halves.reshape(-1), unpermute(by_pairs, heads))


def test_real_smollm2_block(fetched):
    smollm2 = fetched("smollm2-135m")
    assert describe_block(smollm2) == {
        "family": "llama",
        "hidden_size": 576,
        "layers": 30,
        "heads": 9,
        "kv_heads": 3,
        "head_dim": 64,
        "intermediate_size": 1536,
        "gated": True,
        "format": "gguf",
    }
    block = load_block(smollm2)
    assert block.layer == 29
    tokens = torch.randn(1, 50, 576, generator=torch.Generator().manual_seed(0))
    out = block(tokens)
    assert out.shape == tokens.shape
    assert torch.isfinite(out).all()
    shuffled = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    # Without positions and mask the block does not know the order of the tokens.
    torch.testing.assert_close(block(tokens[:, shuffled]), out[:, shuffled], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_real_smollm2_whole_model_out_of_blocks(fetched):
    """All 30 layers in a row are transformers' model and predict English; permuted they do
    worse.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    smollm2 = fetched("smollm2-135m")
    folder, file = str(smollm2.parent), smollm2.name
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    text = (
        "The heart is a muscular organ that pumps blood through the body. It has four chambers: "
        "two atria, which receive blood, and two ventricles, which pump it out. The right side "
        "sends blood to the lungs, where it takes up oxygen, and the left side sends the "
        "oxygen-rich blood to the body."
    )
    ids = tokenizer(text, return_tensors="pt").input_ids
    block = load_block(smollm2, list(range(30)), rope=True, causal=True)
    with torch.no_grad():
        embedded = model.model.embed_tokens(ids)
        hidden = block(embedded)
        expected = model.model(inputs_embeds=embedded).last_hidden_state
        torch.testing.assert_close(hidden, expected, rtol=0, atol=0)

        def perplexity(states: torch.Tensor) -> float:
            logits = model.lm_head(states)[0, :-1]
            return float(torch.nn.functional.cross_entropy(logits, ids[0, 1:]).exp())

        right = perplexity(hidden)
        for layer in block.layers:
            for projection, heads in ((layer.self_attn.q_proj, 9), (layer.self_attn.k_proj, 3)):
                rows = projection.weight.data.reshape(heads, 2, 32, -1).transpose(1, 2)
                projection.weight.data = rows.reshape(projection.weight.shape)
        wrong = perplexity(block(embedded))
    assert right < 25
    assert wrong > 1.5 * right
