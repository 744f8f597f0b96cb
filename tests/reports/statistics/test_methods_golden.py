"""The mixed model is R's: lme4 1.1-31, lmerTest 3.1-3 and pbkrtest 0.5.2 under R 4.2.2.

The quick test holds our code to the stored values; the slow one runs the commands in the R that is
installed (Debian: r-base-core, r-cran-lme4, r-cran-lmertest, r-cran-pbkrtest) and holds the stored
values to it.
"""

import math
import shutil
import subprocess
from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy import stats

from reports.statistics import method_difference
from reports.statistics.cells import cells
from reports.statistics.components import fit
from tests.reports.statistics.designs import Design, fixed


def repeated(repeats=3, folds=4, cases=22, seeds=2):
    """A cross-validation made three times: a case is in one fold of each, with its own effect."""
    of = [fixed([cases], seeds, (0, 0, 0, 0.2 + 0.1 * number)) for number in range(repeats)]
    case = np.concatenate([design.case for design in of])
    number = np.repeat(np.arange(repeats), cases * seeds)
    fold = (case * (2 * number + 1) + case // 5) % folds
    shared = np.round(np.cos(case * 1.7) + 0.3 * np.sin(fold + 5.0 * number), 6)
    values = np.concatenate([design.differences for design in of]) + shared
    return Design(values, fold, np.concatenate([design.training for design in of]), case), number


DESIGNS = {
    "balanced": fixed([8] * 5, 3, (2, 0.1, 1, 0.3)),
    "unbalanced": fixed([6, 11, 4, 9], 3, (1.5, 0.2, 1, 0.3), keep=lambda rows: rows % 7 != 3),
    "no fold effect": fixed([6, 11, 4, 9], 3, (0, 0.2, 1, 0.3), keep=lambda rows: rows % 7 != 3),
    "no training effect": fixed([7, 5, 9], 2, (0.05, 0, 0.4, 0.6)),
    "one seed": fixed([9, 7, 8, 10], 1, (3, 0, 1, 0.3)),
    "large": fixed([12] * 10, 5, (0.5, 0.03, 1, 0.3), keep=lambda rows: rows % 11 != 5),
    "repeated": repeated()[0],
}
REPEATS = {"repeated": repeated()[1]}
NESTED = "(1 | f) + (1 | f:t) + (1 | f:c)"


@dataclass(frozen=True)
class Golden:
    """What R prints for a design, by the command that `command` gives."""

    design: str
    model: list[float]  # mean, its se, variances of fold, training, case, rest (NaN: not in it)
    tests: list[float]  # df by Satterthwaite, df by Kenward-Roger, p by Kenward-Roger
    effects: str = NESTED
    labels: tuple[str, ...] = field(default=("f", "f:t", "f:c", "Residual"))

    def command(self):
        wanted = ", ".join(f'"{label}"' for label in self.labels)
        return (
            f"m <- lmer(y ~ 1 + {self.effects}, d, control = lmerControl(optimizer = 'bobyqa', "
            "optCtrl = list(rhoend = 1e-11, maxfun = 1e5))); v <- as.data.frame(VarCorr(m)); "
            f"cat(sprintf('%.17g', c(fixef(m), sqrt(vcov(m)[1, 1]), "
            f"v$vcov[match(c({wanted}), v$grp)], "
            "coef(summary(m))[3], coef(summary(m, ddf = 'Kenward-Roger'))[c(3, 5)])), '\\n')"
        )


NAN = math.nan
GOLDEN = [
    Golden(
        "balanced",
        [-0.075077375, 0.5603268531, 1.398532079, 0.1101033309, 0.9944231661, 0.2470758387],
        [3.999997925, 4, 0.8998826921],
    ),
    Golden(
        "unbalanced",
        [0.4487114966, 0.3858940207, 0.3950404683, 0.1671093995, 0.8632207672, 0.2684899291],
        [3.120300354, 2.946514825, 0.3329982706],
    ),
    Golden(
        "no fold effect",
        [0.2172809762, 0.2120048837, 0, 0.1520508549, 0.8221751499, 0.2691315828],
        [28.66478216, 2.617812034, 0.4089700713],
    ),
    Golden(
        "no training effect",
        [0.2345933218, 0.2792691586, 0.1667333523, 0, 0.08263993728, 0.7386263614],
        [1.885937055, 1.97636761, 0.4921773651],
    ),
    Golden(
        "one seed",
        [0.3222259049, 0.5226206082, 0.9630824639, NAN, NAN, 1.083338596],
        [2.923027999, 2.998501019, 0.5812407757],
        effects="(1 | f)",
    ),
    Golden(
        "large",
        [0.1623111775, 0.1937317965, 0.2853691127, 0.01341969214, 0.9723127904, 0.3361723786],
        [9.001119207, 8.999999694, 0.4238258316],
    ),
    Golden(
        "repeated",
        [0.2056721632, 0.1801737484, 0.02364467424, 0.01134768668, 0.6251231299, 0.1955267574],
        [23.30665867, 23.37794673, 0.2653902185],
        effects="(1 | r:f) + (1 | r:f:t) + (1 | c)",
        labels=("r:f", "r:f:t", "c", "Residual"),
    ),
]


def ours(design):
    """The mean, se, variances and Satterthwaite's df of our fit."""
    values, labels = DESIGNS[design].differences, DESIGNS[design].labels()
    found = fit(cells(values, **labels, repeat=REPEATS.get(design)))
    return [found.mean, found.se, found.fold, found.training, found.case, found.rest, found.df]


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.design)
def test_estimate_error_components_and_satterthwaite_are_those_of_r(golden):
    expected = [*golden.model, golden.tests[0]]
    assert ours(golden.design) == pytest.approx(expected, rel=1e-5, abs=1e-7, nan_ok=True)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.design)
def test_our_p_lies_where_satterthwaite_and_kenward_roger_put_it(golden):
    """It is Kenward-Roger's where folds differ, exactly so in balanced designs. Where the fold
    component is 0, it is at least Satterthwaite's."""
    result = method_difference(
        DESIGNS[golden.design].differences,
        **DESIGNS[golden.design].labels(),
        repeat=REPEATS.get(golden.design),
    )
    satterthwaite, kenward_roger, p = golden.tests
    assert (result.method == "pooled") == (golden.model[2] < 1e-8)
    if golden.design == "balanced":
        assert (result.df, result.p) == pytest.approx((kenward_roger, p), rel=1e-5)
    elif golden.design == "repeated":  # ours has no more degrees of freedom than the folds give
        assert result.df < kenward_roger
        assert result.p > p
    elif result.method == "folds":
        assert (result.df, result.p) == pytest.approx((kenward_roger, p), rel=0.05)
    mean, error = golden.model[:2]
    assert result.p >= 2 * stats.t.sf(abs(mean) / error, satterthwaite) - 1e-6


def missing_r():
    """Why R cannot be asked, or nothing."""
    if shutil.which("Rscript") is None:
        return "Rscript is not installed (Debian: r-base-core)"
    packages = "library(lme4); library(lmerTest); library(pbkrtest)"
    if subprocess.run(["Rscript", "-e", packages], capture_output=True, check=False).returncode:
        return "R lacks lme4, lmerTest or pbkrtest (Debian: r-cran-lmertest, r-cran-pbkrtest)"
    return ""


def from_r(golden):
    design = DESIGNS[golden.design]
    columns = dict(zip("yftc", tuple(design), strict=True))
    columns["r"] = REPEATS.get(golden.design, np.zeros_like(design.fold))
    lines = ["suppressMessages({library(lme4); library(lmerTest); library(pbkrtest)})"]
    lines += [f"{name} <- c({', '.join(map(str, of.tolist()))})" for name, of in columns.items()]
    lines += ["d <- data.frame(y, f = factor(f), t = factor(t), c = factor(c), r = factor(r))"]
    lines += [golden.command()]
    run = subprocess.run(
        ["Rscript", "-"], input="\n".join(lines), capture_output=True, text=True, check=True
    )
    return [math.nan if word == "NA" else float(word) for word in run.stdout.split()]


@pytest.mark.slow
@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.design)
def test_the_stored_numbers_are_what_r_prints(golden):
    if reason := missing_r():
        pytest.skip(reason)
    stored = [*golden.model, *golden.tests]
    assert from_r(golden) == pytest.approx(stored, rel=1e-6, abs=1e-8, nan_ok=True)
