"""The noise floor: what the tests say of a model against itself, trained with another seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from record.schema import Commit, StudyPlan
from reports.render.layout import Cell, Section, Table, number, share, titled
from reports.statistics import SelfComparison
from reports.statistics.adjustment import ALPHA
from reports.statistics.against_itself import arrange, compare_seeds
from reports.statistics.run_scores import raw_and_capped, repeats_of, trainings_of
from reports.statistics.scores import KEYS, complete_cells

UNIT, KINDS = ["fold", "seed", "patient"], ("raw", "capped")
PAIRS = 15  # of one cell and metric: all pairs of six seeds
USUAL = ("dice", "jaccard", "hd95", "specificity", "sensitivity", "nsd")  # without comparisons
OVER_CASES, OF_METHODS = "share of p_cases < 0.05", "share of p_methods < 0.05"
COLUMNS = [
    "model",
    "task",
    "fraction",
    "metric",
    "pairs",
    OVER_CASES,
    OF_METHODS,
    "tested_cases",
    "tested_methods",
    "typical",
    "largest",
    "possible_pairs",
]
MEANING = (
    "Each model against itself: every two of its seeds are tested as if they were two models. "
    "Nothing but luck of training differs, so a test that speaks of methods finds p < 0.05 in "
    "about 5 % of many such comparisons; the share over cases is how often two trainings of one "
    "model pass for two different models. Pairs share their seeds, metrics their masks, and all of "
    "them their cases, so that the share of one study scatters widely around its expectation."
)
SIZES = (
    "Typical and largest: median and maximum of the pairs' absolute mean differences over cases "
    "(infinite distances capped), one training a fold on either side: a difference of such a size "
    "needs no difference between methods."
)


class NoiseFloor(NamedTuple):
    """What self-comparisons found. `rows` has COLUMNS; `pairs` one row a comparison: KEYS, metric,
    difference, p_cases, p_methods.
    """

    rows: pd.DataFrame
    pairs: pd.DataFrame

    def counted(self) -> dict[str, tuple[int, int]]:
        """Comparisons with p < 0.05 and those that could be tested, over cases and of methods."""
        found = {}
        for p in ("p_cases", "p_methods"):
            tested = self.pairs[p].dropna()
            found[p] = (int((tested < ALPHA).sum()), len(tested))
        return found


def noise_floor(
    rows: pd.DataFrame, plan: StudyPlan, commits: Mapping[str, Commit]
) -> NoiseFloor | None:
    """Self-comparisons of every finished cell with several seeds; None where there is none.

    Args:
        rows: the scores.
        plan: the study.
        commits: its finished trials.
    """
    complete = complete_cells(plan, commits)
    metrics = [metric for metric in _metrics(plan) if metric in rows]
    seeds = {trial.seed for trial in plan.trials}
    if len(seeds) < 2 or not metrics:
        return None
    made, pairs, repeats = [], [], repeats_of(plan)
    for key, cell in rows.groupby(KEYS, sort=False, observed=True):
        if key not in complete or cell["seed"].nunique() < 2:
            continue
        model, task, fraction = key
        trainings = trainings_of(plan, commits, model, task, fraction)
        sets = {fold: training_set for (fold, _), (training_set, _) in trainings.items()}
        scores = _scores(cell, metrics, plan)
        labels = {name: scores.index.get_level_values(name).tolist() for name in UNIT}
        place_of = arrange(
            labels["fold"],
            labels["seed"],
            labels["patient"],
            [sets.get(fold, fold) for fold in labels["fold"]],
            [repeats.get(fold, 0) for fold in labels["fold"]] if repeats else None,
        )
        for metric in metrics:
            raw, capped = (scores[metric, kind].to_numpy(dtype=float) for kind in KINDS)
            found = compare_seeds(place_of, raw, capped, most=PAIRS)
            place = dict(zip(KEYS, key, strict=True)) | {"metric": metric}
            made.append(place | _row(found))
            pairs += [
                place | {"difference": difference, "p_cases": by_cases, "p_methods": by_methods}
                for difference, by_cases, by_methods in zip(
                    found.differences, found.p_cases, found.p_methods, strict=True
                )
            ]
    return NoiseFloor(pd.DataFrame(made, columns=COLUMNS), pd.DataFrame(pairs)) if made else None


def _scores(cell: pd.DataFrame, metrics: list[str], plan: StudyPlan) -> pd.DataFrame:
    """Scores of one model, task and fraction by UNIT, columns metric and KINDS: groups averaged,
    and the cases of a patient.
    """
    columns = {
        (metric, kind): values
        for metric in metrics
        for kind, values in zip(
            KINDS,
            raw_and_capped(cell, metric, plan.metrics[metric], plan.both_empty),
            strict=True,
        )
    }
    frame = pd.DataFrame(columns)
    patient = cell["patient"] if "patient" in cell else cell["case"]
    index = [cell["fold"], cell["seed"], patient.rename("patient"), cell["case"]]
    by_case = frame.groupby(index, sort=True, observed=True).mean()
    if "patient" not in cell:
        return by_case.droplevel("case")
    return by_case.groupby(level=UNIT, sort=True).mean()


def _metrics(plan: StudyPlan) -> list[str]:
    """The metrics of all comparisons, in the plan's order; the usual six where there is none."""
    compared = {metric for comparison in plan.comparisons for metric in comparison.metrics}
    return [metric for metric in plan.metrics if metric in (compared or USUAL)]


def _row(found: SelfComparison) -> dict[str, Any]:
    return {
        "pairs": found.pairs,
        OVER_CASES: found.cases_share,
        OF_METHODS: found.methods_share,
        "tested_cases": int(np.isfinite(found.p_cases).sum()),
        "tested_methods": int(np.isfinite(found.p_methods).sum()),
        "typical": found.typical,
        "largest": found.largest,
        "possible_pairs": found.possible,
    }


def self_section(found: NoiseFloor, plan: StudyPlan) -> Section:
    """The shares of p < 0.05 and the sizes of differences of models against themselves."""
    header = ["Model", "Task", "Data", "Metric", "Pairs", "p cases < 0.05", "p methods < 0.05"]
    header += ["Typical difference", "Largest"]
    notes = [MEANING, SIZES]
    sampled = found.rows[found.rows["possible_pairs"] > found.rows["pairs"]]
    if len(sampled):
        notes.append(
            f"Of more than {PAIRS} pairs of seeds {PAIRS} were drawn with a fixed seed "
            f"(`possible_pairs` in self.csv: up to {sampled['possible_pairs'].max()})."
        )
    if not found.counted()["p_methods"][1]:
        notes.append(
            "One training set: the methods cannot be tested; the typical difference shows the "
            "noise all the same."
        )
    rows = [_cells(row, plan) for row in found.rows.to_dict("records")]
    footer = f"Together: {'; '.join(f'{name} in {of}' for name, of in count_facts(found))}."
    table = Table("", header, "llllrrrrr", rows, " ".join(notes), footer, grouped=3)
    return Section("self", "A model against itself", [table], found.rows, notes)


def count_facts(found: NoiseFloor) -> list[tuple[str, str]]:
    """`p cases < 0.05` and `p methods < 0.05`, each with `k of n (share)`."""
    return [
        (f"{p.replace('_', ' ')} < {ALPHA:g}", _of(count, tested))
        for p, (count, tested) in found.counted().items()
    ]


def _of(count: int, tested: int) -> str:
    return f"{count} of {tested} ({count / tested:.0%})" if tested else "no testable comparison"


def _cells(row: Mapping[Any, Any], plan: StudyPlan) -> list[Cell]:
    info = plan.metrics[row["metric"]]
    return [
        Cell(row["model"]),
        Cell(row["task"]),
        Cell(share(row["fraction"]), sort=row["fraction"]),
        Cell(titled(info)),
        number(row["pairs"], 0),
        _share(row[OVER_CASES], row["tested_cases"]),
        _share(row[OF_METHODS], row["tested_methods"]),
        *(number(row[name], info.digits + 1) for name in ("typical", "largest")),
    ]


def _share(value: float, tested: int) -> Cell:
    """`7/15`; empty where nothing could be tested."""
    if np.isnan(value):
        return Cell("not testable")
    return Cell(f"{round(value * tested)}/{tested}", sort=float(value))
