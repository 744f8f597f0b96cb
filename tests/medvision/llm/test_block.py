"""What the block is as a module: the paper's algebra, frozen, bidirectional, transparent for
gradients.
"""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from medvision.llm import BlockError, FrozenBlock, load_block

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "bert", "biogpt")


def tokens(batch: int = 2, length: int = 12, width: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, length, width, generator=torch.Generator().manual_seed(seed))


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def paper_block(
    x: torch.Tensor, w: dict[str, torch.Tensor], heads: int, kv_heads: int, eps: float
) -> torch.Tensor:
    """RMSNorm, grouped-query attention without rotation and mask, SwiGLU, final RMSNorm, in plain
    algebra.
    """
    batch, length, width = x.shape
    size = width // heads
    h = rms_norm(x, w["input_layernorm"], eps)
    q = (h @ w["self_attn.q_proj"].T).reshape(batch, length, heads, size)
    k = (h @ w["self_attn.k_proj"].T).reshape(batch, length, kv_heads, size)
    v = (h @ w["self_attn.v_proj"].T).reshape(batch, length, kv_heads, size)
    mixed = torch.empty_like(q)
    for head in range(heads):
        shared = head // (heads // kv_heads)
        scores = torch.einsum("bid,bjd->bij", q[:, :, head], k[:, :, shared]) / size**0.5
        weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
        mixed[:, :, head] = torch.einsum("bij,bjd->bid", weights, v[:, :, shared])
    x = x + mixed.reshape(batch, length, width) @ w["self_attn.o_proj"].T
    h = rms_norm(x, w["post_attention_layernorm"], eps)
    gate = h @ w["mlp.gate_proj"].T
    x = x + (gate * torch.sigmoid(gate) * (h @ w["mlp.up_proj"].T)) @ w["mlp.down_proj"].T
    return rms_norm(x, w["norm"], eps)


def test_is_the_papers_block(make_model, write):
    model = make_model("llama").double()
    block = load_block(write(model, "bin"), dtype=torch.float64)
    state = {name: tensor.double() for name, tensor in block.state_dict().items()}
    weights = {
        name.removeprefix("layers.0.").removesuffix(".weight"): tensor
        for name, tensor in state.items()
    }
    x = tokens().double()
    expected = paper_block(x, weights, heads=4, kv_heads=2, eps=model.config.rms_norm_eps)
    # transformers' norm works in float32 whatever the dtype, so the agreement is float32's.
    torch.testing.assert_close(block(x), expected, rtol=2e-5, atol=2e-5)
    assert not torch.allclose(
        load_block(write(model, "bin"), rope=True)(x.float()).double(), expected, atol=0.01
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_see_each_other_unless_causal(family, make_model, write):
    folder = write(make_model(family))
    x, changed = tokens(), tokens()
    changed[:, 7] += 1.0
    for causal in (False, True):
        block = load_block(folder, causal=causal, final_norm=False)
        differs = (block(x) - block(changed)).abs().amax((0, 2)) > 1e-7
        assert differs.tolist() == [(not causal) or place >= 7 for place in range(12)]


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "gemma2"])
def test_order_of_tokens_counts_only_with_rope(family, make_model, write):
    folder = write(make_model(family))
    x, order = tokens(), torch.randperm(12, generator=torch.Generator().manual_seed(5))
    plain, rotated = load_block(folder), load_block(folder, rope=True)
    torch.testing.assert_close(plain(x[:, order]), plain(x)[:, order], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(rotated(x[:, order]), rotated(x)[:, order], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_but_transparent_for_gradients(family, make_model, write):
    block = load_block(write(make_model(family)))
    before = {name: tensor.clone() for name, tensor in block.state_dict().items()}
    mapper = nn.Linear(8, 64)
    model = nn.Sequential(mapper, block, nn.Linear(64, 1)).train()
    assert not any(parameter.requires_grad for parameter in block.parameters())
    assert list(block.buffers()) == []
    model(torch.randn(2, 12, 8)).square().mean().backward()
    assert mapper.weight.grad is not None
    assert mapper.weight.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in block.parameters())
    torch.optim.AdamW(p for p in model.parameters() if p.requires_grad).step()
    assert all(torch.equal(block.state_dict()[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("family", ["bert", "biogpt"])
def test_training_mode_does_not_switch_dropout_on(family, make_model, write):
    block = load_block(write(make_model(family)))
    expected = block(tokens())
    for module in (block, nn.Sequential(block)):
        module.train()
        assert not any(part.training for part in block.modules())
        assert torch.equal(block(tokens()), expected)


def test_other_weights_give_other_tokens_and_another_fingerprint(make_model, write):
    model = make_model("llama")
    block = load_block(write(model))
    model.model.layers[2].mlp.up_proj.weight.data[5, 5] += 0.5
    other = load_block(write(model, "bin"))
    assert other.fingerprint != block.fingerprint
    assert not torch.equal(other(tokens()), block(tokens()))
    assert (
        load_block(write(model, "bin"), 1).fingerprint
        == load_block(write(model, "sharded bin"), 1).fingerprint
    )


def test_final_norm_is_the_models_and_bert_has_none(make_model, write):
    model = make_model("biogpt")
    with_norm, without = (load_block(write(model), final_norm=final) for final in (True, False))
    assert torch.equal(with_norm(tokens()), model.biogpt.layer_norm(without(tokens())))
    assert with_norm.fingerprint == without.fingerprint
    bert = write(make_model("bert"))
    assert torch.equal(load_block(bert)(tokens()), load_block(bert, final_norm=False)(tokens()))


@settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batch=st.integers(1, 3), length=st.integers(1, 20), seed=st.integers(0, 50))
def test_samples_do_not_mix(shared_block, batch, length, seed):
    x = tokens(batch, length, seed=seed)
    out = shared_block(x)
    assert out.shape == x.shape
    for index in range(batch):
        torch.testing.assert_close(
            shared_block(x[index : index + 1]), out[index : index + 1], rtol=1e-4, atol=1e-5
        )


@pytest.fixture
def shared_block(make_model, write) -> FrozenBlock:
    return load_block(write(make_model("qwen3")), rope=True)


def test_wrong_shape_is_refused(shared_block):
    for shape in ((2, 12, 63), (12, 64), (1, 2, 12, 64)):
        with pytest.raises(BlockError, match=r"\[B, T, 64\]"):
            shared_block(torch.zeros(shape))


def test_output_has_the_dtype_of_the_input(make_model, write):
    folder = write(make_model("llama"))
    exact = load_block(folder)(tokens())
    half = load_block(folder, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    torch.testing.assert_close(half(tokens()), exact, rtol=0.1, atol=0.1)
    assert load_block(folder)(tokens().bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(load_block(folder)(tokens()), exact, rtol=0.1, atol=0.1)


def test_copies_and_moves(shared_block):
    assert torch.equal(copy.deepcopy(shared_block)(tokens()), shared_block(tokens()))
    assert torch.allclose(
        shared_block.double()(tokens().double()).float(), shared_block.float()(tokens()), atol=1e-4
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_random_weights_are_drawn_from_the_seed(family, make_model, write):
    folder = write(make_model(family))
    trained = load_block(folder)
    first, again, other = (load_block(folder).randomise(seed) for seed in (1, 1, 2))
    assert first.fingerprint == again.fingerprint
    assert len({trained.fingerprint, first.fingerprint, other.fingerprint}) == 3
    assert torch.equal(first(tokens()), again(tokens()))
    assert not torch.equal(first(tokens()), other(tokens()))
    assert not torch.allclose(first(tokens()), trained(tokens()), atol=0.01)
    # Small weights and identity norms: the residual path carries the input almost unchanged.
    # Gemma-2 alone norms what its two sublayers add, so that input and additions weigh the same.
    carried = load_block(folder, final_norm=False).randomise(1)(tokens())
    alike = torch.nn.functional.cosine_similarity(carried.flatten(), tokens().flatten(), dim=0)
    assert alike > (0.5 if family == "gemma2" else 0.9)
    assert not any(parameter.requires_grad for parameter in first.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_projections_name_linear_maps(family, make_model, write):
    block = load_block(write(make_model(family)), [0, 2])
    assert set(block.projections) == {"q", "k", "v", "o"}
    for names in block.projections.values():
        assert len(names) == 2
        assert all(isinstance(block.get_submodule(name), nn.Linear) for name in names)


@pytest.mark.parametrize(("family", "rope"), [("llama", True), ("gemma2", False), ("bert", False)])
def test_compiles_to_one_graph(family, rope, make_model, write):
    block = load_block(write(make_model(family)), rope=rope, causal=True)
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(tokens()), block(tokens()), rtol=1e-5, atol=1e-5)


def test_distributed_training_reduces_only_the_mappers(make_model, write, tmp_path):
    block = load_block(write(make_model("llama")), rope=True)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    try:
        model = nn.Sequential(nn.Linear(8, 64), block, nn.Linear(64, 1))
        seen: list[int] = []

        def note(_, bucket):
            seen.append(bucket.buffer().numel())
            done = torch.futures.Future()
            done.set_result(bucket.buffer())
            return done

        parallel = nn.parallel.DistributedDataParallel(model)
        parallel.register_comm_hook(None, note)
        parallel(torch.randn(2, 12, 8)).sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    assert sum(seen) == 8 * 64 + 64 + 64 + 1


def test_signature_is_the_published_one():
    assert str(inspect.signature(load_block)).startswith(
        "(source: 'str | Path', layer: 'Layer' = -1, *, rope: 'bool' = False, causal: 'bool' = "
        "False, final_norm: 'bool' = True, dtype: 'torch.dtype' = torch.float32)"
    )


def test_lora_on_the_blocks_own_projections(shared_block):
    from peft import LoraConfig, inject_adapter_in_model

    expected = shared_block(tokens())
    targets = [*shared_block.projections["q"], *shared_block.projections["v"]]
    adapted = inject_adapter_in_model(LoraConfig(r=2, target_modules=targets), shared_block)
    assert torch.equal(adapted(tokens()), expected)
    trained = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert len(trained) == 4
    assert all("lora_" in name for name in trained)
    adapted(tokens()).sum().backward()
