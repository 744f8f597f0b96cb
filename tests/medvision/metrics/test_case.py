"""`evaluate_case` against an O(n²) evaluation by hand, and what must hold for any masks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medvision.metrics import SURFACES, evaluate_case

STEP = st.floats(0.2, 5.0)
SPACING = st.tuples(STEP, STEP, STEP)
LENGTHS = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))


@st.composite
def small_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two masks of one small shape, both with voxels inside."""
    shape = draw(LENGTHS)
    masks = hnp.arrays(bool, shape).filter(np.any)
    return draw(masks), draw(masks)


@st.composite
def long_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two sparse masks whose last axis takes several words, with far and near voxels."""
    shape = draw(st.sampled_from([(2, 3, 64), (3, 2, 129), (1, 4, 190), (2, 2, 63), (5, 6, 65)]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    masks = []
    for density in (
        draw(st.sampled_from([0.002, 0.02, 0.2])),
        draw(st.sampled_from([0.002, 0.02, 0.2])),
    ):
        mask = generator.random(shape) < density
        mask[tuple(generator.integers(shape))] = True
        masks.append(mask)
    return masks[0], masks[1]


@settings(deadline=None, max_examples=300)
@given(
    pair=st.one_of(small_pairs(), long_pairs()),
    spacing=SPACING,
    tolerance=st.floats(0.0, 9.0),
    nsd=st.sampled_from(SURFACES),
    hd95=st.sampled_from(SURFACES),
)
def test_equals_evaluation_by_hand(by_hand, pair, spacing, tolerance, nsd, hd95):
    expected = by_hand(*pair, spacing, tolerance, nsd, hd95)
    result = evaluate_case(*pair, spacing, tolerances=(tolerance,), nsd=nsd, hd95=hd95)
    assert result.pop("status") == "ok"
    assert list(result) == [
        *("dice", "jaccard", "sensitivity", "specificity", "precision", "accuracy"),
        "false_positive_volume",
        *(f"nsd@{tolerance}", "hd95", "hd", "assd"),
    ]
    assert result == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize(("nsd", "hd95"), itertools.product(SURFACES, SURFACES))
def test_blobs_equal_evaluation_by_hand(by_hand, nsd, hd95):
    """Every pair of definitions on shapes like real ones, with a tolerance that some distances
    equal.
    """
    x, y, z = np.ogrid[:18, :16, :20]
    truth = ((x - 8) / 6) ** 2 + ((y - 7) / 5) ** 2 + ((z - 9) / 7) ** 2 < 1
    prediction = ((x - 9) / 6) ** 2 + ((y - 7) / 6) ** 2 + ((z - 8) / 6) ** 2 < 1
    prediction[0, 0, 19] = True
    spacing = (0.8, 0.8, 2.4)
    expected = by_hand(prediction, truth, spacing, 2.4, nsd, hd95)
    result = evaluate_case(prediction, truth, spacing, tolerances=(2.4,), nsd=nsd, hd95=hd95)
    assert {key: result[key] for key in expected} == pytest.approx(expected, rel=1e-12, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(pair=small_pairs(), spacing=SPACING, definition=st.sampled_from(SURFACES), data=st.data())
def test_does_not_depend_on_how_the_grid_is_stored(pair, spacing, definition, data):
    options = {"nsd": definition, "hd95": definition}
    result = evaluate_case(*pair, spacing, **options)
    order = data.draw(st.permutations(range(3)))
    moved = [np.pad(mask.transpose(order)[::-1], ((2, 0), (0, 1), (3, 70))) for mask in pair]
    other = evaluate_case(*moved, [spacing[axis] for axis in order], **options)
    # More voxels outside move specificity and accuracy, and nothing else.
    keys = [key for key in result if key not in ("specificity", "accuracy", "status")]
    assert [other[key] for key in keys] == pytest.approx(
        [result[key] for key in keys], rel=1e-12, abs=1e-12
    )


@settings(deadline=None, max_examples=60)
@given(pair=small_pairs(), spacing=SPACING, definition=st.sampled_from(SURFACES))
def test_swapped_masks_swap_sensitivity_and_precision_only(pair, spacing, definition):
    options = {"nsd": definition, "hd95": definition, "tolerances": (0.5, 2.0)}
    one, other = (
        evaluate_case(*pair, spacing, **options),
        evaluate_case(*pair[::-1], spacing, **options),
    )
    assert (one["sensitivity"], one["precision"]) == (other["precision"], other["sensitivity"])
    for key in ("dice", "jaccard", "accuracy", "nsd@0.5", "nsd@2.0", "hd95", "hd", "assd"):
        assert one[key] == other[key]


@settings(deadline=None, max_examples=60)
@given(
    mask=hnp.arrays(bool, LENGTHS).filter(np.any),
    spacing=SPACING,
    definition=st.sampled_from(SURFACES),
)
def test_a_mask_agrees_with_itself(mask, spacing, definition):
    result = evaluate_case(
        mask, mask, spacing, nsd=definition, hd95=definition, tolerances=(0.0,), strict=True
    )
    for key in ("dice", "jaccard", "sensitivity", "precision", "accuracy", "nsd@0.0"):
        assert result[key] == 1.0
    for key in ("hd95", "hd", "assd"):
        assert result[key] == 0.0


@pytest.mark.parametrize("definition", SURFACES)
def test_shifted_box_in_closed_form(definition):
    """A box of 10 x 8 x 6 voxels and the same one moved by 3 voxels along the first axis."""
    truth, prediction = np.zeros((20, 12, 10), bool), np.zeros((20, 12, 10), bool)
    truth[2:12, 2:10, 2:8] = True
    prediction[5:15, 2:10, 2:8] = True
    result = evaluate_case(prediction, truth, (0.5, 2.0, 4.0), nsd=definition, hd95=definition)
    assert result["dice"] == 7 / 10
    assert result["jaccard"] == 7 / 13
    assert result["sensitivity"] == result["precision"] == 7 / 10
    assert result["accuracy"] == 1 - 2 * 3 * 8 * 6 / truth.size
    assert result["hd"] == result["hd95"] == 1.5


def test_tie_at_the_tolerance_is_within_unless_strict():
    truth, prediction = np.zeros((9, 5, 5), bool), np.zeros((9, 5, 5), bool)
    truth[2], prediction[5] = True, True
    assert 3 * 0.8 > 2.4  # in float64
    for definition in SURFACES:
        options = {"tolerances": (2.4, 2.3, 2.5), "nsd": definition}
        lenient = evaluate_case(prediction, truth, (0.8, 1, 1), **options)
        strict = evaluate_case(prediction, truth, (0.8, 1, 1), strict=True, **options)
        assert (lenient["nsd@2.4"], strict["nsd@2.4"]) == (
            1.0,
            pytest.approx(0.5 if definition == "surfel" else 0.0),
        )
        assert lenient["nsd@2.3"] == strict["nsd@2.3"] < 1
        assert lenient["nsd@2.5"] == strict["nsd@2.5"] == 1


def test_a_far_false_positive_moves_hd_but_hardly_nsd():
    truth = np.zeros((150, 30, 30), bool)
    truth[5:25, 5:25, 5:25] = True
    prediction = truth.copy()
    prediction[145, 15, 15] = True
    result = evaluate_case(prediction, truth, (1, 1, 1))
    assert result["hd"] == 121
    assert result["hd95"] == 0
    assert 0.999 < result["nsd@1.0"] < 1


@pytest.mark.parametrize(
    ("prediction", "truth", "status"), [(0, 1, "missed"), (1, 0, "spurious"), (0, 0, "both-empty")]
)
@pytest.mark.parametrize("definition", SURFACES)
def test_empty_masks(prediction, truth, status, definition):
    masks = np.zeros((2, 6, 5, 4), bool)
    masks[0, 1:3, 1:3, 1:3], masks[1, 2:5, 2:4, 1:3] = prediction, truth
    result = evaluate_case(*masks, (1, 1, 1), tolerances=(1, 2.5), nsd=definition, hd95=definition)
    assert result["status"] == status
    both_empty = status == "both-empty"
    for key in ("dice", "jaccard", "nsd@1.0", "nsd@2.5", "precision"):
        assert math.isnan(result[key]) if both_empty else result[key] == 0.0
    for key in ("hd95", "hd", "assd"):
        assert math.isnan(result[key]) if both_empty else result[key] == math.inf
    assert result["sensitivity"] == 0.0 if truth else math.isnan(result["sensitivity"])
    assert result["specificity"] == (1 - 8 / 120 if prediction else 1.0)
    assert result["accuracy"] == 1 - masks.sum() / 120


def test_full_masks_have_a_boundary_at_the_edge_of_the_volume():
    full = np.ones((4, 5, 70), np.uint8)
    result = evaluate_case(full, full, (1, 1, 1))
    assert math.isnan(result["specificity"])
    assert (result["dice"], result["hd"], result["nsd@1.0"], result["status"]) == (
        1.0,
        0.0,
        1.0,
        "ok",
    )
