"""The official loss, schedule and optimizer steps as plain algebra, and the training under `recipe:
official` beside them.
"""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from medvision.models import build_model
from medvision.training.batches import Sample, changed, epoch_batches, samples_of
from medvision.training.loop import train
from medvision.training.losses import cross_entropy, cut_counts, cut_dice_loss
from medvision.training.optimizer import make_schedule
from medvision.training.settings import OFFICIAL, Training
from tests.medvision.training.test_training import IDS, SMALL, prepared

STILL = {"augmentation": None, "schedule": "constant", "select": "last"}


def official(**settings: object) -> Training:
    return Training.model_validate({**OFFICIAL, **settings})


def official_loss(probabilities: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Half the cross-entropy of the sigmoid's output and half of 1 - Dice of what it is cut to,
    both over all voxels of the batch together.
    """
    entropy = -(masks * probabilities.log() + (1 - masks) * (1 - probabilities).log()).mean()
    cut = (probabilities > 0.5).to(masks)
    dice = (2 * (cut * masks).sum() + 1) / (cut.sum() + masks.sum() + 1)
    return 0.5 * entropy + 0.5 * (1 - dice)


def test_the_loss_is_the_official_one_and_only_half_of_it_has_a_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 1, 4, 5, 6, generator=generator, requires_grad=True)
    masks = (torch.rand(3, 1, 4, 5, 6, generator=generator) > 0.7).float()
    expected = official_loss(logits.sigmoid(), masks)
    dice = cut_dice_loss(cut_counts(logits, masks))
    assert not dice.requires_grad
    found = 0.5 * cross_entropy(logits, masks).mean() + 0.5 * dice
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    (wanted,) = torch.autograd.grad(expected, logits)
    (gradient,) = torch.autograd.grad(0.5 * cross_entropy(logits, masks).mean(), logits)
    torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-8)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = {"image_size": (8, 8, 8), "patch_size": (4, 4, 4)}
    return build_model("ViT_Baseline", **sizes, recipe="official", **SMALL, dropout=0.0)


def test_steps_of_the_optimizer_are_the_official_ones() -> None:
    """Adam at 2e-3 (Kingma and Ba 2015, algorithm 1), nothing clipped, no bias set before."""
    cases, by_hand, lr = prepared(), network().double(), 2e-3
    parameters = dict(by_hand.named_parameters())
    means = {name: torch.zeros_like(value) for name, value in parameters.items()}
    squares = {name: torch.zeros_like(value) for name, value in parameters.items()}
    losses = []
    for step in (1, 2):
        (batch,) = epoch_batches(IDS[:4], 4, 1, seed=3, epoch=step)
        images = torch.stack([torch.tensor(cases[case].image) for case in batch]).double()
        masks = torch.stack([torch.tensor(cases[case].masks) for case in batch]).double()
        loss = official_loss(by_hand(images).sigmoid(), masks)
        losses.append(loss.item())
        by_hand.zero_grad()
        loss.backward()
        for name, value in parameters.items():
            assert value.grad is not None
            means[name] = 0.9 * means[name] + 0.1 * value.grad
            squares[name] = 0.999 * squares[name] + 0.001 * value.grad**2
            mean, square = means[name] / (1 - 0.9**step), squares[name] / (1 - 0.999**step)
            value.data -= lr * mean / (square.sqrt() + 1e-8)
        found = network()
        recipe = official(epochs=step, batch_size=4, **STILL)
        trained = train(found, cases, IDS[:4], IDS[4:], recipe, seed=3)
        assert [one["train_loss"] for one in trained.history] == pytest.approx(losses, rel=1e-5)
        start = dict(network().named_parameters())
        for name, value in found.named_parameters():
            # Adam divides by the gradient's size, so where that is next to nothing, float32's
            # rounding decides.
            told = squares[name].sqrt() > 1e-3 * squares[name].sqrt().max()
            difference = (value.double() - parameters[name]).abs()[told]
            assert difference.max() < 1e-5
            assert (value - start[name]).abs().max() > 1e-3


def test_the_plateau_halves_the_rate_after_ten_epochs_without_a_lower_loss() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([parameter], lr=2e-3)
    schedule = make_schedule(optimizer, official(), 0)
    losses = [1 / (1 + epoch) for epoch in range(5)] + [0.21] * 30 + [0.1] * 15
    rate, best, waited = 2e-3, math.inf, 0
    for loss in losses:
        schedule.step(loss)
        if loss < best * (1 - 1e-4):
            best, waited = loss, 0
        else:
            waited += 1
        if waited > 10:
            rate, waited = rate / 2, 0
        assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)
    assert rate == pytest.approx(2e-3 / 8)


@pytest.mark.slow
@pytest.mark.parametrize("followed", ["training", "validation"])
def test_the_plateau_follows_the_loss_that_it_is_told(followed: str) -> None:
    """At a rate of next to nothing the training's loss with its changes jumps, validation's hardly
    moves.
    """
    still = {"schedule": "plateau", "lr": 1e-7, "plateau_on": followed}
    recipe = Training.model_validate({"epochs": 14, "batch_size": 5, **still})
    losses: list[float] = []
    torch.manual_seed(0)
    model = build_model("ViT_Baseline", image_size=(8, 8, 8), patch_size=(4, 4, 4), **SMALL)
    trained = train(model, prepared(), IDS[:5], IDS[5:], recipe, seed=3)
    rate, best, waited = 1e-7, math.inf, 0
    for one in trained.history:
        assert one["lr"] == pytest.approx(rate)
        loss = one["train_loss" if followed == "training" else "val_loss"]
        losses.append(loss)
        waited = 0 if loss < best * (1 - 1e-4) else waited + 1
        best = loss if waited == 0 else best
        rate, waited = (rate / 2, 0) if waited > 10 else (rate, waited)
    assert (max(losses) - min(losses) > 1e-3) == (followed == "training")


@pytest.mark.slow
def test_the_chosen_epoch_has_the_lowest_training_loss() -> None:
    recipe = Training(epochs=6, batch_size=2, lr=1e-2, schedule="constant", select="training-loss")
    for validation in (IDS[5:], ()):
        torch.manual_seed(0)
        model = build_model("ViT_Baseline", image_size=(8, 8, 8), patch_size=(4, 4, 4), **SMALL)
        trained = train(model, prepared(), IDS[:5], validation, recipe, seed=3)
        losses = [metrics["train_loss"] for metrics in trained.history]
        assert trained.epoch == losses.index(min(losses)) + 1


def test_an_epoch_has_every_case_three_times_in_three_ways() -> None:
    recipe = official(batch_size=4)
    assert recipe.steps_per_epoch(5) == 4
    samples = samples_of(IDS[:5], recipe)
    batches = epoch_batches(samples, 4, 4, seed=0, epoch=1)
    shown = [sample for batch in batches for sample in batch]
    assert Counter(sample.case for sample in shown) == dict.fromkeys(IDS[:5], 3)
    assert Counter(sample.copy for sample in shown) == dict.fromkeys(
        ("as it is", "moved", "intensity"), 5
    )
    assert samples_of(IDS[:2], Training()) == [Sample(IDS[0]), Sample(IDS[1])]


def test_each_copy_is_changed_in_its_own_way() -> None:
    images = torch.rand(3, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    masks = (images > 0.5).float()
    samples = [Sample("a", "as it is"), Sample("a", "moved"), Sample("a", "intensity")]
    found, moved = changed(images.clone(), masks.clone(), samples, official(), seed=0, epoch=1)
    assert torch.equal(found[0], images[0])
    assert torch.equal(moved[[0, 2]], masks[[0, 2]])
    assert not torch.equal(moved[1], masks[1])
    centre = images[2] - images[2].mean()
    spread = (found[2] - found[2].mean()) / centre
    assert spread.std() < 1e-3  # a factor and a contrast, nothing that moves
    assert 0.81 < spread.mean() < 1.21
    assert abs(float(found[2].mean() / images[2].mean()) - 1) < 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dice": "cut", "bce_weight": 0}, "has no gradient"),
        ({"augmentation": {"rotation": "cubic", "elastic": 0.1}}, "leave rotation at linear"),
    ],
)
def test_recipes_that_cannot_train_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Training.model_validate(settings)


def test_parts_of_a_batch_give_the_loss_of_the_batch() -> None:
    losses = []
    for micro_batch in (None, 1):
        model = network()
        recipe = official(epochs=2, batch_size=3)
        trained = train(
            model, prepared(), IDS[:5], IDS[5:], recipe, seed=3, micro_batch=micro_batch
        )
        losses.append([one["train_loss"] for one in trained.history])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
