"""Every label under `recipe: official` equals the official network with the same weights, starts as
it does, and is as large.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from medvision.models import build_model
from medvision.models.__main__ import describe, main
from medvision.models.registry import resolve_settings
from medvision.models.sizes import Sizes
from tests.medvision.models.official import (
    HEADS,
    IMAGE,
    LAYERS,
    LLM,
    PATCH,
    PLAIN,
    WIDTH,
    WITH_BLOCK,
    gelu,
    official,
    part,
)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Callable[[str], tuple[Path, dict[str, torch.Tensor]]]:
    """A tiny random language model of a family on disk, and its weights."""
    import transformers

    kinds = {
        "llama": ("LlamaForCausalLM", {"num_key_value_heads": 4}),
        "bert": ("BertForMaskedLM", {}),
        "biogpt": ("BioGptForCausalLM", {}),
    }

    def make(family: str) -> tuple[Path, dict[str, torch.Tensor]]:
        title, more = kinds[family]
        model_class = getattr(transformers, title)
        torch.manual_seed(3)
        model = model_class(model_class.config_class(**LLM, **more))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, 0.1, 0.2)
        model.save_pretrained(tmp_path / family)
        return tmp_path / family, model.state_dict()

    return make


def small(label: str, **settings: Any) -> torch.nn.Module:
    """The label under `recipe: official` in small sizes, every weight of its own random."""
    sizes = {"embed_dim": WIDTH, "heads": HEADS, "depth": 3 if label == "ViT_Depth" else 2}
    if label == "ViT_MLP":
        sizes["extra_widths"] = (24, 40, 24)  # type: ignore[assignment]
    model = build_model(
        label, image_size=IMAGE, patch_size=PATCH, recipe="official", **sizes, **settings
    ).double()
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if not name.startswith("bridge.block."):
            torch.nn.init.normal_(parameter, 0.05, 0.2)
    return model.eval()


@pytest.mark.parametrize("label", [*PLAIN, *WITH_BLOCK])
def test_a_label_equals_the_official_network(
    label: str, checkpoints: Any, isolated_cache: Path
) -> None:
    layer, settings = None, {}
    if family := WITH_BLOCK.get(label):
        formula, prefix = LAYERS[family]
        folder, state = checkpoints(family)
        settings = {"llm": {"source": str(folder)}}
        layer = lambda x: formula(x, part(state, prefix))  # noqa: E731
    model = small(label, **settings)
    image = torch.rand(2, 1, *IMAGE, dtype=torch.float64)
    expected = official(model.state_dict(), image, 3 if label == "ViT_Depth" else 2, layer)
    with torch.no_grad():
        found = model(image)
    assert expected.std() > 0.05
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    # and it would not, if the network were ours
    sizes = {"image_size": IMAGE, "patch_size": PATCH, "embed_dim": WIDTH, "heads": HEADS}
    ours = build_model(label, **sizes, depth=2, **settings).state_dict()
    assert "norm.weight" in ours
    assert "norm.weight" not in model.state_dict()


@pytest.mark.parametrize(
    "change",
    [
        {"llm": {"kv_pairing": "grouped"}},
        {"llm": {"final_norm_weights": "checkpoint"}},
        {"lora": {"alpha": 4.0}},
        {"placement": "encoder-decoder"},
    ],
)
def test_each_difference_of_the_block_is_seen(
    change: dict[str, Any], checkpoints: Any, isolated_cache: Path
) -> None:
    folder, state = checkpoints("llama")
    llm = {"source": str(folder)} | change.get("llm", {})
    model = small("MedVisionLlama", **change | {"llm": llm})
    image = torch.rand(1, 1, *IMAGE, dtype=torch.float64)
    formula, prefix = LAYERS["llama"]
    expected = official(model.state_dict(), image, 2, lambda x: formula(x, part(state, prefix)))
    with torch.no_grad():
        assert (model(image) - expected).abs().max() > 1e-3


def test_dropout_falls_on_the_attention_and_the_end_of_each_mlp(isolated_cache: Path) -> None:
    model = small("ViT_MLP")
    dropped = {name for name, module in model.named_modules() if getattr(module, "p", 0)}
    assert dropped == {"blocks.0.mlp.4", "blocks.1.mlp.4", "extra_mlp.7"}
    assert [block.attention.inside for block in model.blocks] == [0.2, 0.2]
    attention = model.train().blocks[0].attention
    tokens = torch.rand(1, 5, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        assert not torch.equal(attention(tokens), attention(tokens))
        assert torch.equal(attention.eval()(tokens), attention(tokens))


def test_a_fresh_network_starts_as_the_official_one(tiny_llama: Path, isolated_cache: Path) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"image_size": (32, 32, 32), "patch_size": (2, 2, 2)}
    model = build_model(
        "MedVisionLlama", **sizes, recipe="official", depth=1, llm={"source": str(tiny_llama)}
    )
    positions = model.positions.detach()
    assert positions.std().item() == pytest.approx(1, abs=0.01)
    attention = model.blocks[0].attention
    bound = math.sqrt(6 / (64 + 3 * 64))  # Xavier, of queries, keys and values together
    assert attention.qkv.weight.abs().max().item() == pytest.approx(bound, rel=1e-2)
    assert not attention.qkv.bias.any()
    assert not attention.projection.bias.any()
    assert attention.projection.weight.abs().max().item() == pytest.approx(1 / 8, rel=1e-2)
    mapper = model.bridge.mapper1
    trained = {name for name, p in mapper.named_parameters() if p.requires_grad}
    assert trained == {"base_layer.bias", "lora_A.default.weight", "lora_B.default.weight"}
    assert not mapper.lora_B["default"].weight.any()


COUNTS = {  # at 128 x 128 x 128, patch 8, without parts that no loss trains: all, and trained
    "ViT_Baseline": (1_128_000, 1_128_000),
    "ViT_Depth": (257_168_896, 257_168_896),
    "MedVisionLlama": (219_805_824, 1_165_440),
    "MedVisionLlama_Frozen": (219_768_384, 1_652_288),
}
MLP, DRAWING = 5_722_646_656, 33_280  # ViT_MLP with the projection that draws its activations


@pytest.mark.parametrize("label", COUNTS)
def test_parameters_are_those_of_the_official_modules(label: str) -> None:
    row = describe(label, (128, 128, 128), (8, 8, 8), recipe="official")
    assert (row["parameters"], row["trained"]) == COUNTS[label]


def test_the_official_extra_mlp_is_as_large_as_it_is() -> None:
    with torch.device("meta"):
        model = build_model(
            "ViT_MLP", image_size=(128, 128, 128), patch_size=(8, 8, 8), recipe="official"
        )
    built = sum(parameter.numel() for parameter in model.parameters())
    counted = resolve_settings("ViT_MLP", "official").parameters(Sizes((128,) * 3, (8,) * 3))
    assert built == counted == MLP - DRAWING


def test_the_matched_extra_mlp_is_about_as_large_as_medvisionllama() -> None:
    sizes = Sizes((128, 128, 128), (8, 8, 8))
    settings = resolve_settings("ViT_MLP", "official", extra_widths="matched")
    assert settings.parameters(sizes) == pytest.approx(COUNTS["MedVisionLlama"][0], rel=2e-3)
    assert len(settings.extra_widths) == 11


def test_the_command_lists_the_official_networks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ViT_Baseline", "ViT_MLP", "--recipe", "official"]) == 0
    told = capsys.readouterr().out
    assert "1,128,000" in told
    assert f"{MLP - DRAWING:,}" in told
    assert f"{MLP:,}" in told


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"extra_widths": [8], "extra_width": 4}, "both size the extra MLP"),
        ({"extra_widths": [8], "params": "match MedVisionLlama"}, "both size the extra MLP"),
        ({"extra_widths": "huge"}, "extra_widths"),
        ({"extra_widths": [8], "extra_mlp": False}, "needs extra_mlp: true"),
    ],
)
def test_sizes_of_the_extra_mlp_that_do_not_go_together(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_settings("ViT_MLP", **settings)


def test_what_is_given_beside_the_recipe_stays() -> None:
    given = {
        "position_std": 0.5,
        "llm": {"source": "x", "kv_pairing": "grouped"},
        "lora": {"rank": 2},
    }
    found = resolve_settings("MedVisionLlama", "official", **given)
    assert (found.position_std, found.llm.kv_pairing, found.lora.rank) == (0.5, "grouped", 2)
    assert (found.last_norm, found.llm.final_norm_weights, found.lora.alpha) == (False, "ones", 1.0)
    matched = resolve_settings("ViT_MLP", "official", params="match MedVisionLlama")
    assert matched.extra_widths is None
    assert resolve_settings("UNETR", "official") == resolve_settings("UNETR")


def test_our_own_gelu_is_torchs() -> None:
    x = torch.linspace(-3, 3, 50, dtype=torch.float64)
    torch.testing.assert_close(gelu(x), F.gelu(x))
