"""The difference between two methods: on new patients, new trainings and new training sets.

The exact test over cases speaks of two trained networks. This one takes fold, training and case as
random (`cells`, `components`) and so speaks of the methods. It asks two questions of which each
alone is known to fail, and believes the less certain answer:

- the variance components, a fold component below 0 cut to 0, with Satterthwaite's degrees of
  freedom: too sure where training sets do matter but seemed not to;
- the scatter of the folds alone, with K - 1 degrees of freedom: right whatever the components are,
  but with few folds it is now and then far too small, and then finds what no other test finds.

Where the fold component is above 0 the two have one standard error. Where it is 0 the second may
be up to `RELAXED` times its p, because there the first watches over it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit

from reports.statistics.cells import cells
from reports.statistics.components import Components, fit

Variance = Literal["independent", "nadeau-bengio"]
Method = Literal["folds", "pooled", "nadeau-bengio"]
COMPONENTS = ("fold", "training", "case", "rest")

# How far p over folds may exceed the level where the fold component is 0, by the number of folds.
# Simulated (benchmarks/methods.py): with these the type I error at 0.05 is at most 0.054 where all
# effects are normal, 0.061 where those of cases are as skewed as an exponential, and up to 0.10
# where those of training sets and trainings are, as that of the t over folds. Of normal effects it
# is at most this many times the level, at every level and for all components.
RELAXED = {2: 1.0, 3: 4 / 3}
RELAXED_MORE_FOLDS = 1.5


@dataclass(frozen=True)
class MethodDifference:
    """The mean paired difference between two methods with its interval and two-sided test.

    method: "folds" (the fold component is above 0), "pooled" (it is 0), "nadeau-bengio", or a text
    that begins with "not testable"; then p, low and high are NaN.
    """

    estimate: float
    se: float  # of the components by REML
    low: float
    high: float
    level: float
    p: float
    df: float  # of the interval
    components: Mapping[str, float]  # variances of fold, training, case and rest
    method: str
    n: int  # differences
    folds: int
    trainings: int  # of one model, all folds together
    cases: int

    @property
    def testable(self) -> bool:
        return not math.isnan(self.p)

    @property
    def scale(self) -> float:
        """The standard error that a t with `df` degrees of freedom needs for this interval."""
        half = (self.high - self.low) / 2
        return half / float(stdtrit(self.df, (1 + self.level) / 2)) if half else half


def method_difference(
    differences: ArrayLike,
    *,
    fold: Sequence[object],
    training: Sequence[object],
    case: Sequence[object],
    repeat: Sequence[object] | None = None,
    level: float = 0.95,
    variance: Variance = "independent",
) -> MethodDifference:
    """Estimate and test the mean of paired differences d_fsc, candidate minus baseline.

    Args:
        differences: [n], finite: infinite distances capped, label groups and cases averaged before.
        fold: the training set of each.
        training: the seed, within its fold.
        case: the test case or patient, within its fold.
        repeat: which cross-validation, if several were made of the same cases.
        level: of the interval.
        variance: "independent" takes the folds' training sets for independent ones.
            "nadeau-bengio" allows for what they share (C. Nadeau and Y. Bengio, Machine Learning 52
            (2003)): the variance between folds grows by the factor 1 + K / (K - 1), K folds.

    Raises:
        ValueError: lengths differ, a difference is not finite, a case has two differences from one
            training, level lies outside (0, 1), or variance is unknown.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, such as 0.95, but is {level}")
    if variance not in get_args(Variance):
        raise ValueError(f"variance must be one of {list(get_args(Variance))}, but is {variance!r}")
    data = cells(differences, fold, training, case, repeat)
    counts = {name: data.counts[name] for name in ("n", "folds", "trainings", "cases")}
    if data.scale == 0:
        return _without_variation(data.shift, level, counts)
    found = fit(data)
    components = {name: float(getattr(found, name)) for name in COMPONENTS}
    if data.idle:  # what varies within a fold is the other effect, and nothing is left for the rest
        other = "case" if data.idle == "training" else "training"
        components |= {data.idle: 0.0, other: found.rest, "rest": 0.0}
    if counts["folds"] == 1:
        return _untested("one training set", found.mean, level, components, counts)
    tests = _two_tests(found, data.counts, variance)
    half, df = max((test.half_width((1 - level) / 2), test.df) for test in tests)
    pooled: Method = "pooled" if found.fold == 0 else "folds"
    return MethodDifference(
        estimate=found.mean,
        se=found.se,
        low=found.mean - half,
        high=found.mean + half,
        level=level,
        p=max(test.p(found.mean) for test in tests),
        df=df,
        components=components,
        method=variance if variance == "nadeau-bengio" else pooled,
        **counts,
    )


class _Test(NamedTuple):
    """A t with a standard error, whose p may exceed the level by a factor."""

    scale: float
    df: float
    relaxed: float = 1.0

    def p(self, estimate: float) -> float:
        if estimate == 0 or self.scale == 0:
            return float(estimate == 0)
        return 2 * float(stdtr(self.df, -abs(estimate) / self.scale)) / self.relaxed

    def half_width(self, tail: float) -> float:
        """Of the interval whose ends have this p on either side."""
        return -self.scale * float(stdtrit(self.df, min(tail * self.relaxed, 0.5)))


def _two_tests(
    found: Components, counts: Mapping[str, int], variance: Variance
) -> tuple[_Test, _Test]:
    folds, repeats = counts["folds"], counts["repeats"]
    scatter = found.se * math.sqrt(found.fold_ratio)
    if variance == "nadeau-bengio":
        once = found.se if repeats == 1 else _error_of_one(found, counts)
        scatter *= shared_training_factor(folds / repeats, once / found.se)
        return _Test(found.se, found.df), _Test(scatter, found.fold_df)
    relaxed = relaxation(folds) if found.fold == 0 else 1.0
    return _Test(found.se, found.df), _Test(scatter, found.fold_df, relaxed)


def relaxation(folds: int) -> float:
    """How far p over folds may exceed the level where the fold component is 0."""
    return RELAXED.get(folds, RELAXED_MORE_FOLDS)


def shared_training_factor(folds: float, once: float = 1.0) -> float:
    """By how much Nadeau and Bengio widen the error over the folds of a cross-validation.

    One fold is tested for every K - 1 that are trained on, however often it is repeated: the
    variance of a fold's mean over K - 1 is added, which K / (K - 1) times that of one
    cross-validation's mean is.

    Args:
        folds: K, of one cross-validation.
        once: the standard error of one cross-validation over that of all repeats together.
    """
    return math.sqrt(1 + folds / (folds - 1) * once**2)


def _error_of_one(found: Components, counts: Mapping[str, int]) -> float:
    """The standard error of one cross-validation of those that were made, by the components."""
    fold, training, case, rest = (
        0.0 if math.isnan(value := float(getattr(found, name))) else value for name in COMPONENTS
    )
    if counts["n"] == counts["trainings"]:  # a value a training: what varies there is drawn anew
        training, rest = training + rest, 0.0
    seeds = counts["trainings"] / counts["folds"]
    folds = counts["folds"] / counts["repeats"]
    of_folds, of_cases = fold + training / seeds, case + rest / seeds
    return math.sqrt(of_folds / folds + of_cases / counts["cases"])


def _untested(
    why: str, estimate: float, level: float, components: Mapping[str, float], counts: dict[str, int]
) -> MethodDifference:
    return MethodDifference(
        estimate=estimate,
        se=math.nan,
        low=math.nan,
        high=math.nan,
        level=level,
        p=math.nan,
        df=math.nan,
        components=dict(components),
        method=f"not testable: {why}",
        **counts,
    )


def _without_variation(value: float, level: float, counts: dict[str, int]) -> MethodDifference:
    """All differences equal: no difference at all if they are 0, and otherwise no test."""
    nothing = dict.fromkeys(COMPONENTS, 0.0)
    if counts["folds"] == 1 or value != 0:
        why = "one training set" if counts["folds"] == 1 else "all differences are equal"
        return _untested(why, value, level, nothing, counts)
    return MethodDifference(
        estimate=0.0,
        se=0.0,
        low=0.0,
        high=0.0,
        level=level,
        p=1.0,
        df=float(counts["folds"] - 1),
        components=nothing,
        method="pooled",
        **counts,
    )
