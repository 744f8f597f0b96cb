"""A trained network without its block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from medvision.models import build_model
from medvision.models.language.knock_outs import KNOCK_OUTS, bridges, knocked_out
from record.reliance import KNOCK_OUTS as IN_TABLES

SIZES: dict[str, Any] = {"image_size": (8, 8, 8), "patch_size": (4, 4, 4)}
SMALL: dict[str, Any] = {"embed_dim": 16, "depth": 2, "heads": 2}


def network(source: Path, seed: int = 0, **llm: Any) -> nn.Module:
    torch.manual_seed(seed)
    given = {"source": str(source), **llm}
    return build_model("MedVisionLlama", llm=given, mapper="linear", **SIZES, **SMALL).eval()


@torch.no_grad()
def logits(model: nn.Module, image: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = model(image)
    return found


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(1))


def test_the_ways_are_those_of_the_tables() -> None:
    assert tuple(IN_TABLES) == KNOCK_OUTS


def test_each_way_changes_the_network_and_leaves_it_as_it_was(
    tiny_llama: Path, isolated_cache: Path, image: torch.Tensor
) -> None:
    model, other = network(tiny_llama), network(tiny_llama, seed=1)
    before, found = logits(model, image), {}
    for how in KNOCK_OUTS:
        with knocked_out(model, how, seed=3, other=other):
            found[how] = logits(model, image)
        assert torch.equal(logits(model, image), before), how
    assert torch.equal(found.pop("none"), before)
    for how, changed in found.items():
        assert not torch.allclose(changed, before), how
    assert len({tensor.sum().item() for tensor in found.values()}) == len(found)


def test_a_block_of_identity_is_knocked_out_by_nothing(
    tiny_llama: Path, isolated_cache: Path, image: torch.Tensor
) -> None:
    model = network(tiny_llama, control="identity")
    before = logits(model, image)
    with knocked_out(model, "identity"):
        assert torch.equal(logits(model, image), before)


def test_mean_and_order_are_of_each_image_alone(
    tiny_llama: Path, isolated_cache: Path, image: torch.Tensor
) -> None:
    model = network(tiny_llama)
    block = bridges(model)["bridge"].block
    tokens = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(2))
    whole = block(tokens)
    with knocked_out(model, "mean"):
        mean = block(tokens)
    assert torch.equal(mean, whole.mean(1, keepdim=True).expand_as(whole))
    with knocked_out(model, "permuted", seed=3):
        moved = block(tokens)
    assert not torch.equal(moved, whole)
    assert torch.equal(moved.sort(dim=1).values, whole.sort(dim=1).values)
    with knocked_out(model, "permuted", seed=3):
        # Products of another size may be summed in another order.
        torch.testing.assert_close(block(tokens[:1]), moved[:1])


def test_what_has_no_block_or_no_partner_is_refused(tiny_llama: Path, isolated_cache: Path) -> None:
    plain = build_model("ViT_Baseline", **SIZES, **SMALL)
    with pytest.raises(ValueError, match="has no language-model block"), knocked_out(plain, "mean"):
        pass
    model = network(tiny_llama)
    for other in (None, plain):
        with (
            pytest.raises(ValueError, match="swapped needs `other`"),
            knocked_out(model, "swapped", other=other),
        ):
            pass
