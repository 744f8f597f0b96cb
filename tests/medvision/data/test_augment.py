"""Augmentation: each change by itself, independent of the batch, image and mask moved alike."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from medvision.data.augment import ELASTIC_SPANS, _elastic_grid, augment
from medvision.data.rotation import rotated
from medvision.training.settings import Augmentation

EVERYTHING = {"rotation_degrees": 15.0, "intensity": 0.2, "flip": (0.5, 0.5, 0.5)} | {
    "elastic": 0.3,
    "gamma": 0.5,
    "noise": 0.1,
    "contrast": 0.2,
}
KINDS = [{name: value} for name, value in EVERYTHING.items()] + [EVERYTHING]


def batch(
    count: int = 4, shape: tuple[int, int, int] = (12, 14, 10)
) -> tuple[torch.Tensor, torch.Tensor]:
    """Two channels of smooth noise, and where the first is above its mean."""
    images = F.interpolate(
        torch.rand(count, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0)),
        shape,
        mode="trilinear",
    )
    return images, (images[:, :1] > images[:, :1].mean()).float()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "+".join(kind))
def test_a_sample_depends_on_seed_epoch_and_case_only(kind: dict) -> None:
    images, masks = batch()
    together = augment(images, masks, ["a", "b", "c", "d"], seed=1, epoch=2, **kind)
    apart = augment(images[[3, 1]], masks[[3, 1]], ["d", "b"], seed=1, epoch=2, **kind)
    for one, two in zip(together, apart, strict=True):
        torch.testing.assert_close(one[[3, 1]], two, rtol=0, atol=0)
    assert not torch.equal(together[0], images)
    for other in ({"seed": 2, "epoch": 2}, {"seed": 1, "epoch": 3}):
        assert not torch.equal(
            augment(images, masks, ["a", "b", "c", "d"], **other, **kind)[0], together[0]
        )


def test_neutral_settings_change_nothing_and_the_defaults_are_neutral_but_for_the_papers_two() -> (
    None
):
    images, masks = batch()
    neutral = Augmentation(rotation_degrees=0, intensity=0).changes
    changed = augment(images, masks, "abcd", seed=0, epoch=0, **neutral)
    assert torch.equal(changed[0], images)
    assert torch.equal(changed[1], masks)
    paper = Augmentation().changes
    both = {name: paper[name] for name in ("rotation_degrees", "intensity")}
    every = augment(images, masks, "abcd", seed=0, epoch=0, **paper)[0]
    assert torch.equal(every, augment(images, masks, "abcd", seed=0, epoch=0, **both)[0])


@pytest.mark.parametrize("border", [True, False])
@pytest.mark.parametrize("degrees", [0.0, 5.0, -33.0, 90.0, 180.0])
def test_the_rotation_is_grid_samples(degrees: float, border: bool) -> None:
    images = batch(3, (11, 16, 6))[0]
    angles = torch.deg2rad(torch.tensor([degrees, degrees / 2, 0.0]))
    theta = torch.zeros(3, 3, 4)
    theta[:, 0, 0] = 1
    theta[:, 1, 1] = theta[:, 2, 2] = angles.cos()
    theta[:, 1, 2], theta[:, 2, 1] = -angles.sin() * 11 / 16, angles.sin() * 16 / 11
    grid = F.affine_grid(theta, [3, 1, 11, 16, 6], align_corners=False)
    padding = "border" if border else "zeros"
    expected = F.grid_sample(
        images, grid, mode="bilinear", padding_mode=padding, align_corners=False
    )
    torch.testing.assert_close(rotated(images, angles, border=border), expected, rtol=0, atol=2e-5)
    if degrees == 0:
        assert torch.equal(rotated(images, angles, border=border), images)


def test_flips_follow_their_probabilities_and_take_the_mask_along() -> None:
    images, masks = batch()
    sure = augment(images, masks, "abcd", seed=0, epoch=0, flip=(1.0, 0.0, 1.0))
    assert torch.equal(sure[0], images.flip(2, 4))
    assert torch.equal(sure[1], masks.flip(2, 4))
    cases = [f"case {index}" for index in range(200)]
    line = torch.arange(2.0).view(1, 1, 2, 1, 1).expand(200, 1, 2, 1, 1)
    flipped = augment(line, line, cases, seed=0, epoch=0, flip=(0.3, 0.0, 0.0))[0][:, 0, 0].sum()
    assert 40 < flipped < 80


def test_an_elastic_deformation_is_smooth_never_folds_and_moves_image_and_mask_alike() -> None:
    images, masks = torch.zeros(1, 1, 32, 24, 20), torch.zeros(1, 1, 32, 24, 20)
    images[:, :, 10:22, 8:16, 6:14] = masks[:, :, 10:22, 8:16, 6:14] = 1
    for epoch in range(5):
        image, mask = augment(images, masks, ["a"], seed=0, epoch=epoch, elastic=0.4)
        assert torch.equal(image.ge(0.5).float(), mask)
        assert not torch.equal(mask, masks)
    spans = ELASTIC_SPANS + 3
    extreme = 0.4 * torch.randint(
        0, 2, (8, 3, spans, spans, spans), generator=torch.Generator().manual_seed(0)
    ).mul(2).sub(1)
    grid = _elastic_grid(torch.zeros(8), extreme.float(), torch.zeros(8, 1, 40, 40, 40))
    moved = grid.flip(-1) * 20  # in voxels
    gradient = torch.stack([moved.diff(dim=axis)[:, :39, :39, :39] for axis in (1, 2, 3)], -1)
    assert torch.linalg.det(gradient).min() > 0


def test_an_elastic_deformation_of_nothing_is_the_rotation() -> None:
    images, masks = batch()
    options = {"seed": 0, "epoch": 0, "rotation_degrees": 20.0}
    plain = augment(images, masks, "abcd", **options)[0]
    torch.testing.assert_close(
        augment(images, masks, "abcd", elastic=1e-9, **options)[0], plain, rtol=0, atol=2e-5
    )


def test_gamma_keeps_each_channels_range_and_order() -> None:
    images, masks = batch()
    images[:, 1] = images[:, 1] * 50 - 7
    bent = augment(images, masks, "abcd", seed=0, epoch=0, gamma=1.0)[0]
    for ends in (torch.amin, torch.amax):
        torch.testing.assert_close(ends(bent, (2, 3, 4)), ends(images, (2, 3, 4)))
    for one, two in zip(
        images.flatten(0, 1).flatten(1), bent.flatten(0, 1).flatten(1), strict=True
    ):
        order = one.argsort()
        assert (two[order].diff() >= 0).all()
    flat = torch.full((1, 1, 3, 3, 3), 2.0)
    assert torch.equal(augment(flat, flat, ["a"], seed=0, epoch=0, gamma=1.0)[0], flat)


def test_noise_has_no_mean_and_at_most_its_deviation() -> None:
    images = torch.zeros(20, 1, 16, 16, 16)
    noisy, masks = augment(
        images, images, [str(index) for index in range(20)], seed=0, epoch=0, noise=0.2
    )
    deviations = noisy.flatten(1).std(1)
    assert deviations.max() < 0.22
    assert deviations.min() < 0.1 < deviations.max()
    assert noisy.mean().abs() < 0.005
    assert not masks.any()


def test_contrast_keeps_the_mean_and_spreads_what_is_around_it() -> None:
    images, masks = batch()
    changed, same = augment(images, masks, "abcd", seed=0, epoch=0, contrast=0.3)
    assert torch.equal(same, masks)
    means = [one.mean((1, 2, 3, 4)) for one in (images, changed)]
    torch.testing.assert_close(means[0], means[1])
    ratios = changed.std((1, 2, 3, 4)) / images.std((1, 2, 3, 4))
    assert ((ratios - 1).abs() < 0.3).all()
    assert ratios.unique().numel() == 4


def test_the_official_rotation_turns_image_and_mask_in_two_planes() -> None:
    images = torch.zeros(1, 1, 9, 9, 9)
    images[0, 0, 4, 8, 4] = 1  # at the end of Y, in the middle of X and Z
    options = {"seed": 0, "epoch": 0, "rotation_degrees": 180.0, "rotation": "cubic"}
    image, mask = augment(images, images, ["a"], **options, rotation_planes="official")
    together = augment(images, images, ["a"], **options)
    assert torch.equal(mask, together[1])
    assert not torch.equal(image, together[0])
    assert image[0, 0, :4].abs().max() < 1e-5 < image[0, 0, 4].abs().max()  # it stays in its plane
    assert together[0][..., :4].abs().max() < 1e-5
