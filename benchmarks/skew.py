"""Tests that allow for skewed effects of training sets: what they would hold, and cost.

All see the fold means alone, [studies, folds]; two-sided at 0.05.
"""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit


def rejections(means, rng, *, draws=199):
    """Which studies each test rejects [studies]; the bootstrap-t sees the first 4,000 only.

    "t-skew": outside of the wider of Student's t and Hall's transformation (P. Hall, JRSS B 54
    (1992)), as `mean_difference`; "johnson": Student's and the t corrected for skewness (N. J.
    Johnson, JASA 73 (1978)) both; "bootstrap-t": over folds.
    """
    n = means.shape[1]
    mean = means.mean(1)
    residual = means - mean[:, None]
    variance = (residual**2).mean(1)
    skewness, error = (residual**3).mean(1) / variance**1.5, np.sqrt(variance / (n - 1))
    t, quantile = mean / error, -stdtrit(n - 1, 0.025)
    plain = np.abs(t) > quantile
    low = np.maximum(quantile, _unskewed(quantile, skewness, n))
    high = np.maximum(quantile, -_unskewed(-quantile, skewness, n))

    spread = variance * n / (n - 1)
    third = (residual**3).sum(1) * n / ((n - 1) * (n - 2))
    moved = mean + third / (6 * spread * n) + third / (3 * spread**2) * mean**2
    return {
        "t-skew": (t > low) | (t < -high),
        "johnson": plain & (np.abs(moved / np.sqrt(spread / n)) > quantile),
        "bootstrap-t": _bootstrap_t(means[:4_000], t[:4_000], rng, draws),
    }


def _unskewed(t, skewness, n):
    k = skewness / np.sqrt(n)
    k = np.where(np.abs(k) < 1e-6, 1e-6, k)
    return 3 / k * (np.cbrt(1 + k * (t - k / 6)) - 1)


def _bootstrap_t(means, t, rng, draws):
    studies, n = means.shape
    drawn = np.take_along_axis(
        means[:, None, :].repeat(draws, 1), rng.integers(0, n, (studies, draws, n)), 2
    )
    away = drawn.mean(2) - means.mean(1)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        of = np.where(away == 0, 0.0, away / (drawn.std(2, ddof=1) / np.sqrt(n)))
    low = np.quantile(of, 0.025, axis=1, method="lower")
    return (t > np.quantile(of, 0.975, axis=1, method="higher")) | (t < low)
