"""Golden values from R 4.2.2 with coin 1.4.2, each beside the R command that gave it.

The quick test holds our code to the stored values; the slow one runs the commands in the R that is
installed (Debian: r-base-core and r-cran-coin) and holds the stored values to it.
"""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from reports.statistics import (
    Interval,
    adjust,
    critical_difference,
    friedman,
    hodges_lehmann,
    paired_wilcoxon,
)

_STEPS = np.arange(1, 1501)
DATA = {
    "mixed": np.array([0.3, -0.1, 0, 0.2, 0.2, -0.2, 0.5, 0, 0.1, 0.4]),
    "sparse": np.array([0.0] * 16 + [0.1, 0.1, 0.2, 0.4]),
    "pratt25": ((_STEPS[:25] * 7) % 11 - 4) / 100,
    "cases484": ((_STEPS[:484] * 37) % 41 - 18) / 100,
    "cases1000": ((_STEPS[:1000] * 89) % 199 - 94) / 1000,
    "untied30": np.round((_STEPS[:30] * np.sqrt(2)) % 1 - 0.38, 6),
    "untied100": np.round((_STEPS[:100] * np.sqrt(3)) % 1 - 0.44, 6),
    "long": ((_STEPS * 37) % 101 - 48) / 100,
    "p": np.array([0.012, 0.0004, 0.2, 0.03, 0.03, 0.7, 0.0491, 0.9]),
    "scores": ((_STEPS[:48] * 29) % 7 + np.tile([0, 1, 3, 2], 12)) / 10,  # 12 rows of 4 models
}


@dataclass(frozen=True)
class Golden:
    data: str
    r: str  # an R expression of v, the data set
    values: Sequence[float]
    ours: Callable[[np.ndarray], Sequence[float]]
    relative: float = 1e-12


def p_value(zeros: str) -> Callable[[np.ndarray], Sequence[float]]:
    return lambda v: [paired_wilcoxon(v, np.zeros_like(v), zeros=zeros).p]


def coin(zero_method: str) -> str:
    test = (
        f'wilcoxsign_test(v ~ rep(0, length(v)), zero.method = "{zero_method}", distribution = '
        "exact())"
    )
    return f"as.numeric(pvalue({test}))"


def shift(level: float) -> Callable[[np.ndarray], Sequence[float]]:
    return lambda v: ends(hodges_lehmann(v, np.zeros_like(v), level=level))


def ends(interval: Interval) -> Sequence[float]:
    return [interval.estimate, interval.low, interval.high]


SHIFT = (
    "with(wilcox.test(v, exact = TRUE, conf.int = TRUE, conf.level = {}), c(estimate, conf.int))"
)
GOLDEN = [
    Golden("mixed", coin("Pratt"), [0.1171875], p_value("pratt")),
    Golden("mixed", coin("Wilcoxon"), [0.1015625], p_value("wilcox")),
    Golden("sparse", coin("Pratt"), [0.125], p_value("pratt")),
    Golden("pratt25", coin("Pratt"), [0.0957484245300293], p_value("pratt")),
    Golden("pratt25", coin("Wilcoxon"), [0.08450984954833984], p_value("wilcox")),
    Golden("cases484", coin("Pratt"), [0.00019443662813754917], p_value("pratt")),
    Golden("cases484", coin("Wilcoxon"), [0.00016444160994412492], p_value("wilcox")),
    Golden("cases1000", coin("Pratt"), [0.006744286436171398], p_value("pratt")),
    Golden(
        "untied30", "wilcox.test(v, exact = TRUE)$p.value", [0.06355648860335351], p_value("pratt")
    ),
    Golden(
        "untied100", "wilcox.test(v, exact = TRUE)$p.value", [0.05679127743558026], p_value("pratt")
    ),
    Golden(
        "long",
        "wilcox.test(v, exact = FALSE, correct = TRUE)$p.value",
        [0.009135893547671933],
        p_value("wilcox"),
    ),
    Golden(
        "untied30",
        SHIFT.format(0.95),
        [0.10528150000000003, -0.009942499999999993, 0.2266015],
        shift(0.95),
    ),
    Golden(
        "untied30",
        SHIFT.format(0.9),
        [0.10528150000000003, 0.004776500000000017, 0.19716450000000002],
        shift(0.9),
    ),
    Golden(
        "untied100",
        SHIFT.format(0.95),
        [0.0574225, -0.00029100000000000306, 0.11702349999999999],
        shift(0.95),
    ),
    Golden(
        "p",
        'p.adjust(v, "holm")',
        [0.084, 0.0032, 0.6000000000000001, 0.18, 0.18, 1.0, 0.1964, 1.0],
        lambda v: adjust(v, "holm"),
    ),
    Golden(
        "p",
        'p.adjust(v, "BH")',
        [0.048, 0.0032, 0.26666666666666666, 0.06, 0.06, 0.7999999999999999, 0.07856, 0.9],
        lambda v: adjust(v, "bh"),
    ),
    Golden(
        "scores",
        "with(friedman.test(matrix(v, ncol = 4, byrow = TRUE)), c(statistic, p.value))",
        [6.192660550458716, 0.10260397281940327],
        lambda v: [friedman(v.reshape(12, 4)).statistic, friedman(v.reshape(12, 4)).p],
    ),
    Golden(
        "scores",
        "qtukey(0.95, 15, Inf) / sqrt(2) * sqrt(15 * 16 / (6 * 10))",
        [6.782460567197662],
        lambda v: [critical_difference(10, 15)],
        relative=1e-9,  # R's qtukey stops at about 1e-10
    ),
]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"{case.data}: {case.r}")
def test_our_numbers_are_those_of_r(case: Golden) -> None:
    assert case.ours(DATA[case.data]) == pytest.approx(case.values, rel=case.relative, abs=5e-16)


def missing_r() -> str:
    """Why R cannot be asked, or nothing."""
    if shutil.which("Rscript") is None:
        return "Rscript is not installed (Debian: r-base-core)"
    if subprocess.run(
        ["Rscript", "-e", "library(coin)"], capture_output=True, check=False
    ).returncode:
        return "R's package coin is not installed (Debian: r-cran-coin)"
    return ""


@pytest.mark.slow
def test_the_stored_numbers_are_what_r_prints() -> None:
    if reason := missing_r():
        pytest.skip(reason)
    lines = ["suppressMessages(library(coin))"]
    lines += [
        f"{name} <- c({', '.join(map(repr, values.tolist()))})" for name, values in DATA.items()
    ]
    lines += [f"v <- {case.data}; cat(sprintf('%.17g', {case.r}), '\\n')" for case in GOLDEN]
    printed = subprocess.run(
        ["Rscript", "-"], input="\n".join(lines), capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert len(printed) == len(GOLDEN)
    for line, case in zip(printed, GOLDEN, strict=True):
        numbers = [float(number) for number in line.split()]
        assert numbers == pytest.approx(case.values, rel=1e-12, abs=5e-16), case.r
