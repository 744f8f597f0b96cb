"""Adjustment of p-values for multiple tests."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from reports.statistics.arrays import as_floats
from reports.statistics.wilcoxon import Floats

Adjustment = Literal["holm", "bh"]
ALPHA = 0.05  # the level of every test of a report


def adjust(p: ArrayLike, method: Adjustment) -> Floats:
    """Adjusted p-values [m] of one family p [m], in the same order.

    "holm": S. Holm, Scand. J. Statist. 6 (1979), family-wise error under any dependence. "bh": Y.
    Benjamini and Y. Hochberg, JRSS B 57 (1995), false discovery rate. NaN (no test) stays NaN and
    does not count in m.

    Raises ValueError for an unknown method, an array that is not one-dimensional, and values
    outside [0, 1].
    """
    if method not in get_args(Adjustment):
        raise ValueError(f"method must be one of {list(get_args(Adjustment))}, but is {method!r}")
    values = as_floats(p)
    if values.ndim != 1:
        raise ValueError(f"p must be one-dimensional (one family), but has shape {values.shape}")
    wrong = np.flatnonzero((values < 0) | (values > 1))
    if wrong.size:
        raise ValueError(f"p must lie in [0, 1], but p[{wrong[0]}] is {values[wrong[0]]}")
    adjusted = np.full(values.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    rank = np.arange(1, len(order) + 1)
    if method == "holm":
        stepped = np.maximum.accumulate(values[order] * rank[::-1])
    else:
        stepped = np.minimum.accumulate((values[order] * len(order) / rank)[::-1])[::-1]
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
