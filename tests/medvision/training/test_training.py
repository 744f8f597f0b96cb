"""Training: golden losses, resumption, gradients of both loss terms, the choice of the epoch."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch

from medvision.data.augment import augment
from medvision.data.views.base import PreprocessedCase
from medvision.data.views.paper import Stretched
from medvision.models import build_model
from medvision.training import loop
from medvision.training.loop import train
from medvision.training.losses import dice_bce, hard_dice
from medvision.training.ranks import Ranks
from medvision.training.settings import Training
from medvision.training.state import Checkpoints, Trained
from medvision.training.watch import TrainingError
from tests.medvision.models.small import SMALL as SMALL_NETWORKS

IDS = tuple(f"case_{index}" for index in range(7))
WHOLE = Stretched((8, 8, 8), (8, 8, 8))
SMALL = {"embed_dim": 16, "depth": 2, "heads": 2}


def prepared(seed: int = 0) -> dict[str, PreprocessedCase]:
    rng = np.random.default_rng(seed)
    cases = {}
    for case in IDS:
        mask = np.zeros((1, 8, 8, 8), np.uint8)
        x, y, z = rng.integers(0, 4, 3)
        mask[0, x : x + 4, y : y + 4, z : z + 4] = 1
        image = np.clip(mask * 0.6 + rng.normal(0.2, 0.05, mask.shape), 0, 1).astype(np.float16)
        cases[case] = PreprocessedCase(image, mask, WHOLE)
    return cases


def model(**settings: float) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(
        "ViT_Baseline", image_size=(8, 8, 8), patch_size=(4, 4, 4), **SMALL, **settings
    )


def run(recipe: Training, network: torch.nn.Module | None = None, **options: object) -> Trained:
    return train(network or model(), prepared(), IDS[:5], IDS[5:], recipe, seed=3, **options)  # type: ignore[arg-type]


def test_golden_losses() -> None:
    """When these move on purpose, raise TRAIN_NUMERICS. The tolerance is for other processors, not
    for changes.
    """
    trained = run(Training(epochs=3, batch_size=2, optimizer="adamw", schedule="onecycle"))
    losses = [metrics["train_loss"] for metrics in trained.history]
    assert losses == pytest.approx(GOLDEN, rel=2e-4)


GOLDEN = [1.2583882331848144, 1.259372615814209, 1.2543319463729858]


@pytest.mark.parametrize("schedule", ["plateau", "onecycle", "cosine", "constant"])
def test_the_loss_falls_and_every_schedule_resumes_bit_for_bit(schedule: str) -> None:
    recipe = Training(epochs=6, batch_size=2, schedule=schedule, checkpoint_epochs=2, lr=3e-3)
    whole = run(recipe)
    assert whole.history[-1]["train_loss"] < whole.history[0]["train_loss"]

    saved: list[bytes] = []

    def stop_in_epoch_5(epoch: int, metrics: dict[str, float]) -> None:
        if epoch == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(recipe, checkpoints=Checkpoints(save=saved.append), on_epoch=stop_in_epoch_5)
    assert len(saved) == 2
    resumed = run(recipe, checkpoints=Checkpoints(load=lambda: saved[-1]))
    assert resumed.history == whole.history
    assert resumed.epoch == whole.epoch
    assert all(torch.equal(resumed.state[name], whole.state[name]) for name in whole.state)


def test_the_chosen_epoch_has_the_best_validation_dice() -> None:
    trained = run(Training(epochs=6, batch_size=2, lr=1e-2, schedule="constant"))
    dice = [metrics["val_dice"] for metrics in trained.history]
    assert trained.epoch == dice.index(max(dice)) + 1
    last = run(Training(epochs=6, batch_size=2, lr=1e-2, schedule="constant", select="last"))
    assert last.epoch == 6


def test_without_validation_cases_the_last_epoch_is_taken() -> None:
    trained = train(model(), prepared(), IDS[:3], (), Training(epochs=2, batch_size=2), seed=0)
    assert trained.epoch == 2
    assert "val_dice" not in trained.history[0]


def test_steps_end_in_the_middle_of_a_pass() -> None:
    recipe = Training(steps=4, batch_size=2, schedule="onecycle")
    assert recipe.total_steps(5) == 4
    assert len(run(recipe).history) == 2  # three steps, then one


def test_gradient_checkpointing_changes_no_number() -> None:
    plain = run(Training(epochs=2, batch_size=2))
    again = run(Training(epochs=2, batch_size=2, gradient_checkpointing=True))
    assert again.history == plain.history


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_trains_to_about_the_same_losses_and_resumes(precision: str) -> None:
    recipe = Training(epochs=4, batch_size=2, precision=precision, checkpoint_epochs=2)  # type: ignore[arg-type]
    saved: list[bytes] = []
    lower = run(recipe, checkpoints=Checkpoints(save=saved.append))
    full = run(Training(epochs=4, batch_size=2))
    losses = [[metrics["train_loss"] for metrics in trained.history] for trained in (lower, full)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] != losses[1]
    assert run(recipe, checkpoints=Checkpoints(load=lambda: saved[0])).history == lower.history


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    "options", [{}, {"precision": "bf16"}, {"precision": "fp16"}, {"compile": True}]
)
def test_a_gpu_trains_like_the_cpu(options: dict) -> None:
    recipe = Training(epochs=3, batch_size=2, optimizer="adamw", lr=1e-3, **options)
    gpu = run(recipe, ranks=Ranks(device=torch.device("cuda")))
    cpu = run(Training(epochs=3, batch_size=2, optimizer="adamw", lr=1e-3))
    losses = [[metrics["train_loss"] for metrics in trained.history] for trained in (gpu, cpu)]
    assert losses[0] == pytest.approx(losses[1], rel=0.03)


@pytest.mark.slow
def test_a_compiled_training_is_the_same_whatever_was_compiled_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dynamo's limit, here one that a single training keeps, counts over a process. Its graphs run
    eagerly here, which takes no compiler.
    """
    monkeypatch.setattr(loop, "RECOMPILES", 3)
    eager = functools.partialmethod(torch.nn.Module.compile, backend="eager")
    monkeypatch.setattr(torch.nn.Module, "compile", eager)
    recipe = Training(steps=2, batch_size=2, compile=True)

    def losses(depth: int, width: int) -> list[float]:
        torch.manual_seed(0)
        sizes = SMALL | {"depth": depth, "embed_dim": width}
        network = build_model("ViT_Baseline", image_size=(8,) * 3, patch_size=(4,) * 3, **sizes)
        history = train(network, prepared(), IDS[:4], (), recipe, seed=0).history
        return [metrics["train_loss"] for metrics in history]

    first = losses(1, 16)
    assert losses(2, 24) != first
    losses(3, 32)
    assert losses(1, 16) == first


def test_channels_last_trains_alike_resumes_and_leaves_the_usual_layout() -> None:
    def network() -> torch.nn.Module:
        torch.manual_seed(0)
        return build_model(
            "nnU-Net", image_size=(8,) * 3, patch_size=(4,) * 3, **SMALL_NETWORKS["nnU-Net"]
        )

    settings = {"epochs": 4, "batch_size": 2, "checkpoint_epochs": 2}
    usual = run(Training(**settings), network())
    recipe, own, saved = Training(**settings, channels_last=True), network(), list[bytes]()
    other = run(recipe, own, checkpoints=Checkpoints(save=saved.append))
    losses = [[metrics["train_loss"] for metrics in one.history] for one in (usual, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert all(parameter.is_contiguous() for parameter in own.parameters())
    assert all(value.is_contiguous() for value in other.state.values())
    resumed = run(recipe, network(), checkpoints=Checkpoints(load=lambda: saved[0]))
    assert resumed.history == other.history


def test_the_output_starts_at_the_share_of_foreground() -> None:
    network = model()
    network.set_output_bias(torch.logit(torch.tensor([0.125])))
    network.eval()
    with torch.no_grad():
        network.head.weight.zero_()
        assert network(torch.rand(1, 1, 8, 8, 8)).sigmoid().mean() == pytest.approx(0.125)


def test_a_loss_that_is_no_number_stops_the_training() -> None:
    cases = prepared()
    broken = cases[IDS[0]].image.copy()
    broken[0, 0, 0, 0] = np.nan
    cases[IDS[0]] = PreprocessedCase(broken, cases[IDS[0]].masks, WHOLE)
    with pytest.raises(TrainingError, match="training loss is nan in epoch 1"):
        train(model(), cases, IDS[:5], IDS[5:], Training(epochs=2, batch_size=2), seed=0)
    with pytest.raises(TrainingError, match="no training case"):
        train(model(), cases, (), (), Training(epochs=2), seed=0)


@pytest.mark.parametrize(("dice_weight", "bce_weight"), [(1.0, 0.0), (0.0, 1.0)])
def test_both_terms_of_the_loss_have_a_gradient(dice_weight: float, bce_weight: float) -> None:
    """The official Dice term thresholds its input and has none."""
    logits = torch.zeros(2, 1, 4, 4, 4, requires_grad=True)
    masks = torch.zeros(2, 1, 4, 4, 4)
    masks[:, :, :2] = 1
    dice_bce(logits, masks, dice_weight=dice_weight, bce_weight=bce_weight).sum().backward()
    assert logits.grad is not None
    assert (logits.grad[:, :, :2] < 0).all()
    assert (logits.grad[:, :, 2:] > 0).all()


def test_the_loss_in_closed_form() -> None:
    logits, masks = torch.zeros(1, 1, 2, 2, 2), torch.ones(1, 1, 2, 2, 2)
    expected = 1 - (2 * 4 + 1) / (4 + 8 + 1) + math.log(2)
    assert dice_bce(logits, masks).item() == pytest.approx(expected)
    assert hard_dice(torch.full_like(logits, -1), torch.zeros_like(masks)).item() == 1.0
    assert hard_dice(torch.ones_like(logits), torch.zeros_like(masks)).item() == 0.0


def test_augmentation_depends_on_seed_epoch_and_case_only() -> None:
    images, masks = torch.rand(3, 1, 8, 10, 6), (torch.rand(3, 1, 8, 10, 6) > 0.5).float()
    options = {"seed": 1, "epoch": 2, "rotation_degrees": 5.0, "intensity": 0.1}
    together = augment(images, masks, ["a", "b", "c"], **options)
    alone = augment(images[1:2], masks[1:2], ["b"], **options)
    assert torch.equal(together[0][1:2], alone[0])
    assert not torch.equal(
        augment(images, masks, ["a", "b", "c"], **options | {"epoch": 3})[0], together[0]
    )
    unchanged = augment(
        images, masks, ["a", "b", "c"], **options | {"rotation_degrees": 0.0, "intensity": 0.0}
    )
    assert torch.equal(unchanged[0], images)


def test_a_rotation_by_a_quarter_turn_turns_image_and_mask_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = torch.zeros(1, 1, 9, 9, 3)
    images[0, 0, 8, 4, 1] = 1
    monkeypatch.setattr(
        torch, "rand", lambda *a, **k: torch.tensor([1.0, 0.5])
    )  # the largest angle, intensity 1
    turned, mask = augment(
        images, images.clone(), ["a"], seed=0, epoch=0, rotation_degrees=90.0, intensity=0.1
    )
    assert torch.equal(turned.round(), mask)
    assert turned.sum().item() == pytest.approx(1.0, abs=1e-4)
    assert turned[0, 0, 4, :, 1].argmax().item() in (0, 8)
