"""Every test case with the score of each model, as a table that a browser makes of compact numbers:
thousands of rows of HTML would be slow to open.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from record import paths
from record.schema import StudyPlan
from reports.render.inline import json_text, rendered
from reports.render.layout import Section, share, titled
from reports.statistics.pairing import capped_scores
from reports.statistics.scores import KEYS, scored_metrics

NUMBERS = 200_000  # at most so many scores are in the page, about one megabyte; one metric always


Held = Collection[tuple[str, str]]


def held_cases(viewer: bytes | None) -> set[tuple[str, str]]:
    """Task and case of all that a `viewer.html` holds; none of a file that is not there, or that
    another version wrote in another way.
    """
    found = re.search(rb'<script type="application/json" id="index">(.*?)</script>', viewer or b"")
    try:
        tasks = json.loads(found[1])["tasks"] if found else []
        return {(task["name"], case) for task in tasks for case, _ in task["cases"]}
    except (ValueError, TypeError, LookupError):
        return set()


def cases_section(rows: pd.DataFrame, plan: StudyPlan, *, held: Held, study: str) -> Section:
    """Scores of every test case: label groups, seeds and repeats averaged, infinite distances
    capped.

    The section's data (cases.csv) hold every metric; the page holds as many metrics as `NUMBERS`
    allows, the compared ones first.

    Args:
        rows: of every finished trial.
        held: task and case of those that `report/viewer.html` holds: their rows link to it, the
            others name the command that shows them.
        study: its folder or URI, for that command.
    """
    viewer = bool(held)
    data = _scores(rows, plan)
    page = _page_values(data, plan, held, study)
    left_out = len(scored_metrics(plan, data)) - len(page["metrics"])
    notes = [
        "A score is the mean over label groups, seeds and repeats, of the finished trials; an "
        "empty cell has none (the model did not test the case, or it has no structure). A "
        "difference is the candidate minus the baseline. `cases.csv` holds "
        f"{'the other metrics, too' if left_out else 'the same at full precision'}.",
        f"`medvision view {shlex.quote(study)} --case C` shows any case in three planes and 3D, "
        "with the truth and the mask of every model"
        + (
            "; `viewer.html` does so for the best, the median and the worst case of each task."
            if viewer
            else ", and writes `viewer.html` with the best, the median and the worst case."
        ),
    ]
    body = rendered("cases.html.j2", data=json_text(page), viewer=viewer)
    return Section("cases", "Cases", (), data, notes, html=body)


def _scores(rows: pd.DataFrame, plan: StudyPlan) -> pd.DataFrame:
    """Columns model, task, fraction, case, `trainings` (how many tested the case), and metrics."""
    metrics = scored_metrics(plan, rows)
    frame = rows[[*KEYS, "case", "fold", "seed"]].copy()
    for metric in metrics:
        frame[metric] = capped_scores(rows, metric, plan.metrics[metric], plan.both_empty)
    keys = [*KEYS, "case"]
    trained = frame.groupby([*keys, "fold", "seed"], sort=False, observed=True)[metrics].mean()
    cells = trained.groupby(level=keys, sort=False, observed=True)
    scores = cells[metrics].mean()
    scores.insert(0, "trainings", cells.size())
    return scores.reset_index()


def _page_values(data: pd.DataFrame, plan: StudyPlan, held: Held, study: str) -> dict[str, Any]:
    """What the page's script reads: names once, then a row a case with its scores by metric and
    model.
    """
    models = [model for model in plan.models if (data["model"] == model).any()]
    keys = ["task", "fraction", "case"]
    names = data[keys].drop_duplicates().sort_values("fraction", ascending=False, kind="stable")
    room = max(1, NUMBERS // max(1, len(names) * len(models)))
    compared = [metric for one in plan.comparisons for metric in one.metrics if metric in data]
    metrics = list(dict.fromkeys([*compared, *scored_metrics(plan, data)]))[:room]
    indexed = data.set_index([*keys, "model"])
    columns: list[list[float | None]] = []
    for metric in metrics:
        wide = indexed[metric].unstack("model")
        wide = wide.reindex(index=pd.MultiIndex.from_frame(names), columns=models)
        digits = plan.metrics[metric].digits + 1
        columns += [
            [round(float(value), digits) if np.isfinite(value) else None for value in wide[model]]
            for model in models
        ]
    tasks, fractions = list(plan.tasks), list(plan.fractions)
    rows = [
        [tasks.index(task), fractions.index(fraction), str(case), *scores]
        for (task, fraction, case), *scores in zip(
            names.itertuples(index=False, name=None), *columns, strict=True
        )
    ]
    return {
        "tasks": tasks,
        "shares": [share(fraction) for fraction in fractions],
        "models": models,
        "metrics": [
            {"title": titled(plan.metrics[name]), "digits": plan.metrics[name].digits}
            for name in metrics
        ],
        "pairs": [
            [models.index(one.baseline), models.index(candidate)]
            for one in plan.comparisons
            for candidate in one.candidates
            if one.baseline in models and candidate in models
        ],
        "rows": rows,
        "viewer": paths.VIEWER if held else "",
        "held": [[tasks.index(task), case] for task, case in sorted(held) if task in tasks],
        "study": shlex.quote(study),
    }
