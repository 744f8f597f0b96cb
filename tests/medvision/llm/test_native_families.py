"""Families without a row: one layer loaded here gives what it gives inside transformers' whole
model, bit by bit in float32, frozen, with a gradient at its input.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from medvision.llm import BlockError, describe_block, load_block
from medvision.llm.bytefile import LocalFile
from medvision.llm.families import FAMILIES
from medvision.llm.proven import NATIVE, REFUSED, ROWS
from medvision.llm.shapes import empty_block
from medvision.llm.stacks import open_stack
from tests.medvision.llm.native_models import MODELS, quick_first
from tests.medvision.llm.native_models import REFUSED as NOT_LOADED

_BY_NAME = {one.family: one for one in NATIVE}


def written(name: str, folder: Path, **more: Any) -> Path:
    MODELS[name].make(**more).save_pretrained(folder)
    return folder


def seen_inside(model: Any, index: int, length: int = 11) -> tuple[torch.Tensor, torch.Tensor]:
    """What goes into a layer and comes out of it while the whole model runs, without a cache, as
    training has none.
    """
    # The stack of the live model is where that of the described one is.
    stack = open_stack({**model.config.to_dict(), "architectures": [type(model).__name__]}, "test")
    layer = model.get_submodule(f"{stack.prefix}{stack.path}.{index}")
    seen: list[torch.Tensor] = []

    def note(module: Any, given: Any, keywords: Any, result: Any) -> None:
        seen.append(given[0] if given else keywords["hidden_states"])
        seen.append(result if isinstance(result, torch.Tensor) else result[0])

    layer.register_forward_hook(note, with_kwargs=True)
    words = torch.arange(length)[None].repeat(2, 1) + torch.tensor([[3], [20]])
    pictures = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    kind = _BY_NAME[model.config.model_type].kind
    part = model.get_submodule(stack.prefix.rstrip(".")) if stack.prefix else model
    with torch.no_grad():
        if kind == "images":
            (model.base_model if model.config.model_type == "dinov2" else part)(pictures)
        elif kind.startswith("language, causal"):
            part(input_ids=words, use_cache=False)
        else:
            part(input_ids=words)
    return seen[0], seen[1]


@pytest.mark.parametrize(
    "name",
    quick_first(_BY_NAME),
)
def test_equals_the_layer_inside_the_whole_model(name, tmp_path):
    proven = _BY_NAME[name]
    folder = written(name, tmp_path)
    model = MODELS[name].make()
    layers = MODELS[name].layers
    for index in sorted({0, layers - 1}):
        given, expected = seen_inside(model, index)
        for again in ("from the checkpoint", "from the cache"):
            block = load_block(
                folder,
                index,
                rope=bool(proven.positions),
                causal="causal" in proven.kind,
                final_norm=False,
            )
            given.requires_grad_(True)
            out = block(given)
            torch.testing.assert_close(out, expected, rtol=0, atol=0, msg=f"layer {index} {again}")
        out.square().mean().backward()
        assert given.grad is not None
        assert given.grad.abs().max() > 0
        assert not any(parameter.requires_grad for parameter in block.parameters())
    if layers > 1:
        assert not torch.allclose(load_block(folder, 1, final_norm=False)(given), out, atol=1e-3)
    assert block.family == (proven.part or name)
    about = describe_block(folder)
    assert (about["family"], about["hidden_size"], about["layers"]) == (block.family, 32, layers)


def test_the_table_is_what_is_proven():
    assert {one.family for one in NATIVE} == MODELS.keys()
    assert [one.family for one in ROWS] == list(FAMILIES)
    assert {name for name, _ in REFUSED} == NOT_LOADED.keys() | {"a model_type with auto_map"}
    assert len(NATIVE) + len(ROWS) >= 25


@pytest.mark.parametrize("name", list(NOT_LOADED))
def test_what_cannot_work_is_refused_with_the_reason(name, tmp_path):
    NOT_LOADED[name].make().save_pretrained(tmp_path)
    wanted = f"a layer of {name.partition(' ')[0]} cannot stand alone: it takes '.*' [(]"
    with pytest.raises(BlockError, match=wanted) as refused:
        load_block(tmp_path)
    assert "which only its whole model" not in str(refused.value)  # but what it is


def edit(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_code_of_a_checkpoint_is_never_run(tmp_path):
    folder = written("phi3", tmp_path)
    (folder / "modeling_own.py").write_text("raise SystemExit('run')")
    code = {"AutoConfig": "modeling_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}
    # A family that transformers has is read with its own classes, whatever the file offers.
    edit(folder, auto_map=code)
    assert load_block(folder).family == "phi3"
    edit(folder, model_type="own")
    with pytest.raises(BlockError, match=r"'own' needs code of its own .*\(modeling_own\), which"):
        load_block(folder)
    edit(folder, auto_map=None)
    with pytest.raises(BlockError, match="'own' is not supported: transformers has no class"):
        load_block(folder)


@pytest.mark.parametrize("name", ["gpt_neox", "qwen3_moe", "t5"])
def test_reads_the_asked_layer_alone(name, tmp_path, monkeypatch):
    folder = written(name, tmp_path)
    read: list[int] = []
    plain = LocalFile.read

    def counting(self: LocalFile, offset: int, length: int) -> bytearray:
        if self.name.endswith(".safetensors") and offset > 8:
            read.append(length)
        return plain(self, offset, length)

    monkeypatch.setattr(LocalFile, "read", counting)
    from medvision.llm import prepare_block

    prepare_block(folder, 1)
    kept = sum(parameter.numel() for parameter in empty_block(str(folder), 1).state_dict().values())
    assert 4 * kept <= sum(read) <= 1.2 * 4 * kept


@pytest.mark.parametrize("name", ["phi3", "qwen2_moe"])
def test_other_formats_and_dtypes_give_the_same_block(name, tmp_path):
    model = MODELS[name].make()
    first = load_block(written(name, tmp_path / "whole"))
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 1
    model.config.save_pretrained(tmp_path / "bin")
    torch.save(model.state_dict(), tmp_path / "bin" / "pytorch_model.bin")
    model.base_model.save_pretrained(tmp_path / "base")
    for kind in ("shards", "bin", "base"):
        assert load_block(tmp_path / kind).fingerprint == first.fingerprint, kind
    model.bfloat16().save_pretrained(tmp_path / "half")
    half = load_block(tmp_path / "half", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    assert half.fingerprint != first.fingerprint


def test_several_layers_the_final_norm_and_a_negative_index(tmp_path):
    folder = written("gpt2", tmp_path)
    model = MODELS["gpt2"].make()
    given, _ = seen_inside(model, 1)
    _, last = seen_inside(MODELS["gpt2"].make(), 2)
    block = load_block(folder, [1, -1], causal=True)
    torch.testing.assert_close(block(given), model.transformer.ln_f(last), rtol=0, atol=0)
    assert block.layer == (1, 2)
    assert load_block(folder).fingerprint == load_block(folder, 2).fingerprint
    twice = load_block(folder, [1, 1], final_norm=False)
    once = load_block(folder, 1, final_norm=False)
    torch.testing.assert_close(twice(given), once(once(given)), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["gpt_neox", "deepseek_v2", "t5", "deberta-v2"])
def test_without_positions_the_order_of_tokens_is_nothing(name, tmp_path):
    block = load_block(written(name, tmp_path), 2)
    x = torch.randn(1, 9, 32, generator=torch.Generator().manual_seed(1))
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(block(x[:, order]), block(x)[:, order], rtol=1e-4, atol=1e-4)
    placed = load_block(tmp_path, 2, rope=True)
    assert not torch.allclose(placed(x[:, order]), placed(x)[:, order], atol=1e-3)


def test_rope_is_refused_where_there_is_none(tmp_path):
    with pytest.raises(BlockError, match="gpt2 has no positions inside its layers"):
        load_block(written("gpt2", tmp_path), rope=True)


@pytest.mark.parametrize("name", ["gpt2", "gemma3_text", "qwen3_moe"])
def test_random_weights_are_drawn_from_the_seed(name, tmp_path):
    folder = written(name, tmp_path)
    x = torch.randn(1, 9, 32, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(5)
    first, again, other = (load_block(folder).randomise(seed) for seed in (1, 1, 2))
    drawn = torch.rand(())
    torch.manual_seed(5)
    assert torch.rand(()) == drawn  # the trial's own random numbers are as before
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert torch.equal(first(x), again(x))
    assert not torch.allclose(first(x), other(x), atol=1e-3)
    matrices = [p for p in first.layers.parameters() if p.ndim > 1]
    assert all(0.01 < matrix.std() < 0.03 for matrix in matrices)


def test_a_damaged_or_foreign_checkpoint_is_refused(tmp_path):
    folder = written("phi3", tmp_path)
    edit(folder, intermediate_size=64)
    with pytest.raises(BlockError, match=r"shape \[96, 32\], but by the configuration a phi3"):
        load_block(folder)
    edit(folder, intermediate_size=48, num_attention_heads="four")
    with pytest.raises(BlockError, match=r"transformers (refuses|cannot build)"):
        load_block(folder)
    edit(folder, num_attention_heads=4, num_hidden_layers=9)
    with pytest.raises(BlockError, match=re.escape("lacks 6 of the 7 tensors of phi3 layer 8")):
        load_block(folder)


def test_layers_of_one_model_inside_another_count_as_its_own(tmp_path):
    """The text model of LLaVA alone and inside of it: the same layer, one fingerprint."""
    model = MODELS["llava"].make()
    model.save_pretrained(tmp_path / "whole")
    inside = load_block(tmp_path / "whole", 1)
    model.model.language_model.save_pretrained(tmp_path / "text")
    alone = load_block(tmp_path / "text", 1)
    x = torch.randn(1, 9, 32)
    assert inside.family == alone.family == "llama"
    torch.testing.assert_close(inside(x), alone(x), rtol=1e-6, atol=1e-6)
