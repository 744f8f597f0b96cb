"""What counts as a mask, how it may be stored, and the error for each thing that does not."""

from __future__ import annotations

import numpy as np
import pytest

from medvision.metrics import evaluate_case
from medvision.metrics.masks import pack

GENERATOR = np.random.default_rng(5)
TRUTH = GENERATOR.random((9, 7, 131)) < 0.3
PREDICTION = TRUTH ^ (GENERATOR.random(TRUTH.shape) < 0.1)
SPACING = (0.7, 1.9, 1.1)
EXPECTED = evaluate_case(PREDICTION, TRUTH, SPACING)

LAYOUTS = {
    "C": lambda mask: mask,
    "Fortran": np.asfortranarray,
    "permuted axes": lambda mask: np.ascontiguousarray(mask.transpose(1, 2, 0)).transpose(2, 0, 1),
    "negative strides": lambda mask: np.ascontiguousarray(mask[::-1, :, ::-1])[::-1, :, ::-1],
    "every second of a larger one": lambda mask: np.repeat(np.repeat(mask, 2, axis=0), 2, axis=2)[
        ::2, :, ::2
    ],
    "read-only": lambda mask: np.frombuffer(mask.tobytes(), mask.dtype).reshape(mask.shape),
    "read-only Fortran": lambda mask: (
        np.frombuffer(mask.T.tobytes(), mask.dtype).reshape(mask.T.shape).T
    ),
}
DTYPES = ["?", "i1", "u1", "i2", ">i2", "u4", "<i8", ">u8"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_type_and_memory_order_gives_the_same_bits(layout, dtype):
    prediction = LAYOUTS[layout](PREDICTION.astype(dtype))
    assert evaluate_case(prediction, TRUTH, SPACING) == EXPECTED
    assert evaluate_case(TRUTH.astype(int), prediction, SPACING)["dice"] == EXPECTED["dice"]


@pytest.mark.parametrize("label", [2, 7, -1, 256, -(2**40)])
def test_every_value_but_zero_is_inside(label):
    assert evaluate_case(np.where(PREDICTION, label, 0), TRUTH, SPACING) == EXPECTED


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 63), (70, 3, 64), (5, 65, 65), (2, 129, 200)])
@pytest.mark.parametrize("order", "CF")
def test_packed_words_hold_the_mask(shape, order):
    mask = np.array(GENERATOR.random(shape) < 0.5, order=order)
    words = pack(mask)
    assert words.shape == (*shape[:2], shape[2] // 64 + 1)
    bits = np.unpackbits(words.view(np.uint8), axis=-1, bitorder="little")
    np.testing.assert_array_equal(bits[..., : shape[2]], mask)
    assert not bits[..., shape[2] :].any()


def test_masks_are_left_as_they_were():
    prediction, truth = PREDICTION.copy(), np.asfortranarray(TRUTH)
    evaluate_case(prediction, truth, SPACING)
    np.testing.assert_array_equal(prediction, PREDICTION)
    np.testing.assert_array_equal(truth, TRUTH)


FLOAT = PREDICTION.astype(float)
HOLED = np.where(np.arange(131) == 3, np.nan, FLOAT)


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (
            PREDICTION[0],
            r"prediction must be a 3D mask \[X, Y, Z\], got shape \(7, 131\); 2D is not supported",
        ),
        (PREDICTION[None], r"3D.*got shape \(1, 9, 7, 131\)"),
        (PREDICTION[:, :0], r"no voxels: shape \(9, 0, 131\)"),
        (PREDICTION[:8], r"same shape, got \(8, 7, 131\) and \(9, 7, 131\).*resample"),
        (FLOAT, r"prediction must be boolean or integer, got float64: threshold"),
        (HOLED, r"got float64 with 63 NaN voxels"),
        (PREDICTION.astype(complex), r"got complex128"),
        (PREDICTION.astype(str), r"got <U5"),
    ],
)
def test_wrong_masks(prediction, message):
    with pytest.raises(ValueError, match=message):
        evaluate_case(prediction, TRUTH, SPACING)
    if "same shape" not in message:
        with pytest.raises(ValueError, match=message.replace("prediction", "truth")):
            evaluate_case(TRUTH, prediction, SPACING)


@pytest.mark.parametrize(
    "spacing", [(1, 1), (1, 1, 1, 1), 1.0, (1, 0, 1), (1, -2, 1), (1, np.nan, 1), (1, 1, np.inf)]
)
def test_wrong_spacing(spacing):
    with pytest.raises(ValueError, match="spacing must be three positive finite numbers in mm"):
        evaluate_case(PREDICTION, TRUTH, spacing)


@pytest.mark.parametrize("tolerances", [(-1.0,), (1.0, np.nan), (np.inf,)])
def test_wrong_tolerances(tolerances):
    with pytest.raises(ValueError, match="tolerances must be finite distances in mm, 0 or more"):
        evaluate_case(PREDICTION, TRUTH, SPACING, tolerances=tolerances)


@pytest.mark.parametrize("option", ["nsd", "hd95"])
def test_unknown_definition(option):
    with pytest.raises(
        ValueError, match=f"{option} must be one of surfel, voxel-max, voxel-pooled, got 'voxel'"
    ):
        evaluate_case(PREDICTION, TRUTH, SPACING, **{option: "voxel"})


def test_no_tolerance_gives_no_nsd():
    result = evaluate_case(PREDICTION, TRUTH, SPACING, tolerances=())
    assert result == {key: value for key, value in EXPECTED.items() if key != "nsd@1.0"}
