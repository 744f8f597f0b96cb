"""Patches: what is drawn, how a volume is resampled, and a window that slides over it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference

from medvision.data.patches import cut_out, drawn_start, example_start, structure_points
from medvision.data.resample import by_splines, linearly, thick_axis
from medvision.data.tiling import resampled_shape, starts
from medvision.data.windows import slide

SIZE = (8, 6, 10)


def masks(shape: tuple[int, ...] = (20, 12, 9)) -> np.ndarray:
    """A cube, a single voxel in a corner, and a group that is not there."""
    made = np.zeros((3, *shape), np.uint8)
    made[0, 12:16, 3:6, 4:7] = 1
    made[1, 0, 0, 8] = 1
    return made


def test_a_share_of_the_patches_is_centred_on_structures_of_any_group_alike() -> None:
    truth = masks()
    points = structure_points(truth)
    assert (points[2] == -1).all()
    seen = np.zeros(2)
    for draw in range(1200):
        start = drawn_start(points, truth.shape[1:], (3, 3, 3), 0.5, draw)
        patch = cut_out(truth, start, (3, 3, 3))
        seen += [patch[0, 1, 1, 1], patch[1].any()]
    # by chance: 36 voxels of 18 * 10 * 7 places, or one place of them
    assert seen / 1200 == pytest.approx([0.25 + 0.5 * 36 / 1260, 0.25 + 0.5 / 1260], abs=0.04)


def test_a_draw_decides_a_patch_and_draws_differ() -> None:
    points = structure_points(masks())
    drawn = [drawn_start(points, (20, 12, 9), SIZE, 0.33, draw) for draw in (*range(20), 0)]
    assert drawn[0] == drawn[-1]
    assert len(set(drawn)) > 10
    assert all(0 <= start[0] <= 12 and 0 <= start[1] <= 6 for start in drawn)
    assert {start[2] for start in drawn} == {-1}  # 9 voxels lie in the middle of 10


def test_outside_of_the_image_a_patch_is_0() -> None:
    image = np.arange(1, 9).reshape(1, 2, 2, 2)
    patch = cut_out(image, (-1, 0, 1), (4, 2, 2))
    np.testing.assert_array_equal(patch[0, 1:3, :, 0], image[0, :, :, 1])
    assert patch.sum() == image[..., 1].sum()


def test_the_example_lies_around_the_structures() -> None:
    truth = masks()
    truth[1] = 0
    start = example_start(structure_points(truth), truth.shape[1:], (4, 4, 4))
    assert cut_out(truth, start, (4, 4, 4))[0].sum() >= 20
    assert example_start(structure_points(truth[1:]), (20, 12, 9), (4, 4, 4)) == (8, 4, 2)


@settings(deadline=None)
@given(length=st.integers(1, 90), size=st.integers(1, 40), overlap=st.floats(0, 0.9))
def test_windows_reach_both_ends_and_overlap_enough(length: int, size: int, overlap: float) -> None:
    found = starts(length, size, overlap)
    assert found[0] == 0
    assert found[-1] == max(length - size, 0)
    gaps = np.diff(found)
    assert (gaps > 0).all()
    assert (gaps <= max(size * (1 - overlap), 1) + 1).all()


def test_a_sliding_window_is_monais_where_both_stop_at_the_same_places() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((2, 16, 12, 10), generator=generator)
    kernel = torch.rand((3, 2, 3, 3, 3), generator=generator)

    def network(windows: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv3d(windows, kernel, padding="same").sigmoid()

    expected = sliding_window_inference(image[None], SIZE, 4, network, 0.5, mode="gaussian")[0]
    torch.testing.assert_close(slide(network, image, SIZE, 0.5), expected, rtol=1e-4, atol=1e-5)


def test_an_image_smaller_than_a_window_lies_as_in_training() -> None:
    image = torch.rand((1, 3, 7, 9))
    seen = []
    found = slide(lambda windows: seen.append(windows) or windows, image, SIZE, 0.5)
    torch.testing.assert_close(found, image)
    start = drawn_start(np.full((1, 1, 3), -1), image.shape[1:], SIZE, 0.0, 0)
    first = cut_out(image.numpy(), (start[0], 0, start[2]), SIZE)
    np.testing.assert_array_equal(seen[0][0], first)


@pytest.mark.parametrize(
    ("spacing", "target", "axis"),
    [
        ((1, 1, 1), (1, 1, 1), None),
        ((1, 1, 3), (1, 1, 1), None),
        ((1, 1, 3.1), (1, 1, 1), 2),
        ((1, 1, 1), (5, 1, 1), 0),
        ((4, 1, 4), (1, 1, 1), None),  # two thick axes: nothing that is to be kept apart
    ],
)
def test_slices_are_thick_beyond_three_times_the_other_spacings(
    spacing: tuple[float, ...], target: tuple[float, ...], axis: int | None
) -> None:
    assert thick_axis(spacing, target) == axis


def test_splines_follow_a_smooth_image_and_thick_slices_stay_apart() -> None:
    def values(shape: tuple[int, ...]) -> np.ndarray:
        places = [(np.arange(n) + 0.5) / n for n in shape]
        return np.prod(np.meshgrid(*[np.sin(3 * place) for place in places], indexing="ij"), 0)

    shape = resampled_shape((20, 30, 12), (1.0, 0.5, 2.0), (0.8, 0.8, 1.0))
    assert shape == (25, 19, 24)
    fine = by_splines(values((20, 30, 12)).astype(np.float32), shape, None)
    inside = (slice(6, -6),) * 3
    np.testing.assert_allclose(fine[inside], values(shape)[inside], atol=2e-3)
    linear = linearly(torch.from_numpy(values((20, 30, 12))).float(), shape, None).numpy()
    assert np.abs(linear - values(shape))[inside].max() < 0.02
    slices = by_splines(np.eye(4, dtype=np.float32)[None].repeat(4, 0), (4, 4, 8), 2)
    np.testing.assert_allclose(slices[0], np.eye(4).repeat(2, 1), atol=1e-6)
