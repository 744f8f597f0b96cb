"""The small pictures of every slice: nothing is filled that was not predicted."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.image import imread

from reports.slices import EDGE, STRIP, slice_pictures
from tests.reports.figures.pictures import SHAPE, filled, truth


def share_filled(predicted: np.ndarray, groups: int = 1) -> list[float]:
    """Share of coloured pixels in the image's, the truth's and the prediction's tile of slice 3."""
    pictures = slice_pictures(np.ones(SHAPE), truth(groups), predicted, "case")
    assert len(pictures) == SHAPE[2]
    picture = np.round(255 * imread(io.BytesIO(pictures[3]))[..., :3]).astype(int)[STRIP:]
    assert picture.shape[0] >= EDGE
    return [float(filled(tile).mean()) for tile in np.split(picture, 3, axis=1)]


@pytest.mark.parametrize("groups", [1, 2])
def test_only_what_is_predicted_is_filled(groups: int) -> None:
    masks = truth(groups)
    structure = masks[..., 3].any(axis=0).mean()
    for predicted, low, high in (
        (np.zeros_like(masks), 0.0, 0.0),
        (masks, 0.4 * structure, structure),  # the truth's line lies on it
        (np.ones_like(masks), 0.7, 1.0),
    ):
        image, true, found = share_filled(predicted, groups)
        assert image == 0.0
        assert true == pytest.approx(structure, rel=0.01)
        assert low <= found <= high


def test_an_empty_and_a_saturated_prediction_say_so() -> None:
    """The words change the picture where nothing else does: a box of white in the tile."""
    masks = truth(1)
    white = [
        int((imread(io.BytesIO(picture))[STRIP:, :, :3] == 1).all(axis=2).sum())
        for predicted in (masks, np.zeros_like(masks))
        for picture in slice_pictures(np.ones(SHAPE), masks, predicted, "case")[3:4]
    ]
    assert white[1] > white[0] + 300
