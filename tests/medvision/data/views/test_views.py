"""Every protocol has a view, and every placement leads back to the case's own grid."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import get_args

import nibabel
import numpy as np
import pytest
import torch
from scipy import ndimage

from medvision.data.nifti import Image, read_image
from medvision.data.preprocess import prepare_image
from medvision.data.settings import OFFICIAL, PROTOCOL_SETTINGS, Preparation, Protocol
from medvision.data.views.registry import PLACEMENTS, VIEWS, from_json, to_json, view_of
from medvision.errors import DataError
from medvision.evaluation import predict, predict_on_grid

SHAPE = (9, 14, 5)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    path = tmp_path / "x.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.0, 0.5, 3.0, 1.0])), path)
    return path


def test_every_protocol_is_known_to_views_and_settings() -> None:
    assert set(VIEWS) == set(PROTOCOL_SETTINGS) == set(get_args(Protocol))
    for names in PROTOCOL_SETTINGS.values():
        assert set(names) <= set(Preparation.model_fields)


@pytest.mark.parametrize("protocol", VIEWS)
def test_a_view_shows_an_image_and_its_placement_leads_back(protocol: str, scan: Path) -> None:
    wanted = Preparation(groups={"a": [1]}, image_size=(8, 6, 10), protocol=protocol)
    image, placement = view_of(wanted).show(read_image([scan]))
    shown = SHAPE if placement.patches else (8, 6, 10)
    assert (image.shape, image.dtype) == ((1, *shown), np.float16)
    assert placement.shape == SHAPE
    assert placement.show_mask(torch.ones(SHAPE, dtype=torch.bool)).shape == shown
    assert from_json(to_json(placement)) == placement
    assert type(placement).__name__ in PLACEMENTS

    class Everywhere(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.full((len(images), 2, *images.shape[2:]), 9.0)

    case, cpu = prepare_image([scan], wanted), torch.device("cpu")
    assert predict(Everywhere(), case, device=cpu).shape == (2, *SHAPE)
    assert predict(Everywhere(), case, device=cpu)[:, 2:-2, 2:-2, 2:-2].all()
    assert predict_on_grid(Everywhere(), case, device=cpu).shape == (2, *shown)


def test_the_official_view_is_scipys_zoom_of_a_file_scaled_as_a_whole(tmp_path: Path) -> None:
    """The official steps in numpy: z-score and min-max of all channels together, the first channel,
    zoom of order 1; masks zoomed and cut at 0.
    """
    rng = np.random.default_rng(0)
    values = rng.normal(size=(*SHAPE, 2)).astype(np.float32)
    values[..., 1] *= 7
    path = tmp_path / "two.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    wanted = Preparation(groups={"a": [1]}, image_size=(8, 6, 10), **OFFICIAL)
    found = prepare_image([path], wanted)
    scaled = (values - values.mean()) / values.std()
    scaled = (scaled - scaled.min() + 1e-5) / (scaled.max() - scaled.min() + 1e-5)
    factors = [to / of for to, of in zip((8, 6, 10), SHAPE, strict=True)]
    expected = ndimage.zoom(scaled[..., 0], factors, order=1)
    np.testing.assert_allclose(found.image[0].astype(np.float32), expected, rtol=0, atol=5e-4)
    mask = rng.random(SHAPE) > 0.9
    shown = found.placement.show_mask(torch.from_numpy(mask)).numpy()
    zoomed = ndimage.zoom(mask.astype(np.float32), factors, order=1)
    assert (shown == (zoomed > 0)).mean() > 0.99  # rounding decides where a share is all but 0
    half = Preparation(groups={"a": [1]}, image_size=(8, 6, 10))
    narrower = prepare_image([path], half).placement.show_mask(torch.from_numpy(mask)).numpy()
    assert shown.sum() > narrower.sum()
    assert from_json(to_json(found.placement)) == found.placement


@pytest.mark.parametrize("intensity", ["min-max", "z-score"])
@pytest.mark.parametrize("channel", [1, "all"])
def test_a_file_is_scaled_without_float64_copies_of_it(intensity: str, channel: int | str) -> None:
    values = np.random.default_rng(0).normal(1000, 3, (4, 24, 20, 16)).astype(np.float32)
    shift, spread = values.mean(dtype=np.float64), values.std(dtype=np.float64)
    if intensity == "min-max":
        shift, spread = values.min(), np.ptp(values)
    expected = (values - np.float64(shift)) / np.float64(spread)
    wanted = Preparation(
        groups={"a": [1]}, image_size=(24, 20, 16), channel=channel, intensity=intensity,
        scaled="file", resampling="corners",
    )  # fmt: skip
    image, before = Image(values, (1.0, 1.0, 1.0), np.eye(4)), values.copy()
    tracemalloc.start()
    try:
        scaled = view_of(wanted)._of_whole_file(values)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 1.3 * scaled.nbytes + 2**16
    shown = view_of(wanted).show(image)[0]
    chosen = expected if channel == "all" else expected[1:2]
    np.testing.assert_allclose(shown.astype(np.float64), chosen, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(values, before)  # the caller's own are left alone


def test_a_constant_file_is_shown_as_0() -> None:
    image = Image(np.full((2, 4, 4, 4), 0.1, np.float32), (1.0, 1.0, 1.0), np.eye(4))
    for intensity in ("min-max", "z-score"):
        wanted = Preparation(
            groups={"a": [1]}, image_size=(4, 4, 4), intensity=intensity, scaled="file"
        )
        assert not view_of(wanted).show(image)[0].any()


def test_a_channel_that_a_file_does_not_have_is_named(tmp_path: Path) -> None:
    path = tmp_path / "one.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones(SHAPE, np.float32), np.eye(4)), path)
    wanted = Preparation(groups={"a": [1]}, image_size=(8, 6, 10), channel=3, **OFFICIAL)
    with pytest.raises(DataError, match=r"one.nii.gz: has 1 channels, channel 3 was asked for"):
        prepare_image([path], wanted)
