"""The most power that any test can have which keeps its level whatever training sets matter.

Known of a study are its mean Z ~ N(shift, theta) and the squares between folds over what they would
be without an effect of training sets, F ~ theta chi-square / (K - 1); theta >= 1 is not known. A
test is a critical value of |Z| for every F. Among all of them, linear programming finds the one
with the most power at theta = 1 that rejects too often at no theta (the idea of G. Elliott, U. K.
Mueller and M. W. Watson, Econometrica 83 (2015)).
"""

from __future__ import annotations

import numpy as np
from scipy import optimize, sparse, stats

RATIOS, CRITICAL = 120, 160  # steps of F and of |Z|


def most_power(folds: int, level: float, of_known: float = 0.8) -> tuple[float, float, float]:
    """Power of the t over folds, of the best test, and of the z-test that knows theta.

    Args:
        folds: K.
        level: at most this type I error for all theta.
        of_known: the power of the test that knows theta; sets the difference.
    """
    df = folds - 1
    quantile = stats.norm.isf(level / 2)
    shift = stats.norm.ppf(of_known) + quantile
    ratios = np.concatenate([[0], np.exp(np.linspace(np.log(0.02), np.log(100), RATIOS)), [np.inf]])
    critical = np.exp(np.linspace(np.log(0.5), np.log(200), CRITICAL))

    def rejecting(theta: float, mean: float) -> np.ndarray:
        """Probability that F falls into each step and |Z| exceeds each critical value."""
        of_ratio = np.diff(stats.chi2.cdf(df * ratios / theta, df))
        scale = np.sqrt(theta)
        above = stats.norm.sf((critical - mean) / scale) + stats.norm.cdf(
            (-critical - mean) / scale
        )
        return np.outer(of_ratio, above).ravel()

    levels = np.array([rejecting(theta, 0.0) for theta in np.exp(np.linspace(0, np.log(300), 40))])
    once = sparse.kron(sparse.eye(len(ratios) - 1), np.ones((1, CRITICAL)))  # one value for every F
    found = optimize.linprog(
        -rejecting(1.0, shift),
        A_ub=sparse.vstack([sparse.csr_matrix(levels), once]),
        b_ub=np.concatenate([np.full(len(levels), level), np.ones(once.shape[0])]),
        bounds=(0, 1),
        method="highs",
    )
    t = stats.t.isf(level / 2, df)
    over_folds = stats.nct.sf(t, df, shift) + stats.nct.cdf(-t, df, shift)
    return float(over_folds), float(-found.fun), of_known
