"""The significance table: one paired test per comparison, task, fraction and metric, corrected
within families.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from record.schema import Commit, Comparison, StudyPlan
from reports.statistics import (
    adjust,
    equivalence,
    hodges_lehmann,
    mean_difference,
    paired_wilcoxon,
    rank_biserial,
)
from reports.statistics.pairing import (
    PairingError,
    Pairs,
    by_case,
    pair_sorted,
    planned_cells,
    seed_spread,
)

ALPHA = 0.05

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
    "equivalence",
    "baseline_seed_sd",
    "candidate_seed_sd",
    "p",
    "p_holm",
    "p_bh",
    "p_floor",
    "n_zero",
    "n_tied",
    "method",
    "capped",
    "dropped",
    "family",
    "verdict",
)


def significance_table(
    rows: pd.DataFrame, plan: StudyPlan, commits: Mapping[str, Commit]
) -> pd.DataFrame:
    """One row per comparison x task x fraction x metric, in the spec's order.

    Columns: means and sample standard deviations over cases (infinite distances capped at the
    volume's diagonal, counted in `capped`), `difference` candidate - baseline with its 95 %
    interval over cases, `change_percent` of the baseline's mean, `shift` (Hodges-Lehmann) with its
    95 % interval, the matched-pairs `rank_biserial` correlation, `better` (the model with the
    better mean), `favours` (the model that the test favours, by the sum of the signed ranks, which
    a few large values can set against the means), `equivalence` (where the interval of the
    difference lies against the spec's margin), `*_seed_sd` (standard deviation between seeds of the
    mean over cases), the exact two-sided Wilcoxon signed-rank `p`, `p_holm` and `p_bh` within the
    family, `p_floor` the smallest attainable p, and `verdict`: `significant`, `not significant`
    (Holm at 0.05), `not testable` (p_floor >= 0.05) or `incomplete: ...`.
    """
    keys = ["model", "task", "fraction"]
    used = {
        name
        for comparison in plan.comparisons
        for name in (comparison.baseline, *comparison.candidates)
    }
    compared = rows[rows["model"].isin(used)]
    here: Cells = {
        key: by_case(group) for key, group in compared.groupby(keys, sort=False, observed=True)
    }
    here[NOTHING] = by_case(rows[:0])
    table = pd.DataFrame(
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
    testable = table["verdict"] == ""
    for _, members in table[testable].groupby("family", sort=False):
        table.loc[members.index, "p_holm"] = adjust(members["p"].to_numpy(dtype=float), "holm")
        table.loc[members.index, "p_bh"] = adjust(members["p"].to_numpy(dtype=float), "bh")
    table.loc[testable, "verdict"] = np.where(
        table.loc[testable, "p_holm"].astype(float) < ALPHA, "significant", "not significant"
    )
    return table


def count_line(table: pd.DataFrame) -> str:
    """`k of m significant: raw, Holm, BH; not testable; incomplete`, over the whole table."""
    total = len(table)
    tested = table[table["verdict"].isin(["significant", "not significant"])]
    counts = {name: int((tested[column] < ALPHA).sum()) for name, column in _P_COLUMNS.items()}
    line = ", ".join(f"{count}/{total} {name}" for name, count in counts.items())
    line += f", {int((table['verdict'] == 'not testable').sum())}/{total} not testable"
    if missing := int(table["verdict"].str.startswith("incomplete").sum()):
        line += f", {missing}/{total} incomplete"
    return line


_P_COLUMNS = {"raw": "p", "Holm": "p_holm", "BH": "p_bh"}


NOTHING = ()
Cells = dict[Any, pd.DataFrame]  # (model, task, fraction) -> rows by case


def _row(
    here: Cells,
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
    row |= {"baseline": comparison.baseline} | dict.fromkeys(
        ("better", "favours", "equivalence", "method", "verdict"), ""
    )
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
    try:
        y, x = (here.get((model, task, fraction), here[NOTHING]) for model in models)
        pairs = pair_sorted(
            x,
            y,
            candidate=candidate,
            baseline=models[0],
            metric=metric,
            about=plan.metrics[metric],
            both_empty=plan.both_empty,
        )
    except PairingError as error:
        return row | {"n": 0, "verdict": f"incomplete: {error}"}
    row |= {
        f"{name}_seed_sd": seed_spread(rows, metric, plan.metrics[metric], plan.both_empty)
        for name, rows in (("baseline", y), ("candidate", x))
    }
    margin = comparison.equivalence.get(metric)
    higher = plan.metrics[metric].higher_is_better
    return row | _tested(pairs, models, higher_is_better=higher, margin=margin)


def _tested(
    pairs: Pairs, models: tuple[str, str], *, higher_is_better: bool, margin: float | None = None
) -> dict[str, Any]:
    baseline, candidate = models
    test = paired_wilcoxon(pairs.x, pairs.y)
    means = {"baseline": pairs.y_capped, "candidate": pairs.x_capped}
    found: dict[str, Any] = {
        "n": test.n,
        "capped": pairs.capped,
        "dropped": pairs.dropped + test.n_dropped,
    }
    for name, values in means.items():
        finite = values[~np.isnan(values)]
        found[f"{name}_mean"] = finite.mean() if len(finite) else np.nan
        found[f"{name}_sd"] = finite.std(ddof=1) if len(finite) > 1 else np.nan
    difference = found["candidate_mean"] - found["baseline_mean"]

    def towards(gain: float) -> str:
        """The model that a gain in the metric, candidate over baseline, speaks for."""
        gain = gain if higher_is_better else -gain
        return candidate if gain > 0 else baseline if gain < 0 else ""

    change = mean_difference(pairs.x_capped, pairs.y_capped)
    shift = hodges_lehmann(pairs.x_capped, pairs.y_capped)
    found |= {
        "difference": difference,
        "difference_low": change.low,
        "difference_high": change.high,
        "change_percent": 100 * difference / found["baseline_mean"]
        if found["baseline_mean"]
        else np.nan,
        "shift": shift.estimate,
        "shift_low": shift.low,
        "shift_high": shift.high,
        "rank_biserial": rank_biserial(pairs.x, pairs.y),
        "better": towards(difference),
        "favours": towards(test.w_plus - test.w_minus),
        "equivalence": equivalence(change, margin)
        if margin and np.isfinite([change.low, change.high]).all()
        else "",
        "p": test.p,
        "p_floor": test.p_floor,
        "n_zero": test.n_zero,
        "n_tied": test.n_tied,
        "method": test.method,
        "verdict": "not testable" if not test.p_floor < ALPHA else "",
    }
    return found
