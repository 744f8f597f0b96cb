"""Protocol `patches`: what a network finds comes back to where it is, in every orientation; what
the training cases decide, no other case does.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from medvision.data.fingerprints import content_fingerprint
from medvision.data.fitted import fitted
from medvision.data.preprocess import prepare, prepare_image
from medvision.data.readers.base import Case
from medvision.data.settings import ChannelRange, Preparation
from medvision.errors import DataError
from medvision.evaluation import predict
from medvision.inference import Inference

SHAPE, SPACING = (30, 36, 24), (1.0, 0.8, 1.4)
CPU = torch.device("cpu")
ORIENTATIONS = [
    (axes, flips)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


def ball() -> np.ndarray:
    places = np.stack(np.indices(SHAPE), -1) * SPACING
    return np.linalg.norm(places - (17, 12, 15), axis=-1) < 8


def written(
    folder: Path, image: np.ndarray, label: np.ndarray, affine: np.ndarray, name: str = "c"
) -> Case:
    case = Case(name, (folder / f"{name}_i.nii.gz",), folder / f"{name}_l.nii.gz")
    nibabel.save(nibabel.Nifti1Image(image.astype(np.float32), affine), case.image)
    nibabel.save(nibabel.Nifti1Image(label.astype(np.uint8), affine), case.label)
    return case


def wanted(**more: object) -> Preparation:
    settings = {"groups": {"ball": [1]}, "image_size": (16, 12, 8), "protocol": "patches"}
    return Preparation.model_validate(settings | more)


class Identity(torch.nn.Module):
    """Logits of the truth, which the image is: 0 outside and 1 inside."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.logit(images.clamp(0.01, 0.99))


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.mark.parametrize(("axes", "flips"), ORIENTATIONS)
def test_the_network_that_returns_the_truth_is_perfect_in_every_orientation(
    axes: tuple[int, ...], flips: tuple[int, ...], tmp_path: Path, isolated_cache: Path
) -> None:
    truth = ball().transpose(axes)
    affine = np.zeros((4, 4))
    for place, axis in enumerate(axes):
        affine[axis, place] = flips[place] * SPACING[axis]
    affine[3, 3] = 1
    case = written(tmp_path, truth, truth, affine)
    fingerprint = content_fingerprint(case)
    for spacing, least in ((SPACING, 1.0), ((1.1, 1.1, 1.1), 0.97)):
        shown = prepare(case, fingerprint, wanted(spacing=spacing))
        found = predict(Identity(), shown, device=CPU)[0]
        assert dice(found, truth) >= least
        back = shown.placement.to_case(torch.tensor(shown.masks[0]).float()) > 0.5
        assert dice(back.numpy(), truth) >= least
    if axes == (2, 0, 1):  # mirror images change nothing for a network that does not look around
        mirrored = predict(Identity(), shown, device=CPU, inference=Inference(mirror=True))[0]
        np.testing.assert_array_equal(mirrored, found)


def test_a_case_in_the_cache_is_mapped_with_its_points_and_gives_patches(
    tmp_path: Path, isolated_cache: Path
) -> None:
    case = written(tmp_path, ball(), ball(), np.diag([*SPACING, 1.0]))
    first = prepare(case, content_fingerprint(case), wanted(foreground=1.0))
    again = prepare(case, content_fingerprint(case), wanted(foreground=1.0))
    assert not again.image.flags.owndata
    assert again.points is not None
    assert again.points.shape[-1] == 3
    for draw in range(9):
        image, masks = again.sample(draw)
        assert (image.shape, masks.shape) == ((1, 16, 12, 8), (1, 16, 12, 8))
        assert masks.any()
        np.testing.assert_array_equal(masks, first.sample(draw)[1])
    assert again.example()[1].sum() > 500


def test_a_structure_smaller_than_a_voxel_is_shown(tmp_path: Path, isolated_cache: Path) -> None:
    label = np.zeros((30, 30, 30))
    label[4, 5, 6] = 1
    case = written(tmp_path, label, label, np.diag([1, 1, 1, 1]))
    for spacing in ((2, 2, 2), (5, 5, 5), (1, 1, 7)):
        shown = prepare(case, content_fingerprint(case), wanted(spacing=spacing))
        assert shown.masks.any()


def test_the_training_cases_decide_spacing_and_range_of_a_ct(
    tmp_path: Path, isolated_cache: Path
) -> None:
    rng = np.random.default_rng(0)
    cases, values = [], []
    for number, mm in enumerate((1.0, 2.0, 4.0)):
        image = rng.normal(-900, 50, SHAPE)
        image[ball()] = rng.normal(100 + number, 20, ball().sum())
        affine = np.zeros((4, 4))  # the file's axes are S, R and A
        affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = mm, 0.7, -0.9, 1
        case = written(tmp_path, image, ball(), affine, f"c{number}")
        cases.append((case, content_fingerprint(case)))
        values.append(image.astype(np.float32)[ball()])
    found = fitted(wanted(modality=("CT",)), cases)
    assert found.spacing == (0.7, 0.9, 2.0)
    low, high = np.percentile(np.concatenate(values), [0.5, 99.5])
    clipped = np.clip(np.concatenate(values), low, high)
    (only,) = found.ranges
    assert only is not None
    expected = [low, high, clipped.mean(), clipped.std()]
    np.testing.assert_allclose([only.low, only.high, only.mean, only.deviation], expected, 1e-5)
    (within,) = fitted(wanted(modality=("CT",), ct_window=(90, 110)), cases).ranges
    assert within is not None
    inside = np.clip(np.concatenate(values), 90, 110)
    expected = [90, 110, inside.mean(), inside.std()]
    found_within = [within.low, within.high, within.mean, within.deviation]
    np.testing.assert_allclose(found_within, expected, 1e-5)
    assert fitted(wanted(modality=("CT",)), cases[:1]).spacing == (0.7, 0.9, 1.0)
    assert fitted(wanted(spacing=(1, 1, 1)), cases) == wanted(spacing=(1, 1, 1))  # an MRI
    assert fitted(wanted(protocol="corrected"), []) == wanted(protocol="corrected")


def test_a_ct_is_clipped_and_scaled_by_the_training_cases(tmp_path: Path) -> None:
    image = np.linspace(-1000, 1000, 8 * 9 * 10).reshape(8, 9, 10)
    case = written(tmp_path, image, image > 0, np.eye(4))
    known = ChannelRange(low=-50, high=150, mean=40, deviation=30)
    for intensity, ends in (("z-score", (-3, 110 / 30)), ("min-max", (0, 1))):
        settings = wanted(modality=("CT",), ranges=(known,), intensity=intensity)
        shown = prepare_image(case.images, settings).image
        np.testing.assert_allclose([shown.min(), shown.max()], ends, atol=2e-3)
    with pytest.raises(DataError, match=r"i\.nii\.gz: is a CT, whose range"):
        prepare_image(case.images, wanted(modality=("CT",)))


def test_another_image_is_scaled_by_its_own_values(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(300, 40, (9, 9, 9))
    case = written(tmp_path, image, image > 300, np.eye(4))
    shown = prepare_image(case.images, wanted(intensity="z-score")).image.astype(np.float64)
    assert (shown.mean(), shown.std()) == pytest.approx((0, 1), abs=1e-2)
    shown = prepare_image(case.images, wanted()).image.astype(np.float64)
    assert np.percentile(shown, (0.5, 99.5)) == pytest.approx((0, 1), abs=1e-2)


def test_channels_of_different_kinds_are_each_scaled_in_their_way(
    tmp_path: Path, isolated_cache: Path
) -> None:
    rng = np.random.default_rng(0)
    ct, mri = rng.normal(50, 10, SHAPE), rng.normal(700, 90, SHAPE)
    ct[0, 0, 0] = 3000  # metal
    case = written(tmp_path, np.stack([ct, mri], -1), ball(), np.eye(4))
    settings = wanted(modality=("CT", "MRI"), channel="all", intensity="z-score")
    found = fitted(settings, [(case, content_fingerprint(case))])
    assert [one is None for one in found.ranges] == [False, True]
    shown = prepare(case, content_fingerprint(case), found)
    assert shown.image.shape == (2, *SHAPE)
    assert shown.image[0].max() < 4  # clipped to what the structures hold
    assert shown.image[1].astype(np.float64).std() == pytest.approx(1, abs=0.01)
    assert shown.sample(0)[0].shape == (2, 16, 12, 8)


def test_thick_slices_stay_apart_on_the_way_there_and_back(
    tmp_path: Path, isolated_cache: Path
) -> None:
    label = np.zeros((20, 20, 6))
    label[5:15, 5:15, 2] = 1
    case = written(tmp_path, label, label, np.diag([1, 1, 6, 1]))
    shown = prepare(case, content_fingerprint(case), wanted(spacing=(1, 1, 2)))
    assert shown.masks.shape == (1, 20, 20, 18)
    np.testing.assert_array_equal(np.flatnonzero(shown.masks[0].any((0, 1))), [6, 7, 8])
    np.testing.assert_array_equal(predict(Identity(), shown, device=CPU)[0], label > 0)
