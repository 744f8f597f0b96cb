"""Lesions, centrelines and volumes of masks whose right answers are known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medvision.metrics import METRICS, evaluate_case
from medvision.metrics.definitions import FURTHER
from medvision.metrics.structures import structure_metrics
from tests.medvision.metrics import blobs

SHAPE = (24, 24, 24)


def cubes(*places: tuple[int, int, int], edge: int = 3) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    for x, y, z in places:
        mask[x : x + edge, y : y + edge, z : z + edge] = True
    return mask


def lesions(prediction: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    found = structure_metrics(prediction, truth, ["lesions"])
    return tuple(found[name] for name in FURTHER["lesions"])


def test_lesions_are_found_where_half_of_the_union_is_shared() -> None:
    truth = cubes((1, 1, 1), (10, 10, 10), (18, 2, 2))
    assert lesions(truth, truth) == (1, 1, 0)
    one_off = cubes((2, 1, 1), (10, 10, 10))  # shares 18 of 36 voxels with the first
    assert lesions(one_off, truth) == (2 * 2 / 5, 2 / 3, 0)
    two_off = cubes((3, 1, 1), (10, 10, 10))  # shares 9 of 45
    assert lesions(two_off, truth) == (2 * 1 / 5, 1 / 3, 1)
    both_in_one = cubes((1, 1, 1)) | cubes((2, 1, 1), edge=20)
    assert lesions(both_in_one, truth) == (0, 0, 1)


def test_voxels_that_touch_at_a_corner_are_one_lesion() -> None:
    truth = cubes((1, 1, 1), (4, 4, 4))
    assert lesions(cubes((1, 1, 1)), truth) == (2 / 2, 1, 0)  # half of the union
    assert lesions(cubes((1, 1, 1), (5, 5, 5)), cubes((1, 1, 1))) == (2 / 3, 1, 1)


def test_nothing_there_and_nothing_found() -> None:
    nothing, something = cubes(), cubes((1, 1, 1), (10, 1, 1))

    def found(prediction: np.ndarray, truth: np.ndarray) -> list[float]:
        return list(structure_metrics(prediction, truth, list(FURTHER)).values())

    nan = math.nan
    np.testing.assert_equal(found(nothing, nothing), [nan, nan, 0, nan, nan])
    np.testing.assert_equal(found(something, nothing), [0, nan, 2, 0, nan])
    np.testing.assert_equal(found(nothing, something), [0, 0, 0, 0, 1])
    np.testing.assert_equal(found(something, something), [1, 1, 0, 1, 0])


def tube(radius: int, middle: tuple[int, int] = (12, 12), end: int = 22) -> np.ndarray:
    y, z = np.indices(SHAPE[1:])
    disc = (y - middle[0]) ** 2 + (z - middle[1]) ** 2 <= radius**2
    return np.concatenate(
        [
            np.zeros((2, *disc.shape), bool),
            np.tile(disc, (end - 2, 1, 1)),
            np.zeros((24 - end, *disc.shape), bool),
        ]
    )


def test_cldice_is_about_the_centreline_and_not_the_width() -> None:
    def cldice(prediction: np.ndarray, truth: np.ndarray) -> float:
        return structure_metrics(prediction, truth, ["centrelines"])["cldice"]

    assert cldice(tube(2), tube(5)) == 1.0
    assert cldice(tube(1, (7, 7)), tube(2)) == 0.0
    # a tube of half the length: its centreline lies inside, and half of the truth's is found
    assert cldice(tube(3, end=12), tube(3)) == pytest.approx(2 * 0.5 / 1.5, abs=0.08)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.5))
def test_greedy_lesions_are_a_matching_of_those_that_share_half(seed: int, share: float) -> None:
    """As counted by hand, pair by pair."""
    prediction, truth = np.random.default_rng(seed).random((2, 6, 6, 6)) < share
    predicted, count = ndimage.label(prediction, np.ones((3, 3, 3)))
    true, wanted = ndimage.label(truth, np.ones((3, 3, 3)))
    pairs = {
        (one, other): both / either
        for one in range(1, wanted + 1)
        for other in range(1, count + 1)
        if (both := ((true == one) & (predicted == other)).sum())
        and (either := ((true == one) | (predicted == other)).sum())
    }
    certain = {pair for pair, iou in pairs.items() if iou > 0.5}  # one at most of each
    possible = {pair for pair, iou in pairs.items() if iou >= 0.5}
    found = structure_metrics(prediction, truth, ["lesions"])
    matched = count - found["lesion_false_positives"]
    assert len(certain) <= matched <= len(possible)
    if wanted:
        assert found["lesion_sensitivity"] == matched / wanted


def test_they_are_computed_where_they_are_asked_for() -> None:
    mask = cubes((1, 1, 1))
    assert not {"cldice", "lesion_f1"} & set(evaluate_case(mask, mask, (1, 1, 1)))
    whole = evaluate_case(mask.astype(np.uint8) * 3, mask, (1, 1, 1), further=["volumes"])
    assert whole["volume_error"] == METRICS["volume_error"].perfect
    with pytest.raises(ValueError, match="further must be of lesions, centrelines, volumes"):
        evaluate_case(mask, mask, (1, 1, 1), further=["lines"])  # type: ignore[list-item]


def test_lesions_are_those_of_panoptica() -> None:
    """Of 200 random pairs of masks, empty ones included; `blobs` says how the file was made."""
    golden = json.loads(blobs.GOLDEN.read_text())
    assert blobs.digest() == golden["masks"]
    assert len(golden["rows"]) == blobs.SEEDS == 200
    for seed, (predicted, true, both, f1) in enumerate(golden["rows"]):
        sensitivity = both / true if true else math.nan
        expected = (math.nan if f1 is None else f1, sensitivity, predicted - both)
        np.testing.assert_allclose(lesions(*blobs.pair(seed)), expected, rtol=1e-12)
