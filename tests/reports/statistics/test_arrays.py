"""A value that numpy masks or pandas marks as missing takes part in no statistic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.statistics import (
    adjust,
    friedman,
    hodges_lehmann,
    mean_difference,
    paired_differences,
    paired_wilcoxon,
    pairwise_wilcoxon,
    rank_biserial,
    ranking_stability,
)

HIDDEN = 99.0
PAIRED = (paired_wilcoxon, hodges_lehmann, mean_difference, rank_biserial)


def masked(values: np.ndarray, missing: np.ndarray) -> Any:
    return np.ma.masked_array(np.where(missing, HIDDEN, values), mask=missing)


def nullable(values: np.ndarray, missing: np.ndarray) -> Any:
    return pd.Series(pd.array(np.where(missing, HIDDEN, values), dtype="Float64")).mask(missing)


@pytest.mark.parametrize("wrap", [masked, nullable])
@pytest.mark.parametrize("function", PAIRED)
@given(st.lists(st.booleans(), min_size=14, max_size=14).filter(lambda m: 3 < 14 - sum(m) < 14))
def test_a_masked_pair_is_dropped(
    wrap: Callable[..., Any], function: Callable[..., Any], mask: list[bool]
) -> None:
    rng = np.random.default_rng(0)
    x, missing = rng.random(14), np.array(mask)
    y = x + rng.normal(0.05, 0.05, 14)
    found = function(wrap(x, missing), wrap(y, missing))
    kept = function(x[~missing], y[~missing])
    if hasattr(found, "n"):
        assert found.n == kept.n == int((~missing).sum())
    for name in ("p", "estimate", "low", "high"):
        if hasattr(kept, name):
            assert getattr(found, name) == getattr(kept, name)
    if isinstance(kept, float):
        assert found == kept


@pytest.mark.parametrize("wrap", [masked, nullable])
def test_a_pair_masked_on_one_side_is_refused(wrap: Callable[..., Any]) -> None:
    values, missing = np.linspace(0, 1, 6), np.arange(6) == 2
    with pytest.raises(ValueError, match="x is NaN at"):
        paired_differences(wrap(values, missing), values)


def test_a_hidden_infinity_is_none() -> None:
    values, missing = np.linspace(0, 1, 6), np.arange(6) == 2
    hidden = np.ma.masked_array(np.where(missing, np.inf, values), mask=missing)
    assert mean_difference(hidden, hidden).n == 5


def test_masked_rows_of_tables_and_masked_p_values() -> None:
    table = np.random.default_rng(1).random((9, 3))
    missing = np.zeros((9, 3), bool)
    missing[4] = True
    hidden, kept = masked(table, missing), table[~missing[:, 0]]
    assert friedman(hidden).p == friedman(kept).p
    assert friedman(hidden).n_dropped == 1
    assert [test.n for test in pairwise_wilcoxon(hidden).tests] == [8] * 3
    assert ranking_stability(hidden).ranks.tolist() == ranking_stability(kept).ranks.tolist()
    p = masked(np.array([0.01, 0.04, 0.02]), np.array([False, False, True]))
    assert adjust(p, "holm").tolist()[:2] == [0.02, 0.04]
    assert np.isnan(adjust(p, "holm")[2])
