"""The significance table: every comparison, task, fraction and metric, tested over cases and for
the methods, corrected within families.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from record.comparison import Comparison
from record.schema import Commit, StudyPlan
from reports.sections.exploratory import Exploratory, Test
from reports.sections.row_tests import (
    NOT_FOR_METHODS,
    NOT_TESTABLE,
    of_methods,
    over_cases,
)
from reports.statistics import adjust
from reports.statistics.adjustment import ALPHA, Adjustment
from reports.statistics.pairing import (
    PairingError,
    paired,
    planned_cells,
    require_same_cases,
    require_same_values,
)
from reports.statistics.place_scores import Places
from reports.statistics.run_scores import (
    repeats_of,
    run_differences,
    trainings_of,
)

SIGNIFICANT, NOT_SIGNIFICANT = "significant", "not significant"
ONLY_CASES = "these trainings only"
PAPER = "as the paper counts (raw p over cases)"
TESTED = (SIGNIFICANT, NOT_SIGNIFICANT, ONLY_CASES)
CASES_TESTED = (*TESTED, NOT_FOR_METHODS)  # rows whose p over cases means something

COLUMNS = (
    "baseline",
    "candidate",
    "task",
    "fraction",
    "metric",
    "n",
    "baseline_mean",
    "baseline_sd",
    "candidate_mean",
    "candidate_sd",
    "difference",
    "difference_low",
    "difference_high",
    "change_percent",
    "shift",
    "shift_low",
    "shift_high",
    "rank_biserial",
    "better",
    "favours",
    "favours_cases",
    "equivalence",
    "baseline_seed_sd",
    "candidate_seed_sd",
    "p_cases",
    "p_methods",
    "p_holm",
    "p_bh",
    "p_cases_holm",
    "p_floor",
    "n_zero",
    "n_tied",
    "cases_test",
    "capped",
    "dropped",
    "folds",
    "trainings",
    "method_difference",
    "method_se",
    "method_low",
    "method_high",
    "method_df",
    "method",
    "component_fold",
    "component_training",
    "component_case",
    "component_rest",
    "p_runs",
    "p_runs_floor",
    "detectable",
    "margin",
    "probability_below",
    "probability_within",
    "probability_beyond",
    "family",
    "exploratory",
    "verdict",
)
_WORDS = ("better", "favours", "favours_cases", "equivalence", "cases_test", "method", "verdict")


def significance_table(
    rows: pd.DataFrame,
    plan: StudyPlan,
    commits: Mapping[str, Commit],
    frozen: Exploratory | None = None,
) -> pd.DataFrame:
    """One row per comparison x task x fraction x metric, in the spec's order.

    These trainings, on new cases: means and sample standard deviations over cases (infinite
    distances capped at the volume's diagonal, counted in `capped`), `difference` candidate -
    baseline with its 95 % interval over cases, `change_percent` of the baseline's mean, `shift`
    (Hodges-Lehmann) with its 95 % interval, the matched-pairs `rank_biserial` correlation, `better`
    (the model with the better mean), the exact two-sided Wilcoxon signed-rank `p_cases` with
    `p_floor`, the smallest that can be had, `favours_cases` (the model that it favours, by the sum
    of the signed ranks), and `*_seed_sd` (between seeds, of the mean over cases).

    The methods, on new trainings, training sets and cases: `method_difference` with its standard
    error, interval, degrees of freedom, text and variance components, `p_methods`, with `p_holm`
    and `p_bh` within the family, `favours`, `equivalence` (where the method's interval lies against
    the spec's margin) with the probabilities of lying below, within and beyond it, `p_runs` (exact
    signed-rank test over runs) and `detectable`, the difference seen with 80 % power.

    `verdict`: `significant` (Holm of the methods at 0.05), `these trainings only` (Holm over cases
    is below 0.05, that of the methods is not), `not significant`, `not testable for methods` (one
    training set), `not testable` (p_floor >= 0.05) or `incomplete: ...`.

    `exploratory`: whether the row is not in the frozen analysis, NaN where none was frozen. Tests
    that are no part of a frozen family are families of their own, and change no p of the others.
    """
    table = tests_of(rows, plan, commits)
    if frozen is not None:
        tests = [_test(row) for row in table.to_dict("records")]
        table["exploratory"] = [frozen.row(test) for test in tests]
        table.loc[[frozen.apart(test) for test in tests], "family"] += " | exploratory"
    judge(table)
    return table


def tests_of(rows: pd.DataFrame, plan: StudyPlan, commits: Mapping[str, Commit]) -> pd.DataFrame:
    """The rows of `significance_table` before anything is corrected for the others of a family."""
    used = {
        name
        for comparison in plan.comparisons
        for name in (comparison.baseline, *comparison.candidates)
    }
    compared = rows[rows["model"].isin(used)]
    here = Places(compared, plan)
    return pd.DataFrame(
        [
            _row(
                here,
                plan,
                commits,
                comparison,
                candidate,
                task,
                fraction,
                metric,
                number,
            )
            for number, comparison in enumerate(plan.comparisons)
            for candidate, fraction, task, metric in itertools.product(
                comparison.candidates, plan.fractions, plan.tasks, comparison.metrics
            )
        ],
        columns=list(COLUMNS),
    )


def _test(row: Mapping[Any, Any]) -> Test:
    """The row's test, as an analysis names it."""
    baseline, candidate, task = (str(row[name]) for name in ("baseline", "candidate", "task"))
    return baseline, candidate, task, float(row["fraction"]), str(row["metric"])


def judge(table: pd.DataFrame) -> None:
    """Correct the rows of `tests_of` within their families, and say what they come to."""
    testable = table["verdict"] == ""
    for_cases = testable | (table["verdict"] == NOT_FOR_METHODS)
    _correct(table[testable], "p_methods", "holm", table, "p_holm")
    _correct(table[testable], "p_methods", "bh", table, "p_bh")
    _correct(table[for_cases], "p_cases", "holm", table, "p_cases_holm")
    by_methods, by_cases = (
        table.loc[testable, name].astype(float) < ALPHA for name in ("p_holm", "p_cases_holm")
    )
    table.loc[testable, "verdict"] = np.select(
        [by_methods, by_cases], [SIGNIFICANT, ONLY_CASES], NOT_SIGNIFICANT
    )


def _correct(
    members: pd.DataFrame, p: str, how: Adjustment, table: pd.DataFrame, column: str
) -> None:
    """Fill a column of the table with these rows' p, corrected within their families."""
    for _, family in members.groupby("family", sort=False):
        table.loc[family.index, column] = adjust(family[p].to_numpy(dtype=float), how)


def trainings_only(row: Mapping[Any, Any] | pd.Series) -> bool:
    """Whether only the cases support a difference: these trainings differ, the methods may not."""
    supported = row["verdict"] in (ONLY_CASES, NOT_FOR_METHODS)
    return bool(supported and row["p_cases_holm"] < ALPHA)


def counts(table: pd.DataFrame) -> list[tuple[str, str]]:
    """What is counted, and `k/m`: p < 0.05 of the methods, rows without a test, the paper's way."""
    total = len(table)
    tested = table[table["verdict"].isin(TESTED)]
    for_cases = table[table["verdict"].isin(CASES_TESTED)]
    found = {
        name: int((tested[column].astype(float) < ALPHA).sum())
        for name, column in (("raw", "p_methods"), ("Holm", "p_holm"), ("BH", "p_bh"))
    }
    found[NOT_TESTABLE] = int((table["verdict"] == NOT_TESTABLE).sum())
    for name in (NOT_FOR_METHODS, ONLY_CASES):
        if number := int((table["verdict"] == name).sum()):
            found[name] = number
    if missing := int(table["verdict"].str.startswith("incomplete").sum()):
        found["incomplete"] = missing
    found[PAPER] = int((for_cases["p_cases"].astype(float) < ALPHA).sum())
    return [(name, f"{count}/{total}") for name, count in found.items()]


def count_line(table: pd.DataFrame) -> str:
    """`counts` in one line, over the whole table; the paper's way stands last."""
    *recommended, paper = (f"{count} {name}" for name, count in counts(table))
    return f"{', '.join(recommended)}; {paper}"


def _row(
    here: Places,
    plan: StudyPlan,
    commits: Mapping[str, Commit],
    comparison: Comparison,
    candidate: str,
    task: str,
    fraction: float,
    metric: str,
    number: int,
) -> dict[str, Any]:
    key = {"candidate": candidate, "task": task, "fraction": fraction, "metric": metric}
    row: dict[str, Any] = dict.fromkeys(COLUMNS, np.nan) | key
    row |= {"baseline": comparison.baseline} | dict.fromkeys(_WORDS, "")
    row["family"] = " | ".join(
        [str(number), *(f"{name}={key[name]}" for name in comparison.family)]
    )
    models = (comparison.baseline, candidate)
    cells = [
        cell
        for model in models
        for cell in planned_cells(plan, model=model, task=task, fraction=fraction)
    ]
    if missing := sum(cell.eval_id not in commits for cell in cells):
        return row | {"n": 0, "verdict": f"incomplete: {missing} of {len(cells)} trials missing"}
    about, places = plan.metrics[metric], [(model, task, fraction) for model in models]
    of_baseline, of_candidate = places
    try:
        require_same_cases(here.cases(of_candidate), here.cases(of_baseline), models[::-1])
        y, x = (here.scores(metric, place) for place in places)
        require_same_values(x.known, y.known, models[::-1])
    except PairingError as error:
        return row | {"n": 0, "verdict": f"incomplete: {error}"}
    pairs = paired(x.cases, y.cases)
    row |= {"baseline_seed_sd": y.seed_spread, "candidate_seed_sd": x.seed_spread}
    trainings = trainings_of(plan, commits, candidate, task, fraction, comparison.baseline)
    differences = run_differences(x.runs, y.runs, trainings, repeats_of(plan))
    higher, margin = about.higher_is_better, comparison.equivalence.get(metric)
    row |= over_cases(pairs, models, higher_is_better=higher)
    row |= of_methods(
        differences,
        models,
        higher_is_better=higher,
        margin=margin,
        variance=comparison.variance,
    )
    if row["verdict"] == NOT_TESTABLE:
        return row | {"equivalence": "", "favours": "", "detectable": np.nan}
    return row | {"verdict": NOT_FOR_METHODS if np.isnan(row["p_methods"]) else ""}
