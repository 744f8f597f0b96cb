"""Panels of a good, an empty and a saturated prediction, with their pixels counted."""

from __future__ import annotations

import numpy as np
import pytest

from reports.figures.masks import scores_text
from reports.figures.panels import panels_of, qualitative_panels
from tests.reports.figures.pictures import MODELS, SHAPE, TASK, columns, drawn, filled, pixels


def shares(groups: int, cases: int = 3) -> dict[str, float]:
    """Filled pixels by column, over those of the saturated prediction."""
    arrays, masks, rows, plan = drawn(groups, cases)
    [figure] = qualitative_panels(arrays, masks, rows, plan)
    picture = pixels(figure)
    legend = int(0.9 * len(picture))  # its patches have the same colours
    tiles = columns(picture[:legend], 1 + len(MODELS))
    counts = [int(filled(tile).sum()) for tile in tiles]
    return dict(zip(("truth", *MODELS), np.array(counts) / counts[-1], strict=True))


@pytest.mark.parametrize("groups", [1, 2])
def test_only_what_is_predicted_is_filled(groups: int) -> None:
    found = shares(groups)
    assert found["truth"] < 0.03  # an outline; with two structures it is tinted
    assert found["nothing"] < 0.03  # the truth's outline is there, and nothing else
    good = groups * 8 * 9 / (SHAPE[0] * SHAPE[1])  # a label covers some of the saturated one
    assert good < found["good"] < 1.35 * good


def test_two_structures_have_two_colours() -> None:
    arrays, masks, rows, plan = drawn(2)
    [figure] = qualitative_panels(arrays, masks, rows, plan)
    good = columns(pixels(figure), 1 + len(MODELS))[1]
    red, blue = good[..., 0], good[..., 2]
    orange, sea = (red - blue > 60).sum(), (blue - red > 60).sum()
    assert orange > 1000
    assert sea == pytest.approx(orange, rel=0.3)


def test_best_median_and_worst_are_different_cases_or_it_is_said() -> None:
    for cases, told in (
        (1, "has one test case with a Dice"),
        (2, "has 2 test cases with a Dice"),
        (3, "has Dice 0.947 in all three"),
    ):
        arrays, masks, rows, plan = drawn(1, cases)
        panels = panels_of(arrays["good", TASK])
        assert len(panels) == cases
        assert len({panel.case for panel in panels}) == cases
        [figure] = qualitative_panels(arrays, masks, rows, plan)
        assert told in figure.caption
    assert panels_of(drawn(1, 2)[0]["good", TASK])[1].ranks == "median and worst"
    arrays, masks, rows, plan = drawn()
    rows.loc[rows["case"] == "case0", "dice"] = 0.99
    assert "so they are" not in qualitative_panels(arrays, masks, rows, plan)[0].caption


def test_a_study_of_before_structures_were_kept_is_drawn_with_their_union() -> None:
    arrays, masks, rows, plan = drawn(2)
    old = {
        key: {
            name: value
            for name, value in saved.items()
            if name != "groups" and not name.endswith(("truths", "truth_voxels"))
        }
        for key, saved in arrays.items()
    }
    [figure] = qualitative_panels(old, masks, rows, plan)
    good = columns(pixels(figure), 1 + len(MODELS))[1]
    assert (good[..., 2] - good[..., 0] > 60).sum() < 50  # no second colour
    assert filled(good).sum() > 1000


def test_scores_name_the_structures_where_there_are_several() -> None:
    assert scores_text(["foreground"], {"foreground": 0.5}, [1234]) == "Dice 0.500, 1,234 voxels"
    assert scores_text(["a", "b"], {"b": float("nan"), "a": 1.0}, [3, 0]) == (
        "a: Dice 1.000, 3 voxels\nb: no Dice, 0 voxels"
    )
