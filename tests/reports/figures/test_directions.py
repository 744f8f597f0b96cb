"""In every figure of differences the candidate is better to the right, and the axis says so."""

from __future__ import annotations

import pytest

from record.metric import Metric
from reports.figures.canvas import new_figure, right_is_better


@pytest.mark.parametrize("higher", [True, False])
def test_an_axis_is_turned_where_less_is_better_and_says_so(higher: bool) -> None:
    _, axes = new_figure(2, 1)
    axis = axes[0, 0]
    axis.plot([-1.0, 1.0], [0, 0])
    right_is_better(axis, Metric(title="HD95", unit="mm", higher_is_better=higher))
    left, right = axis.get_xlim()
    assert bool(left < right) is higher
    label = axis.get_xlabel()
    assert label.startswith("difference in HD95 [mm]")
    assert ("the axis runs from right to left" in label) is not higher
