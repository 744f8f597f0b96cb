"""How often intervals of a mean paired difference cover it: `python -m benchmarks.intervals`.

Nominal 95 %. Compared are Student's t, the bootstrap-t, the BCa bootstrap, and the interval of
`mean_difference` ("t-skew": each end the outer one of Student's t and Hall's skewness-corrected t).
One to two minutes on one core.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import stats

from record.arguments import whole
from record.command import begin_command
from reports.statistics import mean_difference

SIZES = (3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100, 200)
METHODS = ("t", "bootstrap-t", "BCa", "t-skew")


def draws(rng, kind, studies, n):
    """Differences [studies, n] and their true mean."""
    normal = rng.standard_normal((studies, n))
    if kind == "normal":
        return normal, 0.0
    if kind == "exponential":
        return rng.standard_exponential((studies, n)), 1.0
    if kind == "lognormal":
        return np.exp(normal), float(np.exp(0.5))
    # Dice differences of sd 0.05 around 0.01; a missed structure costs 0.8.
    found = 0.01 + 0.05 * normal + 0.8 * (rng.random((studies, n)) < 0.05)
    if kind == "baseline misses 5 %":
        return found, 0.05
    return found - 0.8 * (rng.random((studies, n)) < 0.05), 0.01


KINDS = ("normal", "exponential", "lognormal", "baseline misses 5 %", "both miss 5 %")


def ends(rng, d, resamples):
    """Low and high end of every method for one study d [n]."""
    n, mean, error = len(d), d.mean(), stats.sem(d)
    t = stats.t.ppf(0.975, n - 1)
    drawn = d[rng.integers(0, n, (resamples, n))]
    means, errors = drawn.mean(1), drawn.std(1, ddof=1) / np.sqrt(n)
    studentised = (means - mean) / np.maximum(errors, 1e-3 * error)
    low_t, high_t = np.quantile(studentised, [0.025, 0.975])
    below = (means < mean - 1e-12).mean() + (np.abs(means - mean) <= 1e-12).mean() / 2
    bias = stats.norm.ppf(np.clip(below, 0.5 / resamples, 1 - 0.5 / resamples))
    residuals = d - mean
    acceleration = (residuals**3).sum() / (6 * (residuals**2).sum() ** 1.5)
    shifted = bias + stats.norm.ppf([0.025, 0.975])
    at = stats.norm.cdf(bias + shifted / np.maximum(1 - acceleration * shifted, 1e-12))
    ours = mean_difference(d, np.zeros(n))
    return (
        (mean - t * error, mean + t * error),
        (mean - high_t * error, mean - low_t * error),
        tuple(np.quantile(means, at)),
        (ours.low, ours.high),
    )


def main() -> None:
    begin_command()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=whole, default=1000, help="a cell (default 1000)")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    print("Coverage; in brackets the median width over that of Student's t\n")
    print("| n | differences | " + " | ".join(METHODS) + " |")
    print("| ---: | :--- |" + " ---: |" * len(METHODS))
    for n in SIZES:
        for kind in KINDS:
            d, mean = draws(rng, kind, options.studies, n)
            found = np.array([ends(rng, of, resamples=400) for of in d])  # [studies, methods, 2]
            covers = ((found[..., 0] <= mean) & (mean <= found[..., 1])).mean(0)
            width = np.median(found[..., 1] - found[..., 0], axis=0)
            cells = [f"{c:.2f} ({w:.2f})" for c, w in zip(covers, width / width[0], strict=True)]
            print(f"| {n} | {kind} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
