"""How a p-value is printed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.sections.significance_layout import p_text

ALPHA = 0.05


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0497, "0.0497"),  # "significant" beside 0.050 would contradict itself
        (0.04997, "0.04997"),
        (0.0494, "0.049"),
        (0.05, "0.050"),
        (0.0504, "0.050"),
        (1.0, "1.000"),
        (0.00099, "9.9e-04"),
        (1e-299, "1.0e-299"),
        (1e-310, "<1e-300"),
        (0.0, "<1e-300"),  # underflow
        (math.nan, ""),
    ],
)
def test_three_digits_and_more_where_they_would_hide_the_side(value: float, text: str) -> None:
    assert p_text(value) == text


@given(st.floats(0.0, 1.0))
def test_what_is_printed_lies_on_the_same_side_as_the_value(value: float) -> None:
    assert (float(p_text(value).lstrip("<")) < ALPHA) == (value < ALPHA)
