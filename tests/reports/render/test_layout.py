"""How numbers stand in a table."""

from __future__ import annotations

import pytest

from reports.render.layout import fixed, number, spread, spread_over
from reports.sections.significance_layout import interval


@pytest.mark.parametrize(
    ("value", "said"),
    [(-0.0004, "0.000"), (0.0004, "0.000"), (0.0, "0.000"), (-0.0006, "-0.001"), (0.001, "+0.001")],
)
def test_what_prints_as_zero_has_no_sign(value: float, said: str) -> None:
    assert fixed(value, 3, sign=True) == number(value, sign=True).text == said
    assert interval(value, -1e-9, 1234.5, 3).text == f"{said} [0.000, +1,234.500]"
    assert spread(-1e-9, 0.1).text == "0.000 ± 0.100"


def test_over_one_task_no_deviation_is_announced() -> None:
    assert "±" not in spread(0.5, float("nan")).text
    assert spread_over(1) == "mean over the cases of the one task"
    assert spread_over(2) == "mean ± standard deviation over the 2 tasks"
