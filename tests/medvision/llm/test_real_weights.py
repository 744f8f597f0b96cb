"""Real weights through the path of families without a row: the same as the family's own row gives,
and as transformers' whole model does. They come out of the package registry (`medvision.assets`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from medvision.llm import extraction, load_block
from medvision.llm.block import RowBlock
from medvision.llm.frozen import FrozenBlock
from medvision.llm.native_block import NativeBlock
from tests.medvision.llm.test_halves import passed

Loader = Callable[..., FrozenBlock]


@pytest.fixture
def load_native(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Loader:
    """`load_block` as if no family had a row, with a cache of its own."""

    def load(source: Path, layer: int, **options: Any) -> FrozenBlock:
        with monkeypatch.context() as patch:
            patch.setattr(extraction, "row_of", lambda config, where: None)
            patch.setenv("MEDVISION_CACHE", str(tmp_path / "natives"))
            block = load_block(source, layer, **options)
        assert isinstance(block, NativeBlock)
        return block

    return load


def test_a_real_bert(fetched: Callable[[str], Path], load_native: Loader) -> None:
    from transformers import BertModel

    minilm = fetched("minilm-l6")
    model = BertModel.from_pretrained(minilm, dtype=torch.float32).eval()
    ids = (torch.arange(32)[None] * 37 + 101) % 20000
    with torch.no_grad():
        states = model(input_ids=ids, output_hidden_states=True).hidden_states
        for layer in (0, 5):
            native, row = load_native(minilm, layer), load_block(minilm, layer)
            assert isinstance(row, RowBlock)
            assert torch.equal(native(states[layer]), states[layer + 1])
            assert torch.equal(row(states[layer]), states[layer + 1])


@pytest.mark.parametrize("options", [{}, {"rope": True, "causal": True}])
def test_a_real_llama_in_bfloat16(
    fetched: Callable[[str], Path],
    load_native: Loader,
    tmp_path: Path,
    options: dict[str, Any],
) -> None:
    """SmolLM2's last layer as a checkpoint has it that was published in bfloat16."""
    layer = {
        f"model.{name.replace('layers.0.', 'layers.29.')}": parameter.data.bfloat16()
        for name, parameter in load_block(fetched("smollm2-135m"), 29).named_parameters()
    }
    save_file(layer, tmp_path / "model.safetensors")
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "rope_theta": 1e5,
        "rms_norm_eps": 1e-5,
        "vocab_size": 49152,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    wide = passed(load_block(tmp_path, 29, **options))
    kept = load_native(tmp_path, 29, **options).keep_halves()
    for native in (load_native(tmp_path, 29, **options), kept):
        for one, other in zip(passed(native), wide, strict=True):
            assert torch.equal(one, other)
    assert sum(p.nbytes for p in kept.parameters()) < 0.51 * 4 * sum(
        p.numel() for p in kept.parameters()
    )
