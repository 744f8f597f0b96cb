"""How often tests of two methods err, and what they detect: `python -m benchmarks.methods
[--long]`.

Prints the tables of docs/statistics.md, section "The difference between two methods". Simulated are
differences d = delta + T_f + R_fs + C_fc + E_fsc with variances T, R, C = 1 and E = 0.3 of training
set, training, case and rest. `--long` has five times as many studies, and `--bound` adds what no
test can exceed (minutes).
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator

import numpy as np

from benchmarks.balanced import (
    Design,
    Variances,
    differences,
    normal_squares,
    p_values,
    squares,
)
from benchmarks.bounds import most_power
from benchmarks.skew import rejections
from record.command import begin_command
from reports.statistics import detectable, power
from reports.statistics.wilcoxon import untied_null

STEPS = (0.0, 0.03, 0.1, 0.3)
FOLDS, SEEDS, CASES = (3, 5, 10), (1, 2, 3, 5), (20, 60, 200)
TESTS = {
    "cases": "over cases",
    "runs": "over runs",
    "folds": "t over folds",
    "nadeau-bengio": "Nadeau-Bengio",
    "components": "components alone",
    "methods": "**methods**",
}


def main() -> None:
    begin_command()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--long", action="store_true", help="five times as many studies")
    parser.add_argument("--bound", action="store_true", help="what no test can exceed")
    options = parser.parse_args()
    rng, studies = np.random.default_rng(0), 10_000 if options.long else 2_000
    print_errors(rng, studies)
    print_worst(rng, studies)
    print_skewed(rng, 10 * studies)
    print_small_levels(rng, 10 * studies)
    print_power(rng, studies)
    print_shared(rng, studies)
    if options.bound:
        print_bound()


def print_errors(rng: np.random.Generator, studies: int) -> None:
    """Type I error of all tests in the design of most studies."""
    print("\n## Type I error at 0.05: 5 folds x 40 cases\n")
    table(["T", "R", "seeds", *TESTS.values()])
    for seeds, (fold, training) in itertools.product(
        (1, 3), ((0, 0), (0, 0.03), (0, 0.1), (0, 0.3), (0.03, 0), (0.03, 0.1), (0.3, 0.1))
    ):
        design = Design(5, seeds, 40)
        d = differences(rng, studies, design, Variances(fold, training))
        p = p_values(squares(d), design) | {
            "cases": signed_rank(d.mean(2).reshape(studies, -1)),
            "runs": signed_rank(d.mean(3).reshape(studies, -1)),
        }
        row(fold, training, seeds, *(f"{(p[test] < 0.05).mean():.3f}" for test in TESTS))


def print_worst(rng: np.random.Generator, studies: int) -> None:
    """The worst type I error of all cells of the grid.

    The largest of hundreds of errors is large by chance, too: the three largest are simulated again
    with ten times as many studies, and that is what is printed.
    """
    shown = ("folds", "components", "methods")
    print(
        "\n## Worst type I error at 0.05 over T and R of 0, 0.03, 0.1, 0.3, 1 to 5 seeds and 20 to"
    )
    print("200 cases (in brackets T, R, seeds and cases of the worst)\n")
    table(["effects", "folds", *(TESTS[test] for test in shown)])
    for effects, folds in itertools.product(("normal", "cases skewed", "all skewed"), FOLDS):
        cells = list(grid(folds))
        errors = [errors_of(rng, studies, effects, *cell) for cell in cells]
        texts = []
        for test in shown:
            worst = sorted(range(len(cells)), key=lambda place: errors[place][test])[-3:]
            again = [
                (errors_of(rng, 10 * studies, effects, *cells[place])[test], cells[place])
                for place in worst
            ]
            error, (design, variances) = max(again)
            where = f"{variances.fold:g}, {variances.training:g}, {design.seeds}"
            texts.append(f"{error:.3f} ({where}, {folds * design.each})")
        row(effects, folds, *texts)


def errors_of(
    rng: np.random.Generator, studies: int, effects: str, design: Design, variances: Variances
) -> dict[str, float]:
    """Type I errors at 0.05 where the effects are normal, those of cases skewed, or all."""
    rejected: dict[str, list[float]] = {}
    for size in [2_000] * (studies // 2_000):
        if effects == "normal":
            found = normal_squares(rng, size, design, variances)
        else:
            skew = {"shape": "skewed", "all_skewed": effects == "all skewed"}
            found = squares(differences(rng, size, design, variances, **skew))
        for test, p in p_values(found, design).items():
            rejected.setdefault(test, []).append(float((p < 0.05).mean()))
    return {test: float(np.mean(of)) for test, of in rejected.items()}


def print_skewed(rng: np.random.Generator, studies: int) -> None:
    """What holds where the effects of training sets are skewed, and what it costs where not."""
    tried = ("t-skew", "johnson", "bootstrap-t")
    print("\n## All effects exponential: type I error; and power where all are normal\n")
    print("The difference is 2.5 standard deviations of the mean; tests beside t-skew, Johnson and")
    print(
        "the bootstrap-t, which see fold means alone, are demanded in addition to the methods'.\n"
    )
    table(["effects", "folds", "T", "R", "seeds", "cases", TESTS["methods"], *tried])
    cells = (
        (3, 0.3, 0.1, 1, 20),
        (3, 0.3, 0.0, 5, 66),
        (5, 0.3, 0.0, 3, 12),
        (5, 0.3, 0.0, 5, 40),
        (10, 0.3, 0.03, 3, 6),
        (10, 0.3, 0.0, 5, 20),
    )
    for effects, (folds, fold, training, seeds, each) in itertools.product(
        ("skewed", "normal"), cells
    ):
        design, shape = Design(folds, seeds, each), {"shape": effects, "all_skewed": True}
        d = differences(rng, studies, design, Variances(fold, training), **shape)
        if effects == "normal":
            d += 2.5 * d.mean((1, 2, 3)).std()
        found = p_values(squares(d), design)["methods"] < 0.05
        others = rejections(d.mean((2, 3)), rng)
        shares = [(found[: len(others[test])] & others[test]).mean() for test in tried]
        size = (folds, fold, training, seeds, folds * each)
        row(effects, *size, *(f"{of:.3f}" for of in (found.mean(), *shares)))


def print_small_levels(rng: np.random.Generator, studies: int) -> None:
    """Type I error at the levels that corrections for many tests use, as multiples of the level."""
    print("\n## Type I error over its level, worst T of 0, 0.03, 0.1, 0.3, 1 (3 seeds, 60 cases)\n")
    table(["folds", "test", "0.05", "0.005", "0.0005"])
    for folds, test in itertools.product(FOLDS, ("components", "methods")):
        worst = dict.fromkeys((0.05, 0.005, 0.0005), 0.0)
        for fold in (*STEPS, 1.0):
            design = Design(folds, 3, 60 // folds)
            p = p_values(normal_squares(rng, studies, design, Variances(fold, 0.03)), design)[test]
            worst = {level: max(of, (p < level).mean() / level) for level, of in worst.items()}
        row(folds, TESTS[test], *(f"{value:.2f}" for value in worst.values()))


def print_power(rng: np.random.Generator, studies: int) -> None:
    """Power at one difference, simulated and as promised; and what Nadeau and Bengio cost."""
    shown = ("folds", "nadeau-bengio", "components", "methods")
    print(
        "\n## Power for a difference of 0.25 (200 cases, R = 0.03); the difference seen with 0.8\n"
    )
    table(["T", "folds", "seeds", *(TESTS[test] for test in shown), "promised", "0.8", "0.8 (NB)"])
    for fold, folds, seeds in itertools.product((0.0, 0.03), FOLDS, (1, 3, 10)):
        design, variances = Design(folds, seeds, 200 // folds), Variances(fold, 0.03)
        found = normal_squares(rng, studies, design, variances)
        p = p_values(found._replace(mean=found.mean + 0.25), design)
        size = {"folds": folds, "seeds": seeds, "cases": folds * design.each}
        known = variances._asdict()
        row(
            fold, folds, seeds,
            *(f"{(p[test] < 0.05).mean():.2f}" for test in shown),
            f"{power(0.25, known, **size):.2f}",
            f"{detectable(known, **size):.2f}",
            f"{detectable(known, **size, variance='nadeau-bengio'):.2f}",
        )  # fmt: skip


def print_shared(rng: np.random.Generator, studies: int) -> None:
    """Training sets of one cross-validation share (K - 2) / (K - 1) of their cases."""
    print("\n## Type I error where what folds share correlates their effects (3 seeds, R = 0)\n")
    table(["T", "folds", *(TESTS[test] for test in ("folds", "nadeau-bengio", "methods"))])
    for fold, folds in itertools.product((0.0, 0.03, 0.1), FOLDS):
        design, shared = Design(folds, 3, 200 // folds), (folds - 2) / (folds - 1)
        d = differences(rng, studies, design, Variances(fold, 0.0), shared=shared)
        p = p_values(squares(d), design)
        row(
            fold,
            folds,
            *(f"{(p[t] < 0.05).mean():.3f}" for t in ("folds", "nadeau-bengio", "methods")),
        )


def print_bound() -> None:
    """The power of the best test that keeps its level for every T, where T is 0."""
    print(
        "\n## Power where T = 0, other variances known, of tests that keep their level for all T\n"
    )
    table(["folds", "level", "t over folds", "no test exceeds", "known T"])
    for folds, level in itertools.product(FOLDS, (0.05, 0.06, 0.005)):
        row(folds, level, *(f"{value:.3f}" for value in most_power(folds, level)))


def grid(folds: int) -> Iterator[tuple[Design, Variances]]:
    for of_seeds, of_cases in itertools.product(SEEDS, CASES):
        design = Design(folds, of_seeds, max(of_cases // folds, 2))
        for fold, training in itertools.product(STEPS, STEPS):
            yield design, Variances(fold, training)


def signed_rank(values: np.ndarray) -> np.ndarray:
    """Exact two-sided p of the signed-rank test of every row [studies, n] of untied values."""
    n = values.shape[1]
    ranks = np.abs(values).argsort(axis=1).argsort(axis=1) + 1
    plus = (ranks * (values > 0)).sum(1)
    smaller = np.minimum(plus, n * (n + 1) // 2 - plus)
    null = untied_null(n)
    of = {w: min(2 * null.cdf(int(w)), 1.0) for w in np.unique(smaller)}
    return np.array([of[w] for w in smaller])


def table(columns) -> None:
    print("| " + " | ".join(columns) + " |")
    print("|" + " ---: |" * len(columns))


def row(*values) -> None:
    print("| " + " | ".join(map(str, values)) + " |", flush=True)


if __name__ == "__main__":
    main()
