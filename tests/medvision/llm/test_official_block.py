"""What the official code does to a Llama layer, as plain tensor algebra: key/value heads tiled over
the query heads, and a final norm with weights of one.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F

from medvision.llm import load_block
from medvision.models.language.bridge import open_block
from medvision.models.language.settings import LlmSettings

HEADS, KV_HEADS, WIDTH, LAYER = 8, 2, 64, 2


def normalised(x: torch.Tensor, weight: torch.Tensor | float, eps: float = 1e-6) -> torch.Tensor:
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def by_formula(
    state: dict[str, torch.Tensor], x: torch.Tensor, *, tiled: bool, ones: bool
) -> torch.Tensor:
    """The Llama layer [B, T, C] without positions and mask, and the final norm after it."""
    weight = {
        name.removeprefix(f"model.layers.{LAYER}."): tensor.double()
        for name, tensor in state.items()
        if name.startswith(f"model.layers.{LAYER}.")
    }
    batch, tokens, _ = x.shape
    size = WIDTH // HEADS
    y = normalised(x, weight["input_layernorm.weight"])
    q, k, v = (
        (y @ weight[f"self_attn.{name}_proj.weight"].T).view(batch, tokens, -1, size)
        for name in "qkv"
    )
    mixed = torch.empty_like(q)
    for head in range(HEADS):
        other = head % KV_HEADS if tiled else head // (HEADS // KV_HEADS)
        scores = torch.einsum("btd,bsd->bts", q[:, :, head], k[:, :, other]) / size**0.5
        mixed[:, :, head] = scores.softmax(-1) @ v[:, :, other]
    x = x + mixed.reshape(batch, tokens, WIDTH) @ weight["self_attn.o_proj.weight"].T
    y = normalised(x, weight["post_attention_layernorm.weight"])
    gate = F.silu(y @ weight["mlp.gate_proj.weight"].T)
    x = x + (gate * (y @ weight["mlp.up_proj.weight"].T)) @ weight["mlp.down_proj.weight"].T
    return normalised(x, 1.0 if ones else state["model.norm.weight"].double())


@pytest.fixture
def tokens() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 11, WIDTH, generator=generator, dtype=torch.float64)


def opened(source: object, **settings: object) -> torch.nn.Module:
    block, _ = open_block(LlmSettings(source=str(source), **settings))
    return block.double()


@pytest.mark.parametrize(("tiled", "ones"), itertools.product((False, True), repeat=2))
def test_a_llama_layer_equals_the_formula(make_model, write, tokens, tiled, ones):
    model = make_model("llama", num_attention_heads=HEADS, num_key_value_heads=KV_HEADS)
    block = opened(
        write(model),
        kv_pairing="tiled" if tiled else "grouped",
        final_norm_weights="ones" if ones else "checkpoint",
    )
    expected = by_formula(model.state_dict(), tokens, tiled=tiled, ones=ones)
    torch.testing.assert_close(block(tokens), expected, rtol=1e-5, atol=1e-5)  # its norms are fp32


def test_the_default_is_what_transformers_computes(make_model, write, tokens):
    folder = write(make_model("llama", num_attention_heads=HEADS, num_key_value_heads=KV_HEADS))
    assert torch.equal(opened(folder)(tokens), load_block(folder).double()(tokens))
    assert not torch.allclose(opened(folder, kv_pairing="tiled")(tokens), opened(folder)(tokens))


def tile(heads: torch.Tensor, many: int) -> torch.Tensor:
    """What the official code makes of key/value heads [B, K, T, D]."""
    return heads.repeat(1, many, 1, 1)


@pytest.mark.parametrize("rope", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "gemma2"])
def test_every_family_with_grouped_heads_can_be_tiled(
    make_model, write, monkeypatch, family, rope, causal
):
    """Against transformers' own eager attention whose repeat of the heads is replaced."""
    from importlib import import_module

    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    folder = write(make_model(family, **heads))
    tokens = torch.randn(1, 9, 64, generator=torch.Generator().manual_seed(2))
    settings = LlmSettings(source=str(folder), kv_pairing="tiled", rope=rope, causal=causal)
    found = open_block(settings)[0](tokens)
    reference = load_block(folder, rope=rope, causal=causal)
    module = import_module(f"transformers.models.{family}.modeling_{family}")
    monkeypatch.setattr(module, "repeat_kv", tile)
    reference._eager = True
    for layer in reference.layers:
        layer.self_attn.config._attn_implementation = "eager"
    torch.testing.assert_close(found, reference(tokens), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "biogpt"])
def test_nothing_changes_where_every_query_head_has_its_own_keys(make_model, write, family):
    folder = write(make_model(family))
    tiled = opened(folder, kv_pairing="tiled")
    for mine, plain in zip(tiled.parameters(), opened(folder).parameters(), strict=True):
        assert torch.equal(mine, plain)


@pytest.mark.parametrize(("family", "weight", "others"), [("gemma2", 0, 0), ("biogpt", 1, 0)])
def test_a_final_norm_of_another_kind_is_reset_to_its_own_start(
    make_model, write, family, weight, others
):
    block = opened(write(make_model(family)), final_norm_weights="ones")
    for name, parameter in block.norm.named_parameters():
        assert (parameter == (weight if name == "weight" else others)).all()
    assert opened(write(make_model("bert")), final_norm_weights="ones").norm is None


def test_random_heads_are_tiled_too(make_model, write, tokens):
    folder = write(make_model("llama", num_attention_heads=HEADS, num_key_value_heads=KV_HEADS))
    grouped = opened(folder, weights="random", random_seed=0)
    tiled = opened(folder, weights="random", random_seed=0, kv_pairing="tiled")
    assert not torch.allclose(tiled(tokens), grouped(tokens))
    assert tiled.fingerprint == grouped.fingerprint


def test_low_rank_parts_go_with_the_tiled_heads(make_model, write):
    from medvision.models.language.bridge import LanguageBridge
    from medvision.models.language.settings import LoraSettings

    folder = write(make_model("llama", num_attention_heads=HEADS, num_key_value_heads=KV_HEADS))
    tokens = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(4))
    block, width = open_block(LlmSettings(source=str(folder), kv_pairing="tiled"))
    plain = LanguageBridge(16, block, width, "lora", LoraSettings())
    block, _ = open_block(LlmSettings(source=str(folder), kv_pairing="tiled"))
    adapted = LanguageBridge(16, block, width, "lora", LoraSettings(targets=("mappers", "q", "o")))
    for name in ("mapper1", "mapper2"):
        getattr(adapted, name).load_state_dict(getattr(plain, name).state_dict())
    # The block's low-rank parts start at zero, so nothing has changed yet.
    torch.testing.assert_close(adapted(tokens), plain(tokens))
