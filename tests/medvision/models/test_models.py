"""Models: shapes, placements, what is trained and what is frozen, errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medvision.models import MODEL_LABELS, build_model
from medvision.models.layers.dropout import Dropout
from medvision.models.registry import FAMILIES
from medvision.training.loop import checkpoint_activations
from medvision.training.state import portable_state
from tests.medvision.models.small import IDS, SMALL, settings_of

SIZES = {"image_size": (8, 16, 8), "patch_size": (4, 8, 4)}
VIT = SMALL["ViT_Baseline"]


def test_the_labels_are_the_public_ones() -> None:
    """Those that results are pinned for, in the order of tables; none is ever taken away."""
    assert tuple(IDS) == MODEL_LABELS
    folders = {family.__module__.split(".")[2] for family in FAMILIES}
    assert {path.stem for path in Path(__file__).parent.glob("families/*.py")} == folders


@pytest.mark.parametrize("label", MODEL_LABELS)
def test_every_label_maps_images_to_logits_and_trains_all_that_it_says(
    label: str, tiny_llama: Path, isolated_cache: Path
) -> None:
    model = build_model(
        label, **SIZES, in_channels=2, out_channels=3, **settings_of(label, tiny_llama)
    )
    logits = model(torch.rand(2, 2, 8, 16, 8))
    assert logits.shape == (2, 3, 8, 16, 8)
    logits.square().sum().backward()
    idle = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []  # DistributedDataParallel refuses parameters that nothing uses


@pytest.mark.parametrize("label", MODEL_LABELS)
def test_every_label_starts_its_output_where_it_is_told(
    label: str, tiny_llama: Path, isolated_cache: Path
) -> None:
    torch.manual_seed(0)
    model = build_model(label, **SIZES, out_channels=2, **settings_of(label, tiny_llama)).eval()
    image, start = torch.rand(1, 1, 8, 16, 8), torch.tensor([-2.0, 1.0])
    with torch.no_grad():
        model.set_output_bias(torch.zeros(2))
        before = model(image)
        model.set_output_bias(start)
        shift = (model(image) - before).mean((0, 2, 3, 4))
    torch.testing.assert_close(shift, start, rtol=0, atol=1e-4)


@pytest.mark.parametrize("label", MODEL_LABELS)
def test_gradient_checkpointing_names_parts_that_exist_and_changes_no_gradient(
    label: str, tiny_llama: Path, isolated_cache: Path
) -> None:
    torch.manual_seed(0)
    model = build_model(label, **SIZES, **settings_of(label, tiny_llama))
    image = torch.rand(1, 1, 8, 16, 8)
    gradients = []
    for again in (False, True):
        if again:
            checkpoint_activations(model)
        model.zero_grad(set_to_none=True)
        torch.manual_seed(1)
        model(image).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(model.checkpointed) > 1
    assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))


def test_small_images_are_padded_and_the_padding_is_cut_off_again() -> None:
    model = build_model(
        "nnU-Net", image_size=(10, 12, 9), patch_size=(1, 1, 1), **SMALL["nnU-Net"]
    ).eval()
    seen = []
    model.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    image = torch.rand(1, 1, 10, 12, 9)
    assert model(image).shape == image.shape
    assert seen[0].shape == (1, 1, 10, 12, 10)
    assert torch.equal(seen[0][..., :9], image)
    assert not seen[0][..., 9:].any()


@pytest.mark.parametrize("placement", ["encoder-decoder", "after-embedding"])
@pytest.mark.parametrize("mapper", ["lora", "linear"])
def test_the_block_is_frozen_and_gradients_pass_through_it(
    placement: str, mapper: str, tiny_llama: Path, isolated_cache: Path
) -> None:
    model = build_model(
        "MedVisionLlama",
        **SIZES,
        **settings_of("MedVisionLlama", tiny_llama),
        placement=placement,
        mapper=mapper,
    )
    with (
        torch.no_grad()
    ):  # a LoRA mapper's B starts at 0, so that its A has no gradient in the very first step
        for parameter in model.parameters():
            if parameter.requires_grad and not parameter.any():
                parameter.fill_(0.01)
    model(torch.rand(1, 1, 8, 16, 8)).sum().backward()
    assert not any(parameter.requires_grad for parameter in model.bridge.block.parameters())
    trained = [p for p in model.bridge.mapper1.parameters() if p.requires_grad]
    assert trained
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)
    assert not any(
        "block" in name for name in portable_state(model) if name.startswith("bridge.block")
    )


def test_the_block_changes_the_logits(tiny_llama: Path, isolated_cache: Path) -> None:
    model = build_model(
        "MedVisionLlama", **SIZES, **settings_of("MedVisionLlama", tiny_llama)
    ).eval()
    image = torch.rand(1, 1, 8, 16, 8)
    with torch.no_grad():
        before = model(image)
        for parameter in model.bridge.block.parameters():
            parameter.mul_(1.5)
        assert (model(image) - before).abs().max() > 1e-6


def test_a_lora_mapper_trains_its_low_rank_part_only(
    tiny_llama: Path, isolated_cache: Path
) -> None:
    options = settings_of("MedVisionLlama", tiny_llama)
    model = build_model("MedVisionLlama", **SIZES, **options, lora={"rank": 3})
    trained = sum(p.numel() for p in model.bridge.parameters() if p.requires_grad)
    assert trained == 2 * 3 * (16 + 32)
    frozen = build_model("MedVisionLlama_Frozen", **SIZES, **options)
    assert sum(p.numel() for p in frozen.bridge.parameters() if p.requires_grad) == 2 * 16 * 32


def test_voxels_come_back_where_they_were() -> None:
    model = build_model("ViT_Baseline", **SIZES, **VIT)
    tokens = torch.arange(2 * 2 * 2).float()[None, :, None].expand(1, 8, 4 * 8 * 4)
    voxels = model._to_voxels(tokens)
    assert voxels.shape == (1, 1, 8, 16, 8)
    assert (voxels[0, 0, :4, 8:, :4] == 2).all()
    assert (voxels[0, 0, 4:, :8, 4:] == 5).all()


@pytest.mark.parametrize(
    ("label", "options", "message"),
    [
        ("MedVisionLama", {}, "did you mean MedVisionLlama"),
        ("MedVisionLlama", {}, "setting llm="),
        ("ViT_Baseline", {"embed_dim": 10, "heads": 4}, "multiple of heads"),
        ("ViT_Baseline", {"depht": 3}, "depht"),
        ("ViT_Baseline", {"image_size": (9, 16, 8)}, "multiple of patch_size"),
    ],
)
def test_wrong_models_say_what_is_wrong(label: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(label, **{**SIZES, **options})


def test_dropout_keeps_the_mean_and_is_off_in_evaluation() -> None:
    torch.manual_seed(0)
    layer, ones = Dropout(0.3), torch.ones(999, 101)
    dropped = layer(ones)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert torch.equal(layer.eval()(ones), ones)


def test_unetr_attends_through_sdpa_with_the_numbers_of_monais_own_attention() -> None:
    torch.manual_seed(0)
    settings = {"embed_dim": 48, "mlp_dim": 96, "heads": 2, "feature_size": 8, "dropout": 0.3}
    model = build_model("UNETR", image_size=(32, 32, 32), patch_size=(8, 8, 8), **settings).eval()
    image = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad(), torch.profiler.profile() as profile:
        fused = model(image)
    assert [
        e.count for e in profile.key_averages() if e.key == "aten::scaled_dot_product_attention"
    ] == [12]
    for block in model.network.vit.blocks:
        assert block.attn.drop_output.p == 0.3
        block.attn.use_flash_attention = False
    with torch.no_grad():
        torch.testing.assert_close(model(image), fused, rtol=0, atol=1e-5)


def test_the_heads_of_swin_are_a_setting() -> None:
    options = SMALL["Swin-UNet"] | {"heads": (2, 4, 4, 8)}
    model = build_model("Swin-UNet", **SIZES, **options)
    stages = [getattr(model.network.swinViT, f"layers{stage}")[0] for stage in (1, 2, 3, 4)]
    assert [stage.blocks[0].attn.num_heads for stage in stages] == [2, 4, 4, 8]


@pytest.mark.parametrize(
    ("label", "options", "message"),
    [
        (
            "MedVisionLlama",
            {"llm": {"source": "x", "block": "identity", "trainable": True}},
            "has no weights",
        ),
        ("MedVisionLlama", {"llm": {"source": "x"}, "lora": {"targets": ["q"]}}, "needs `mappers`"),
        (
            "MedVisionLlama",
            {"llm": {"source": "x", "trainable": True}, "lora": {"targets": ["mappers", "q"]}},
            "trainable trains them whole",
        ),
        ("ViT_Baseline", {"params": "match MedVisionLlama"}, "ViT_Depth and ViT_MLP only"),
        ("ViT_MLP", {"params": "as MedVisionLlama"}, "expected `match NAME`"),
        ("ViT_Depth", {"params": "match ViT_Baseline"}, "Input should be"),
        ("Swin-UNet", {"feature_size": 10}, "multiple of 12"),
        ("Swin-UNet", {"heads": (3, 6, 12, 25)}, "must be multiples of their heads"),
        ("TransUNet", {"features": (4, 8, 16, 32)}, "multiples of 8"),
        ("UNet", {}, "did you mean"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    label: str, options: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(label, **SIZES, **options)


def test_the_table_lists_every_label(capsys: pytest.CaptureFixture[str]) -> None:
    from medvision.models.__main__ import describe, main

    row = describe("MedVisionLlama", (128, 128, 128), (8, 8, 8))
    assert (row["tokens"], row["trained"], row["parameters"]) == (4096, 1_161_408, 219_805_952)
    assert row["block"].startswith("llama layer 31, width 4096")
    assert describe("medvisionllama", (128, 128, 128), (8, 8, 8)) == row
    biogpt = describe("MedVision-BioGPT", (16, 16, 16), (8, 8, 8))
    assert (biogpt["model"], biogpt["block"][:25]) == (
        "MedVision_BioGPT",
        "biogpt layer 23, width 10",
    )
    assert main(["ViT_MLP", "nnunet", "--image-size", "16,16,16"]) == 0
    printed = capsys.readouterr().out
    assert "ViT_MLP" in printed
    assert main(["UNet+"]) == 2
    assert "did you mean UNet++" in capsys.readouterr().err
