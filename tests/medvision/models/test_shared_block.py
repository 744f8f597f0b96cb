"""Models of one process hold one frozen block."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from medvision.models import build_model
from medvision.models.language import shared
from medvision.models.language.knock_outs import bridges, knocked_out
from tests.medvision.llm.native_models import MODELS, quick_first
from tests.medvision.models.small import SMALL as SMALL_OF

SIZES: dict[str, Any] = {"image_size": (8, 8, 8), "patch_size": (4, 4, 4)}
SMALL: dict[str, Any] = {"embed_dim": 16, "depth": 2, "heads": 2}


@pytest.fixture(autouse=True)
def _nothing_shared(isolated_cache: Path) -> Iterator[None]:
    shared.forget_shared()
    yield
    shared.forget_shared()


def network(
    source: Path,
    *,
    label: str = "MedVisionLlama",
    small: dict[str, Any] = SMALL,
    lora: dict[str, Any] | None = None,
    **llm: Any,
) -> nn.Module:
    torch.manual_seed(0)
    given = {"source": str(source), **llm}
    return build_model(label, llm=given, lora=lora or {}, **SIZES, **small).eval()


def memory(model: nn.Module) -> list[int]:
    (bridge,) = bridges(model).values()
    return [
        parameter.data_ptr()
        for name, parameter in bridge.block.named_parameters()
        if "lora_" not in name
    ]


@pytest.mark.parametrize("llm", [{}, {"random_seed": 3, "control": "permuted"}])
def test_equal_blocks_are_one_in_memory(
    llm: dict[str, Any], tiny_llama: Path, tmp_path: Path
) -> None:
    one, other = network(tiny_llama, **llm), network(tiny_llama, **llm)
    assert memory(one) == memory(other)
    # By their content, wherever the checkpoint lies.
    copy = shutil.copytree(tiny_llama, tmp_path / "copy")
    network(copy, layer=0)  # takes it into the cache, and another block in between
    elsewhere = network(copy, **llm)
    again = network(tiny_llama, **llm)
    assert memory(again) == memory(elsewhere)
    image = torch.rand(1, 1, 8, 8, 8)
    assert torch.equal(one(image), again(image))
    assert memory(one) != memory(again)  # which was read anew after the one in between


@pytest.mark.parametrize("name", quick_first(MODELS))
def test_a_block_of_any_family_is_one_in_memory(name: str, tmp_path: Path) -> None:
    MODELS[name].make().to(torch.bfloat16).save_pretrained(tmp_path)
    one, other = network(tmp_path), network(tmp_path)
    assert memory(one) == memory(other)
    image = torch.rand(1, 1, 8, 8, 8)
    first = one(image)
    assert torch.equal(first, other(image))
    del one
    assert torch.equal(first, network(tmp_path)(image))


def test_a_block_is_one_wherever_it_stands(tiny_llama: Path) -> None:
    places = {
        "after-embedding": network(tiny_llama, small={**SMALL, "placement": "after-embedding"}),
        "every": network(tiny_llama, small={**SMALL, "every": 1}),
        **{
            label: network(tiny_llama, label=label, small=SMALL_OF[label])
            for label in ("UNet++", "nnU-Net", "Swin-UNet", "UNETR")
        },
    }
    found = {place: memory(model) for place, model in places.items()}
    assert all(one == memory(network(tiny_llama)) for one in found.values()), found


def test_what_is_changed_in_one_model_is_not_in_the_other(tiny_llama: Path) -> None:
    one = network(tiny_llama)
    adapted = network(tiny_llama, lora={"targets": ["mappers", "q"]})
    moved = network(tiny_llama).to(torch.float64)
    image = torch.rand(1, 1, 8, 8, 8)
    before = one(image)
    with knocked_out(adapted, "identity"):
        assert torch.equal(one(image), before)
    moved(image.double())
    assert torch.equal(network(tiny_llama)(image), before)
    (bridge,) = bridges(one).values()
    assert not any("lora_" in name for name, _ in bridge.block.named_parameters())


def test_trained_and_unlike_blocks_share_nothing(tiny_llama: Path) -> None:
    models = [
        network(tiny_llama),
        network(tiny_llama, control="trainable"),
        network(tiny_llama, control="trainable"),
        network(tiny_llama, rope=True),
        network(tiny_llama, control="random"),
    ]
    places = [place for model in models for place in memory(model)]
    assert len(set(places)) == len(places)


def test_a_block_is_given_back(tiny_llama: Path) -> None:
    network(tiny_llama)
    assert len(shared._LAST) == 1
    network(tiny_llama, rope=True)
    assert len(shared._LAST) == 1  # one at most
    shared.forget_shared()
    assert not shared._LAST
