"""The NSD at every tolerance of the spec; the tests and all other tables show each task's first."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from record.schema import Commit, StudyPlan
from reports.render.layout import Cell, Section, Table, number, share, spread
from reports.statistics.scores import KEYS, case_scores


def nsd_section(
    rows: pd.DataFrame, plan: StudyPlan, commits: Mapping[str, Commit]
) -> Section | None:
    """Mean and standard deviation over cases by model and tolerance; None where every task has one
    tolerance.
    """
    tolerances = sorted(
        {
            float(edge)
            for task in plan.tasks
            if len(plan.scoring.tolerances.get(task, ())) > 1
            for edge in plan.scoring.tolerances[task]
        }
    )
    columns = {edge: f"nsd@{edge}" for edge in tolerances if f"nsd@{edge}" in rows}
    if not columns:
        return None
    about = dict.fromkeys(columns.values(), plan.metrics["nsd"])
    scores = case_scores(rows, plan.model_copy(update={"metrics": about}), commits)
    by_cell = scores.groupby(KEYS, sort=False, observed=True)[list(about)]
    parts = by_cell.mean(), by_cell.std(ddof=1)
    count = by_cell.count().max(axis=1)
    made, shown = [], []
    places = [
        (task, fraction, model)
        for task in plan.tasks
        for fraction in plan.fractions
        for model in plan.models
        if (model, task, fraction) in count.index
    ]
    for task, fraction, model in places:
        key = (model, task, fraction)
        cells = [Cell(task), Cell(share(fraction), sort=fraction), Cell(model)]
        cells.append(number(count[key], 0))
        here = {float(edge) for edge in plan.scoring.tolerances.get(task, ())}
        for edge, column in columns.items():
            known = edge in here
            value, spreads = (
                float(part[column].loc[[key]].iloc[0]) if known else np.nan for part in parts
            )
            cells.append(spread(value, spreads))
            made.append(
                {
                    "task": task,
                    "fraction": fraction,
                    "model": model,
                    "tolerance_mm": edge,
                    "n": int(count[key]),
                    "mean": value,
                    "sd": spreads,
                }
            )
        shown.append(cells)
    note = (
        f"NSD ({plan.scoring.nsd}) by tolerance: mean ± standard deviation over cases, seeds "
        "averaged. Complete cells only. The first tolerance of a task is the one that is tested "
        "and that the other tables show; the others are descriptive."
    )
    header = ["Task", "Data", "Model", "n", *(f"{edge:g} mm" for edge in columns)]
    table = Table("", header, "lllr" + "r" * len(columns), shown, note, grouped=2)
    return Section("nsd_tolerances", "NSD by tolerance", [table], pd.DataFrame(made), [note])
