"""A block in other networks, and at several places of a transformer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from medvision.models import build_model
from medvision.models.__main__ import describe
from medvision.models.language.knock_outs import bridges, knocked_out
from medvision.models.registry import resolve_settings
from medvision.models.sizes import Sizes
from medvision.training.checkpoint import block_fingerprint
from medvision.training.state import portable_state
from tests.medvision.models.small import SMALL

AT_BOTTLENECK = ("UNet++", "nnU-Net", "Swin-UNet", "UNETR")
SIZES = Sizes((32, 40, 24), (8, 8, 8), in_channels=2, out_channels=3)
# The tiny Llama's layer: q and o 32 x 32, k and v 32 x 16, three of 32 x 64.
BLOCK = {"hidden_size": 32, "parameters": 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64}
DEEP = {"embed_dim": 16, "depth": 5, "heads": 2}


def network(label: str, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_model(
        label,
        image_size=SIZES.image,
        patch_size=SIZES.patch,
        in_channels=SIZES.in_channels,
        out_channels=SIZES.out_channels,
        **settings,
    )


def counts(label: str, model: nn.Module, **settings: Any) -> None:
    """A family counts what torch counts in its network with a block."""
    image = torch.rand(1, SIZES.in_channels, *SIZES.image)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model.eval()(image)
    resolved = resolve_settings(label, **settings)
    assert resolved.flops(SIZES, BLOCK) == pytest.approx(counter.get_total_flops(), rel=0.02)
    norms = (2 * resolved.llm.layers + 1) * 32  # of the block, which its size leaves out
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert resolved.parameters(SIZES, BLOCK) + norms == parameters


@pytest.mark.slow
@pytest.mark.parametrize("label", AT_BOTTLENECK)
@pytest.mark.parametrize("layer", [-1, [0, 1]])
def test_a_block_at_the_bottleneck_is_counted_frozen_and_passed(
    label: str, layer: int | list[int], tiny_llama: Path, isolated_cache: Path
) -> None:
    settings = {**SMALL[label], "llm": {"source": str(tiny_llama), "layer": layer}}
    model = network(label, **settings)
    counts(label, model, **settings)
    ((name, bridge),) = bridges(model).items()
    assert resolve_settings(label, **settings).coarsest(SIZES)[0] == (
        bridge.mapper1.base_layer.in_features
    )
    assert not any(parameter.requires_grad for parameter in bridge.block.parameters())
    assert block_fingerprint(model) == bridge.block.fingerprint
    assert not any(".block." in one for one in portable_state(model))

    seen: list[torch.Size] = []
    bridge.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    images = torch.rand(2, SIZES.in_channels, *SIZES.image)
    model.train()(images).square().mean().backward()
    width, tokens = resolve_settings(label, **settings).coarsest(SIZES)
    assert seen == [(2, tokens, width)]
    trained = {part: p for part, p in model.named_parameters() if p.requires_grad}
    without = [part for part, parameter in trained.items() if parameter.grad is None]
    assert without == [], f"DDP would wait for {without}"
    # What is checkpointed holds the bridge, so that its activations are computed again, too.
    assert any(name.startswith(part) for part in model.checkpointed)


@pytest.mark.parametrize("label", AT_BOTTLENECK)
def test_without_a_block_a_network_is_as_it_was(
    label: str, tiny_llama: Path, isolated_cache: Path
) -> None:
    plain = network(label, **SMALL[label])
    assert bridges(plain) == {}
    with_block = network(label, **SMALL[label], llm={"source": str(tiny_llama)})
    # The network is drawn first, so that with and without a block it starts from the same weights.
    mine = {name.replace(".part.", "."): p for name, p in with_block.named_parameters()}
    for name, parameter in plain.named_parameters():
        name = name if name in mine else name.replace("vit.norm.", "vit.norm.0.")
        assert torch.equal(parameter, mine[name]), name


def test_what_belongs_to_a_block_needs_one() -> None:
    for wrong in ({"mapper": "linear"}, {"lora": {"rank": 8}}):
        with pytest.raises(ValueError, match="belong to a block: give llm"):
            resolve_settings("nnU-Net", **wrong)
    llm = {"source": "x", "control": "identity"}
    with pytest.raises(ValueError, match="block: identity has no projections"):
        resolve_settings("nnU-Net", llm=llm, lora={"targets": ["mappers", "q"]})


@pytest.mark.parametrize("control", ["linear", "mlp", "identity", "random", "trainable"])
def test_controls_stand_at_the_bottleneck_too(
    control: str, tiny_llama: Path, isolated_cache: Path
) -> None:
    settings = {
        **SMALL["nnU-Net"],
        "llm": {"source": str(tiny_llama), "control": control},
        "mapper": "linear",
    }
    model = network("nnU-Net", **settings)
    model(torch.rand(1, SIZES.in_channels, *SIZES.image)).mean().backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(parameter.grad is not None for parameter in trained)


@pytest.mark.parametrize("lora", [{}, {"targets": ["mappers", "q"]}])
def test_one_block_stands_at_several_places_of_a_transformer(
    lora: dict[str, Any], tiny_llama: Path, isolated_cache: Path
) -> None:
    settings = {**DEEP, "llm": {"source": str(tiny_llama)}, "every": 2, "lora": lora}
    model = network("MedVisionLlama", **settings)
    found = bridges(model)
    assert list(found) == ["bridge", "bridge1"]  # after two blocks and after four
    assert found["bridge"].block is found["bridge1"].block
    assert found["bridge"].mapper1 is not found["bridge1"].mapper1
    if not lora:
        counts("MedVisionLlama", model, **settings)
    order: list[str] = []
    for name in ("blocks.0", "blocks.1", "bridge", "blocks.2", "blocks.3", "bridge1", "blocks.4"):
        part = model.get_submodule(name)
        part.register_forward_hook(lambda *_, name=name: order.append(name))
    images = torch.rand(2, SIZES.in_channels, *SIZES.image)
    model.train()(images).square().mean().backward()
    assert order == [
        *("blocks.0", "blocks.1", "bridge", "blocks.2", "blocks.3", "bridge1", "blocks.4")
    ]
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, p in trained.items() if p.grad is None] == []
    state = portable_state(model)
    again = network("MedVisionLlama", **settings)
    with torch.no_grad():
        for parameter in (p for p in again.parameters() if p.requires_grad):
            parameter.add_(1)
        again.load_state_dict(state, strict=False)
        assert torch.equal(again.eval()(images), model.eval()(images))
        with knocked_out(model, "identity"):
            assert not torch.equal(again(images), model(images))


def test_once_in_the_middle_is_the_papers_place(tiny_llama: Path, isolated_cache: Path) -> None:
    llm = {"source": str(tiny_llama)}
    four = {**DEEP, "depth": 4, "llm": llm}
    one, other = network("MedVisionLlama", **four), network("MedVisionLlama", **four, every=2)
    images = torch.rand(1, SIZES.in_channels, *SIZES.image)
    assert torch.equal(one.eval()(images), other.eval()(images))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"every": 5}, "every: 5 is no place between 5 blocks"),
        (
            {"every": 2, "placement": "after-embedding"},
            "every and placement: after-embedding name two places",
        ),
    ],
)
def test_places_that_are_none_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        resolve_settings("MedVisionLlama", **DEEP, llm={"source": "x"}, **wrong)


@pytest.mark.parametrize("label", AT_BOTTLENECK)
def test_the_table_of_models_has_a_block_at_the_bottleneck(
    label: str, tiny_llama: Path, isolated_cache: Path
) -> None:
    sizes = ((32, 32, 32), (8, 8, 8))
    plain = describe(label, *sizes)
    row = describe(label, *sizes, str(tiny_llama), placement="bottleneck")
    assert row["model"] == f"{label}, bottleneck"
    assert row["parameters"] > plain["parameters"]
    assert row["trained"] < row["parameters"]
    assert row["GFLOPs"] > plain["GFLOPs"]
    assert "layer 1, width 32" in row["block"]


def test_the_table_of_models_has_a_block_at_several_places(
    tiny_llama: Path, isolated_cache: Path
) -> None:
    sizes = ((32, 32, 32), (8, 8, 8))
    once = describe("MedVisionLlama", *sizes, str(tiny_llama))
    more = describe("MedVisionLlama", *sizes, str(tiny_llama), every=4)
    assert more["model"] == "MedVisionLlama, every 4"
    assert more["parameters"] - once["parameters"] == more["trained"] - once["trained"] + 2 * (
        64 * 32 + 32 + 32 * 64 + 64
    )  # two more places: frozen halves of their mappers
