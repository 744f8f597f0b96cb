"""The cases in which each model does worst, and those in which a candidate loses most."""

from __future__ import annotations

from typing import Any

import pandas as pd

from record.schema import StudyPlan
from reports.render.layout import Cell, Section, Table, number, titled

WORST = 5  # cases of each model, and of each comparison
METRIC = "dice"
NOTE = (
    f"The {WORST} cases of lowest Dice of each model, and the {WORST} in which each candidate "
    "falls furthest behind its baseline (difference: candidate minus baseline), at the largest "
    "share of the data; scores are means over structures and trainings. `cases.csv` has every case."
)


def worst_section(cases: pd.DataFrame, plan: StudyPlan) -> Section | None:
    """The worst cases by Dice; None where nothing has one.

    Args:
        cases: scores of every case and model, as `reports.sections.cases.cases_section` has them
            in its data.
    """
    if METRIC not in cases:
        return None
    shown = _shown(plan, cases)
    here = cases[cases["fraction"] == max(plan.fractions)].dropna(subset=[METRIC])
    made: list[dict[str, Any]] = []
    for task in plan.tasks:
        scores = here[here["task"] == task].set_index(["model", "case"])
        for model in plan.models:
            if model in scores.index.get_level_values("model"):
                lowest = _of(scores, model).sort_values([METRIC, "case"], kind="stable")[:WORST]
                made += [
                    {"task": task, "what": "lowest Dice", "model": model, "case": case}
                    | {name: row[name] for name in shown}
                    for case, row in lowest.iterrows()
                ]
        made += _losses(scores, plan, task)
    if not made:
        return None
    header = ["Task", "What", "Model", "Case", *(titled(plan.metrics[name]) for name in shown)]
    rows = [
        [
            Cell(row["task"]),
            Cell(row["what"]),
            Cell(row["model"]),
            Cell(str(row["case"])),
            *(number(row.get(name, float("nan")), plan.metrics[name].digits) for name in shown),
            number(row.get("difference", float("nan")), 3, sign=True),
        ]
        for row in made
    ]
    table = Table("", [*header, "Difference"], "llll" + "r" * (len(shown) + 1), rows, NOTE, keys=4)
    return Section("worst", "Worst cases", [table], pd.DataFrame(made), [NOTE])


def _of(scores: pd.DataFrame, model: str) -> pd.DataFrame:
    """One model's scores by case."""
    return scores[scores.index.get_level_values("model") == model].droplevel("model")


def _shown(plan: StudyPlan, cases: pd.DataFrame) -> list[str]:
    return [name for name in (METRIC, "nsd", "hd95") if name in plan.metrics and name in cases]


def _losses(scores: pd.DataFrame, plan: StudyPlan, task: str) -> list[dict[str, Any]]:
    """The cases in which each candidate is furthest behind its baseline, of those where it is."""
    made: list[dict[str, Any]] = []
    known = set(scores.index.get_level_values("model"))
    for comparison in plan.comparisons:
        for candidate in comparison.candidates:
            if not {candidate, comparison.baseline} <= known:
                continue
            loss = (
                scores.loc[candidate][METRIC] - scores.loc[comparison.baseline][METRIC]
            ).dropna()
            loss = loss[loss < 0].sort_index().sort_values(kind="stable")
            for case in loss.index[:WORST]:
                row = scores.loc[(candidate, case)]
                made.append(
                    {"task": task, "what": f"behind {comparison.baseline}", "model": candidate}
                    | {"case": case, "difference": float(loss[case])}
                    | {name: row[name] for name in _shown(plan, scores)}
                )
    return made
