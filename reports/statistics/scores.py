"""Scores per case and per task of every model, over complete cells only: what the tables beside the
tests draw from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from record.schema import Commit, StudyPlan
from reports.statistics.pairing import capped_scores

KEYS = ["model", "task", "fraction"]
RUN = ["fold", "seed"]


def scored_metrics(plan: StudyPlan, rows: pd.DataFrame) -> list[str]:
    """Known metrics among the rows' columns."""
    return [metric for metric in plan.metrics if metric in rows.columns]


def complete_cells(plan: StudyPlan, commits: Mapping[str, Commit]) -> set[tuple[str, str, float]]:
    """(model, task, fraction) of which every planned fold and seed has finished."""
    cells: dict[tuple[str, str, float], bool] = {}
    for trial in plan.trials:
        key = (trial.model, trial.task, trial.fraction)
        cells[key] = cells.get(key, True) and trial.eval_id in commits
    return {key for key, complete in cells.items() if complete}


def case_scores(rows: pd.DataFrame, plan: StudyPlan, commits: Mapping[str, Commit]) -> pd.DataFrame:
    """One row per model, task, fraction and case: groups, then seeds averaged, infinite distances
    capped.

    Where a grouping is given (a column `patient`), a row is a patient, the mean over its cases, and
    `case` names the patient. Cells with missing trials are left out whole. A score is NaN where the
    truth of the case is empty, for every model alike, unless the spec or the metric counts it.
    """
    metrics = scored_metrics(plan, rows)
    complete = complete_cells(plan, commits)
    if rows.empty or not complete:
        return pd.DataFrame(columns=[*KEYS, "case", *metrics])
    index = pd.MultiIndex.from_frame(rows[KEYS])
    rows = rows[index.isin(list(complete))]
    frame = rows[[*KEYS, "case", "seed"]].copy()
    for metric in metrics:
        frame[metric] = capped_scores(rows, metric, plan.metrics[metric], plan.both_empty)
    by_seed = frame.groupby([*KEYS, "case", "seed"], sort=False, observed=True)[metrics].mean()
    by_case = by_seed.groupby(level=[*KEYS, "case"], sort=False, observed=True)
    scores = by_case.mean().reset_index()
    if "patient" in rows:
        of_case = dict(
            zip(zip(rows["task"], rows["case"], strict=True), rows["patient"], strict=True)
        )
        named = [of_case[key] for key in zip(scores["task"], scores["case"], strict=True)]
        by_patient = scores.assign(case=named).groupby([*KEYS, "case"], sort=False, observed=True)
        scores = by_patient[metrics].mean().reset_index()
    return scores.reset_index(drop=True)


def run_scores_of(
    rows: pd.DataFrame, plan: StudyPlan, commits: Mapping[str, Commit], metric: str
) -> pd.DataFrame:
    """One metric, one row per model, task, fraction, fold, seed and case: groups averaged, nothing
    else; infinite distances capped.

    Columns `KEYS`, `RUN`, case (the patient where a grouping is given) and the metric; without the
    cells that have missing trials, and the cases that do not apply.
    """
    complete = complete_cells(plan, commits)
    if metric not in rows or rows.empty or not complete:
        return pd.DataFrame(columns=[*KEYS, *RUN, "case", metric])
    if len(complete) < len(rows[KEYS].drop_duplicates()):
        rows = rows[pd.MultiIndex.from_frame(rows[KEYS]).isin(list(complete))]
    unit = "patient" if "patient" in rows else "case"
    frame = rows[[*KEYS, *RUN]].copy()
    frame["case"] = rows[unit]
    frame[metric] = capped_scores(rows, metric, plan.metrics[metric], plan.both_empty)
    frame = frame.dropna(subset=[metric])
    if unit == "case" and rows["group"].nunique() == 1:
        return frame.reset_index(drop=True)
    if unit == "patient":  # label groups within a case first, then the cases of a patient
        frame["scan"] = rows["case"]
        keys = [*KEYS, *RUN, "case", "scan"]
        frame = frame.groupby(keys, sort=False, observed=True)[metric].mean().reset_index()
    keys = [*KEYS, *RUN, "case"]
    return frame.groupby(keys, sort=False, observed=True)[metric].mean().reset_index()


def task_means(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean over cases: one row per model, task and fraction."""
    metrics = [name for name in scores.columns if name not in (*KEYS, "case")]
    return scores.groupby(KEYS, sort=False, observed=True)[metrics].mean().reset_index()


def common_tasks(means: pd.DataFrame, models: Sequence[str], fraction: float) -> list[str]:
    """Tasks that all these models have finished at one fraction, in the order of the rows."""
    here = means[means["fraction"] == fraction]
    sets = [set(here[here["model"] == model]["task"]) for model in models]
    shared = set.intersection(*sets) if sets else set()
    return [task for task in dict.fromkeys(here["task"]) if task in shared]


def matrix(
    means: pd.DataFrame, models: Sequence[str], fraction: float, metric: str
) -> pd.DataFrame:
    """[tasks, models] of one metric over `common_tasks`."""
    tasks = common_tasks(means, models, fraction)
    here = means[(means["fraction"] == fraction) & means["task"].isin(tasks)]
    return here.pivot_table(
        index="task", columns="model", values=metric, sort=False, observed=True
    ).reindex(index=tasks, columns=list(models))
