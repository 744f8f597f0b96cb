"""Controls of the language-model block: what is trained, what is matched, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medvision.models import build_model
from medvision.models.registry import resolve_settings
from medvision.models.sizes import Sizes
from medvision.training.state import portable_state
from tests.medvision.models.test_models import SIZES, VIT


@pytest.mark.parametrize("change", [{"weights": "random"}, {"block": "identity"}, {"rope": True}])
def test_controls_of_the_block_change_the_logits(
    change: dict, tiny_llama: Path, isolated_cache: Path
) -> None:
    logits = []
    for llm in ({}, change, change):
        torch.manual_seed(0)
        options = {**VIT, "llm": {"source": str(tiny_llama), **llm}}
        model = build_model("MedVisionLlama", **SIZES, **options).eval()
        torch.manual_seed(1)
        with torch.no_grad():
            logits.append(model(torch.rand(1, 1, 8, 16, 8)))
    assert (logits[0] - logits[1]).abs().max() > 1e-6
    assert torch.equal(logits[1], logits[2])


def test_random_weights_are_those_of_their_seed_whatever_the_trial(
    tiny_llama: Path, isolated_cache: Path
) -> None:
    blocks = []
    for seed, random_seed in ((1, 0), (2, 0), (1, 5)):
        torch.manual_seed(seed)
        llm = {"source": str(tiny_llama), "weights": "random", "random_seed": random_seed}
        blocks.append(
            build_model("MedVisionLlama", **SIZES, **VIT, llm=llm).bridge.block.state_dict()
        )
    same = [
        all(torch.equal(blocks[0][name], other[name]) for name in other) for other in blocks[1:]
    ]
    assert same == [True, False]


def test_a_trainable_block_is_trained_and_saved(tiny_llama: Path, isolated_cache: Path) -> None:
    llm = {"source": str(tiny_llama), "trainable": True}
    model = build_model("MedVisionLlama", **SIZES, **VIT, llm=llm)
    block = dict(model.bridge.block.named_parameters())
    assert all(parameter.requires_grad for parameter in block.values())
    assert {f"bridge.block.{name}" for name in block} <= portable_state(model).keys()


def test_low_rank_parts_of_the_block_are_trained_and_saved_without_its_weights(
    tiny_llama: Path, isolated_cache: Path
) -> None:
    torch.manual_seed(0)
    lora = {"rank": 2, "targets": ["mappers", "q", "v"]}
    options = {**VIT, "llm": {"source": str(tiny_llama)}, "lora": lora}
    model = build_model("MedVisionLlama", **SIZES, **options).eval()
    saved = portable_state(model)
    inside = [name for name in saved if name.startswith("bridge.block.")]
    assert len(inside) == 4  # A and B of q and of v
    assert all("lora_" in name for name in inside)
    image = torch.rand(1, 1, 8, 16, 8)
    with torch.no_grad():
        plain = build_model("MedVisionLlama", **SIZES, **options | {"lora": {"rank": 2}}).eval()
        plain.load_state_dict(
            {name: value for name, value in saved.items() if name not in inside}, strict=False
        )
        torch.testing.assert_close(model(image), plain(image))  # B starts at zero
        before = model(image)
        for name in inside:
            model.get_parameter(name).fill_(0.5)
        assert (model(image) - before).abs().max() > 1e-6


@pytest.mark.parametrize("attention", ["global", "hybrid"])
@pytest.mark.parametrize("label", ["ViT_Depth", "ViT_MLP"])
def test_matched_controls_have_as_many_parameters(
    label: str, attention: str, tiny_llama: Path, isolated_cache: Path
) -> None:
    target = {"label": "MedVisionLlama", "llm": {"source": str(tiny_llama)}, "depth": 9}
    aim = sum(p.numel() for p in build_model(**SIZES, **target).parameters())
    options = {
        "embed_dim": 32,
        "heads": 2,
        "depth": 2,
        "attention": attention,
        "params": {"match": target},
    }
    model = build_model(label, **SIZES, **options)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(aim, rel=0.005)
    assert model(torch.rand(1, 1, 8, 16, 8)).shape == (1, 1, 8, 16, 8)


def test_the_local_branch_counts_in_a_match() -> None:
    sizes = {"image_size": (32, 32, 32), "patch_size": (8, 8, 8)}
    hybrid = resolve_settings("ViT_Depth", embed_dim=64, heads=4, attention="hybrid")
    resized = hybrid.matched(3_000_000, Sizes(sizes["image_size"], sizes["patch_size"]))
    parameters = sum(
        p.numel()
        for p in build_model(**sizes, **resized.model_dump(exclude={"params"})).parameters()
    )
    assert parameters == pytest.approx(3_000_000, rel=1e-3)


def test_a_match_that_cannot_be_made_says_so(tiny_llama: Path, isolated_cache: Path) -> None:
    target = {
        "label": "MedVisionLlama",
        "llm": {"source": str(tiny_llama)},
        **VIT,
    }
    with pytest.raises(ValueError, match="give it a smaller embed_dim"):
        build_model("ViT_Depth", **SIZES, params={"match": target})


@pytest.mark.parametrize("block", ["layer", "identity"])
def test_what_is_built_asks_the_checkpoint_for_the_width(
    block: str, tiny_llama: Path, isolated_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the table of the paper's checkpoints, which counting alone uses: here the same name holds
    other sizes.
    """
    from medvision.llm import shapes

    llm = {"source": str(tiny_llama), "block": block}
    control, match = (
        {**VIT, "llm": llm},
        {"label": "MedVisionLlama", **VIT, "llm": llm},
    )
    small = {**VIT, "params": {"match": match}}
    table = dict(shapes.PAPER_CONFIGS["meta-llama/Llama-3.1-8B"])
    expected = build_model("MedVisionLlama", **SIZES, **control)
    aim = sum(p.numel() for p in expected.parameters())
    monkeypatch.setattr(shapes, "PAPER_CONFIGS", {str(tiny_llama): table})
    real = build_model("MedVisionLlama", **SIZES, **control)
    assert sum(p.numel() for p in real.parameters()) == aim
    resized = build_model("ViT_MLP", **SIZES, **small)
    assert sum(p.numel() for p in resized.parameters()) == pytest.approx(aim, rel=0.02)
    with torch.device("meta"):
        counted = build_model("MedVisionLlama", **SIZES, **control)
    assert counted.bridge.mapper1.out_features == 4096


def test_the_cached_block_tells_its_width_without_its_checkpoint(
    tiny_llama: Path, isolated_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medvision.llm import BlockError, prepare_block, shapes

    prepare_block(tiny_llama)
    here = shapes.empty_block(str(tiny_llama))

    def gone(place: object) -> None:
        raise BlockError("the hub cannot be reached")

    monkeypatch.setattr(shapes, "open_checkpoint", gone)
    cached = shapes.empty_block(str(tiny_llama))
    assert [p.shape for p in cached.parameters()] == [p.shape for p in here.parameters()]
    assert shapes.empty_block("meta-llama/Llama-3.1-8B").hidden_size == 4096
    with pytest.raises(BlockError, match="cannot be reached"):
        shapes.empty_block("nobody/nothing")


def test_the_paper_model_can_be_matched_by_name_without_its_checkpoint() -> None:
    settings = resolve_settings("ViT_MLP", params="match MedVisionLlama")
    with torch.device("meta"):
        model = build_model(
            "ViT_MLP", image_size=(128,) * 3, patch_size=(8,) * 3, params="match MedVisionLlama"
        )
    assert settings.params.match.label == "MedVisionLlama"
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(219_805_952, rel=1e-3)


def test_the_tiny_biogpt_is_written_in_the_real_format(isolated_cache: Path) -> None:
    from medvision.llm import load_block
    from medvision.llm.tiny import write_biogpt

    folder = isolated_cache / "tiny"
    write_biogpt(folder)
    write_biogpt(isolated_cache / "again")
    block = load_block(folder)
    assert (block.family, block.hidden_size, block.layer) == ("biogpt", 128, 1)
    assert block.fingerprint == load_block(isolated_cache / "again").fingerprint


@pytest.mark.parametrize("control", ["permuted", "spectrum"])
def test_scrambled_weights_are_those_of_the_trial_or_of_their_seed(
    control: str, tiny_llama: Path, isolated_cache: Path
) -> None:
    blocks = []
    for seed, random_seed in ((1, None), (2, None), (1, 5), (2, 5)):
        torch.manual_seed(seed)
        llm = {"source": str(tiny_llama), "control": control, "random_seed": random_seed}
        blocks.append(build_model("MedVisionLlama", **SIZES, **VIT, llm=llm).bridge.block)
    first, second, fixed, again = (block.fingerprint for block in blocks)
    assert len({first, second, fixed}) == 3
    assert fixed == again
    assert not any(parameter.requires_grad for parameter in blocks[0].parameters())
    drawn = resolve_settings("MedVisionLlama", llm=llm | {"random_seed": None}).drawn(7)
    assert drawn.llm.random_seed == 7


@pytest.mark.parametrize("layer", [-1, [0, 1]])
@pytest.mark.parametrize("control", ["linear", "mlp"])
def test_stand_ins_are_as_large_as_the_block_or_cost_as_much(
    control: str, layer: int | list[int], tiny_llama: Path, isolated_cache: Path
) -> None:
    llm = {"source": str(tiny_llama), "layer": layer}
    full, other = (
        build_model("MedVisionLlama", **SIZES, **VIT, llm=llm | more).bridge.block
        for more in ({}, {"control": control})
    )
    assert all(parameter.requires_grad for parameter in other.parameters())
    counts = [sum(p.numel() for p in block.parameters()) for block in (full, other)]
    if control == "linear":
        assert counts[1] == pytest.approx(counts[0], abs=2 * full.hidden_size)
        x = torch.randn(1, 4, full.hidden_size)
        torch.testing.assert_close(other(2 * x), 2 * other(x))
    else:
        sizes = Sizes(SIZES["image_size"], SIZES["patch_size"])
        tokens = sizes.grid[0] * sizes.grid[1] * sizes.grid[2]
        layers = len(layer) if isinstance(layer, list) else 1
        wanted = 2 * tokens * counts[0] + layers * 4 * tokens**2 * full.hidden_size
        assert 2 * tokens * counts[1] == pytest.approx(wanted, rel=0.01)


@pytest.mark.parametrize(
    ("llm", "match"),
    [
        ({"control": "random", "weights": "pretrained"}, "control: random means weights: random"),
        ({"control": "permuted", "weights": "random"}, "are two controls: take one"),
        ({"control": "mlp", "block": "identity"}, "are two controls: take one"),
        ({"control": "linear", "trainable": True}, "it is trained anyway"),
        ({"control": ["permuted", "spectrum"]}, "llm.control"),
    ],
)
def test_two_controls_at_once_are_refused(llm: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        resolve_settings("MedVisionLlama", llm={"source": "x", **llm})
    with pytest.raises(ValueError, match="control: mlp has no projections"):
        resolve_settings(
            "MedVisionLlama",
            llm={"source": "x", "control": "mlp"},
            lora={"targets": ["mappers", "q"]},
        )
