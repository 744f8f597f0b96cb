"""The difference between two methods, averaged over the tasks of a study."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

LEVEL = 0.95


class Estimate(NamedTuple):
    """A difference with its 95 % interval, p and degrees of freedom; NaN where there is none."""

    estimate: float
    low: float
    high: float
    p: float
    df: float


def over_tasks(found: Sequence[Estimate]) -> Estimate:
    """The mean of the differences in these tasks, each with trainings and cases of its own.

    The tasks are those of the study, not a sample of tasks: what varies are training sets,
    trainings and cases within each. Errors add up in squares, and so do degrees of freedom
    (Satterthwaite 1946). One task keeps its own interval and p; with a task that cannot be tested
    there is no interval.
    """
    if len(found) == 1:
        return found[0]
    estimate = float(np.mean([one.estimate for one in found])) if found else math.nan
    scales = np.array([_scale(one) for one in found])
    if not found or not np.isfinite(scales).all():
        return Estimate(estimate, math.nan, math.nan, math.nan, math.nan)
    total = float((scales**2).sum())
    if total == 0:
        nothing = estimate == 0
        return Estimate(estimate, estimate, estimate, float(nothing), math.nan)
    varying = scales > 0
    dfs = np.array([one.df for one in found])
    df = total**2 / float((scales[varying] ** 4 / dfs[varying]).sum())
    error = math.sqrt(total) / len(found)
    half = float(stdtrit(df, (1 + LEVEL) / 2)) * error
    p = 2 * float(stdtr(df, -abs(estimate) / error))
    return Estimate(estimate, estimate - half, estimate + half, p, df)


def _scale(found: Estimate) -> float:
    """The standard error that a t with `df` degrees of freedom needs for the interval."""
    half = (found.high - found.low) / 2
    return half / float(stdtrit(found.df, (1 + LEVEL) / 2)) if half else half
