"""Table of label groups: the scores of every structure by itself, which the tests average within a
case.
"""

from __future__ import annotations

import pandas as pd

from record.schema import StudyPlan
from reports.render.layout import Cell, Section, Table, number, share, spread, titled
from reports.statistics.pairing import capped_scores
from reports.statistics.scores import scored_metrics

CELL = ["task", "fraction", "group", "model"]


def groups_section(rows: pd.DataFrame, plan: StudyPlan) -> Section | None:
    """Mean and standard deviation over cases by label group; None where every task has one group
    only.

    Seeds are averaged within a case, infinite distances are capped at the volume's diagonal. A case
    in whose truth a group is empty does not count in that group, unless the spec or the metric
    counts it.
    """
    several = rows.groupby("task", observed=True)["group"].nunique()
    rows = rows[rows["task"].isin(several[several > 1].index)]
    if rows.empty:
        return None
    metrics = scored_metrics(plan, rows)
    scores = rows[[*CELL, "case"]].copy()
    for metric in metrics:
        scores[metric] = capped_scores(rows, metric, plan.metrics[metric], plan.both_empty)
    by_case = scores.groupby([*CELL, "case"], sort=False, observed=True)[metrics].mean()
    cells = by_case.groupby(level=CELL, sort=False, observed=True)
    mean, deviation, count = cells.mean(), cells.std(ddof=1), cells.count()
    parts = {"mean": mean, "sd": deviation, "n": count}
    data = pd.DataFrame(
        {f"{metric}_{kind}": part[metric] for metric in metrics for kind, part in parts.items()}
    )
    shown = [metric for metric in metrics if metric in ("dice", "nsd", "hd95")]
    largest = max(plan.fractions)
    table = [
        [
            Cell(task),
            Cell(group),
            Cell(model),
            number(count.loc[key, shown[0]], 0),
            *(
                spread(
                    mean.loc[key, metric],
                    deviation.loc[key, metric],
                    plan.metrics[metric].digits,
                )
                for metric in shown
            ),
        ]
        for key in mean.index
        for task, fraction, group, model in [key]
        if fraction == largest
    ]
    header = [
        "Task",
        "Label group",
        "Model",
        "n",
        *(titled(plan.metrics[metric]) for metric in shown),
    ]
    notes = [
        f"Mean ± standard deviation over cases, seeds averaged, {share(largest)} training data; n: "
        "cases in which the group is not empty in the truth. Finished trials only. The "
        "tests average the groups within a case."
    ]
    align = "lllr" + "r" * len(shown)
    return Section(
        "groups",
        "Label groups",
        [Table("", header, align, table, notes[0], grouped=2)],
        data.reset_index(),
        notes,
    )
