"""The pieces of `recipe: strong`: its loss, rate, deep supervision and choice of the epoch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from medvision.data.views.base import PreprocessedCase
from medvision.data.views.paper import Stretched
from medvision.models import build_model
from medvision.models.registry import resolve_settings
from medvision.models.sizes import Sizes
from medvision.training.loop import _smoothed, train
from medvision.training.losses import dice_bce, pooled_dice, strong_loss
from medvision.training.optimizer import make_optimizer, make_schedule
from medvision.training.settings import STRONG, Training
from medvision.training.watch import TrainingError

SIZE = (16, 16, 16)


def sample() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((3, 2, 5, 4, 6), generator=generator)
    kinds = torch.randint(0, 3, (3, 5, 4, 6), generator=generator)
    return logits, torch.stack([kinds == 1, kinds == 2], 1).float()


def test_the_strong_loss_is_dice_of_the_batch_and_cross_entropy_of_groups_and_background() -> None:
    logits, masks = sample()
    whole = torch.cat([torch.zeros(3, 1, 5, 4, 6), logits], 1)
    shown = whole.softmax(1)[:, 1:]
    sums = [(part.sum((0, 2, 3, 4))) for part in (shown * masks, shown, masks)]
    dice = 1 - ((2 * sums[0] + 1) / (sums[1] + sums[2] + 1)).mean()
    kinds = (masks * torch.tensor([1, 2]).view(1, 2, 1, 1, 1)).sum(1).long()
    expected = dice + F.cross_entropy(whole, kinds)
    torch.testing.assert_close(strong_loss(logits, masks).mean(), expected)
    alone = strong_loss(logits, masks, output="sigmoid", whole_batch=False)
    torch.testing.assert_close(alone, dice_bce(logits, masks))


def test_each_head_counts_half_of_the_one_before() -> None:
    logits, masks = sample()
    heads = torch.stack([logits, -logits, 2 * logits], 1)
    each = [strong_loss(head, masks) for head in heads.unbind(1)]
    expected = (4 * each[0] + 2 * each[1] + each[2]) / 7
    torch.testing.assert_close(strong_loss(heads, masks), expected)


def test_pooled_dice_leaves_out_what_nobody_has() -> None:
    counts = torch.tensor([[3.0, 0, 0], [4, 0, 2], [4, 0, 0]])
    assert pooled_dice(counts) == pytest.approx((6 / 8 + 0) / 2)
    assert pooled_dice(torch.zeros(3, 2)) == 1.0


def test_rate_and_momentum_are_nnunets() -> None:
    recipe = Training.model_validate(dict(STRONG))
    optimizer = make_optimizer(torch.nn.Linear(1, 1), recipe, torch.device("cpu"))
    assert optimizer.defaults["nesterov"]
    assert optimizer.defaults["momentum"] == 0.99
    schedule, rates = make_schedule(optimizer, recipe, 10), []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(rates, [0.01 * (1 - step / 10) ** 0.9 for step in range(10)])


def test_a_moving_average_forgets_a_tenth() -> None:
    assert _smoothed([1.0, 0.0, 0.5]) == pytest.approx([1.0, 0.9, 0.86])


def cases() -> dict[str, PreprocessedCase]:
    rng = np.random.default_rng(0)
    found = {}
    for name in "abcd":
        masks = np.zeros((2, *SIZE), np.uint8)
        masks[0, 4:12, 4:12, 4:12] = 1
        masks[1, 1:4, 1:4, 1:4] = 1
        image = (masks[:1] - masks[1:] + rng.normal(0, 0.3, (1, *SIZE))).astype(np.float16)
        found[name] = PreprocessedCase(image, masks, Stretched(SIZE, SIZE))
    return found


def test_a_network_with_deep_supervision_learns_by_the_strong_recipe() -> None:
    torch.manual_seed(0)
    model = build_model(
        "nnU-Net",
        image_size=SIZE,
        patch_size=(4, 4, 4),
        out_channels=2,
        features=(4, 8, 8),
        deep_supervision=True,
    )
    sizes = Sizes(SIZE, (4, 4, 4), out_channels=2)
    settings = resolve_settings("nnU-Net", features=(4, 8, 8), deep_supervision=True)
    assert settings.parameters(sizes) == sum(part.numel() for part in model.parameters())
    model.set_output_bias(torch.tensor([-1.0, -2.0]))  # of all heads
    images = torch.rand((2, 1, *SIZE))
    assert model(images).shape == (2, 2, 2, *SIZE)
    assert model.eval()(images).shape == (2, 2, *SIZE)
    recipe = Training.model_validate(dict(STRONG) | {"epochs": 15, "lr": 0.05, "output": "softmax"})
    found = train(model, cases(), list("abc"), ["d"], recipe, seed=0)
    assert found.history[-1]["train_loss"] < 0.9 * found.history[0]["train_loss"]
    smoothed = _smoothed([metrics["val_dice"] for metrics in found.history])
    assert found.epoch == 1 + int(np.argmax(smoothed))


def test_unet_plus_plus_has_outputs_of_all_its_nodes_in_training() -> None:
    features = (4, 4, 4, 8, 8, 4)
    options = {"image_size": SIZE, "patch_size": (4, 4, 4), "out_channels": 2}
    torch.manual_seed(0)
    model = build_model("UNet++", **options, features=features, deep_supervision=True)
    settings = resolve_settings("UNet++", features=features, deep_supervision=True)
    sizes = Sizes(SIZE, (4, 4, 4), out_channels=2)
    assert settings.parameters(sizes) == sum(part.numel() for part in model.parameters())
    images = torch.rand((2, 1, *SIZE))
    outputs = model(images)
    assert outputs.shape == (2, 4, 2, *SIZE)
    torch.testing.assert_close(outputs[:, 0], model.eval()(images))
    model.train()(images).square().sum().backward()
    assert all(part.grad is not None and part.grad.any() for part in model.parameters())


def test_a_dice_of_the_batch_is_not_computed_in_parts() -> None:
    recipe = Training(epochs=1, batch_size=2, dice="batch")
    with pytest.raises(TrainingError, match="needs the 2 samples of a step in one piece"):
        train(torch.nn.Conv3d(1, 2, 1), cases(), ["a"], [], recipe, seed=0, micro_batch=1)
