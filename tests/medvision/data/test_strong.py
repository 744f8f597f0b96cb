"""nnU-Net's changes: each does what it says, is drawn as often as it says, and by case alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from medvision.data.changes import Change, StrongAugmentation
from medvision.data.strong import blurred, resampled, rotation_about, strongly_changed

SHAPE = (12, 14, 10)
NONE = {
    name: {"probability": 0.0, "low": 1.0, "high": 1.0}
    for name, field in StrongAugmentation.model_fields.items()
    if field.annotation is Change
} | {"mirror": (0, 0, 0)}


def only(**changes: object) -> StrongAugmentation:
    return StrongAugmentation.model_validate(NONE | changes)


def always(low: float, high: float | None = None) -> dict[str, float]:
    return {"probability": 1.0, "low": low, "high": low if high is None else high}


def batch(count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((count, 2, *SHAPE), generator=generator)
    masks = torch.zeros((count, 1, *SHAPE))
    masks[:, :, 4:8, 5:9, 3:7] = 1
    return images, masks


def changed(settings: StrongAugmentation, epoch: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return strongly_changed(*batch(), ["a", "b"], settings, seed=0, epoch=epoch)


def test_nothing_is_changed_where_nothing_is_wanted() -> None:
    for found, given in zip(changed(only()), batch(), strict=True):
        torch.testing.assert_close(found, given, rtol=0, atol=0)


def test_a_sample_is_changed_by_case_and_epoch_alone() -> None:
    settings = StrongAugmentation()
    whole = changed(settings)
    alone = strongly_changed(*(part[1:] for part in batch()), ["b"], settings, seed=0, epoch=0)
    torch.testing.assert_close(whole[0][1:], alone[0])
    assert not torch.equal(whole[0], changed(settings, epoch=1)[0])
    plain = settings.model_copy(update={"gamma": Change(probability=0, low=1, high=1)})
    torch.testing.assert_close(changed(plain)[1], whole[1], rtol=0, atol=0)  # masks move alike


def test_changes_come_as_often_as_they_say() -> None:
    images, masks = batch(1)
    settings = only(brightness={"probability": 0.15, "low": 2, "high": 2})
    times = 0
    for case in range(600):
        found = strongly_changed(images.clone(), masks, [str(case)], settings, seed=0, epoch=0)[0]
        times += bool(found.max() > 1)
    assert times / 600 == pytest.approx(0.15, abs=0.04)


def test_a_larger_scale_enlarges_structures_and_masks_stay_masks() -> None:
    _, masks = changed(only(scale=always(1.4)))
    _, small = changed(only(scale=always(0.7)))
    assert masks.sum() > 1.4**2 * 128
    assert 0 < small.sum() < 128 * 0.7
    _, turned = changed(only(rotation=always(-30, 30)))
    assert set(turned.unique().tolist()) == {0.0, 1.0}
    assert turned.sum() == pytest.approx(128, rel=0.2)
    assert not torch.equal(turned, batch()[1])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_quarter_turn_is_a_turn_of_the_grid(axis: int) -> None:
    volume = torch.rand((1, 9, 9, 9))
    planes = [place + 1 for place in range(3) if place != axis]
    found = resampled(volume, rotation_about(axis, math.pi / 2), "border")
    torch.testing.assert_close(found, volume.rot90(-1, planes), rtol=0, atol=1e-4)


def test_unequal_edges_turn_without_shear() -> None:
    """A ball off the middle is a ball wherever it is turned to."""
    places = torch.stack(torch.meshgrid(*(torch.arange(n) for n in (21, 31, 25)), indexing="ij"))
    ball = ((places - torch.tensor([10, 20, 12]).view(3, 1, 1, 1)) ** 2).sum(0).lt(16)[None].float()
    turned = resampled(ball, rotation_about(0, math.radians(30)), "zeros")[0].ge(0.5)
    middle, spread = places[:, turned].float().mean(1), places[:, turned].float().std(1)
    y, z = 5 * math.cos(math.pi / 6), 5 * math.sin(math.pi / 6)
    assert middle.tolist() == pytest.approx([10, 15 + y, 12 - z], abs=0.1)
    assert spread.max() / spread.min() < 1.05


def test_a_blur_is_scipys() -> None:
    image = torch.rand((2, 9, 8, 7))
    expected = np.stack(
        [ndimage.gaussian_filter(one, 0.9, mode="nearest", radius=3) for one in image.numpy()]
    )
    torch.testing.assert_close(blurred(image, 0.9), torch.from_numpy(expected), rtol=0, atol=1e-5)


def test_intensities_change_as_they_say() -> None:
    images = batch()[0]
    range_of = [(image.min(), image.max()) for image in images]
    noisy = changed(only(noise=always(0.04)))[0] - images
    assert float(noisy.std()) == pytest.approx(0.2, rel=0.05)
    contrast = changed(only(contrast=always(1.25)))[0]
    assert float(contrast.std()) > float(images.std())
    assert [(image.min(), image.max()) for image in contrast] == range_of
    coarse = changed(only(low_resolution=always(0.5)))[0]
    assert float(coarse.diff(dim=2).abs().mean()) < 0.8 * float(images.diff(dim=2).abs().mean())
    for kind in ("gamma", "inverted_gamma"):
        curved = changed(only(**{kind: always(1.5)}))[0]
        assert float(curved.mean()) == pytest.approx(float(images.mean()), abs=1e-4)
        assert float(curved.std()) == pytest.approx(float(images.std()), rel=1e-3)
        assert not torch.allclose(curved, images, atol=1e-3)
    mirrored = changed(only(mirror=(1, 0, 1)))
    for found, given in zip(mirrored, batch(), strict=True):
        assert torch.equal(found, given.flip(2, 4))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scale": {"probability": 1, "low": 0, "high": 1}}, "scale.low must be above 0"),
        ({"gamma": {"probability": 1, "low": 2, "high": 1}}, "low must not be above high"),
        ({"low_resolution": {"probability": 1, "low": 0.5, "high": 2}}, "is 1 at most"),
    ],
)
def test_impossible_changes_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StrongAugmentation.model_validate(wrong)
