"""What a study's parent run shows of the whole study: counts, mean Dice and p of the methods as
metrics, and what is trained, with the settings that all trials share, as parameters.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.planning.identity import flattened
from orchestrator.tracking.server import (
    DICE,
    METRICS_AT_ONCE,
    PARAMS_AT_ONCE,
    TEXT_LIMIT,
    key,
    key_part,
)
from record import paths
from record.names import read_back
from record.schema import StudyPlan

if TYPE_CHECKING:
    import pandas as pd

CHANGED_TAG = "medvision.changed"
_MODELS, _ROWS = paths.report("models.csv"), paths.report("significance.csv")
_MEANS = {DICE: "dice_mean", "NSD": "nsd_mean"}
_OF_ROWS = {"p": "p_methods", "p_holm": "p_holm", "difference": "method_difference"}
_COUNTED = "rows/"
_OF_REPORTS = {*_MEANS, *_OF_ROWS, "rows"}


def report_metrics(contents: Mapping[str, bytes]) -> dict[str, float]:
    """The numbers of a report's tables (`contents`: by their paths in the study) as metrics.

    `Dice/MODEL` and `NSD/MODEL`: the mean over tasks; `Dice`: the mean of those over models;
    `p/CANDIDATE vs BASELINE/TASK`, `p_holm/...` and `difference/...`: of the methods in Dice, with
    the share of the data behind it where there are several; `rows/VERDICT`: how many rows of the
    significance table come to it. What the tables do not have is left out.
    """
    found: dict[str, float] = {}
    models, rows = _table(contents, _MODELS), _table(contents, _ROWS)
    for title, column in _MEANS.items():
        if column in models:
            found |= {
                f"{title}/{_part(model)}": float(value)
                for model, value in zip(models["model"], models[column], strict=True)
            }
    if "dice_mean" in models and len(models):
        found[DICE] = float(models["dice_mean"].mean())
    if "verdict" in rows:
        found[f"{_COUNTED}all"] = float(len(rows))
        for verdict, count in rows["verdict"].str.partition(":")[0].value_counts().items():
            found[f"{_COUNTED}{verdict}"] = float(count)
        several = rows["fraction"].nunique() > 1
        for row in rows[rows["metric"] == "dice"].to_dict("records"):
            place = f"{_part(row['candidate'])} vs {_part(row['baseline'])}/{row['task']}"
            place += f"/{row['fraction']:g}" if several else ""
            for title, column in _OF_ROWS.items():
                found[f"{title}/{place}"] = float(row.get(column, math.nan))
    return {key(name): value for name, value in found.items() if math.isfinite(value)}


def study_params(plan: StudyPlan) -> dict[str, str]:
    """What is trained, on what, and the settings that all trials share, in MLflow's names."""
    grid = {
        name: ", ".join(
            f"{value:g}" if isinstance(value, float) else str(value) for value in values
        )
        for name, values in (
            ("models", plan.models),
            ("tasks", plan.tasks),
            ("fractions", plan.fractions),
            ("folds", sorted({trial.fold for trial in plan.trials})),
            ("seeds", sorted({trial.seed for trial in plan.trials})),
        )
    }
    shared = flattened({"training": plan.training, "data": plan.data})
    every = {**grid, "trials": len(plan.trials), **dict(shared)}
    return {
        key(name): str(value)[:TEXT_LIMIT] for name, value in every.items() if value not in ("", {})
    }


def describe_parent(
    client: Any, run_id: str, plan: StudyPlan, metrics: Mapping[str, float], *, report: bool
) -> None:
    """Give the parent run these metrics and the plan's parameters.

    MLflow shows a metric's last value, removes none and changes no parameter: a metric that has its
    value already is not sent again, and parameters of an edited spec are named in a tag, with their
    values now.

    Args:
        report: `metrics` are all numbers of a report; what an earlier one had besides becomes
            undefined, or 0 where it is a count.
    """
    from mlflow.entities import Metric, Param, RunTag

    now = int(1000 * time.time())
    held = client.get_run(run_id).data
    if report:
        gone = {
            name: 0.0 if name.startswith(_COUNTED) else math.nan
            for name, value in held.metrics.items()
            if name.partition("/")[0] in _OF_REPORTS and not math.isnan(value)
        }
        metrics = gone | dict(metrics)
    points = [
        Metric(name, value, now, 0)
        for name, value in metrics.items()
        if held.metrics.get(name) != value
    ]
    for first in range(0, len(points), METRICS_AT_ONCE):
        client.log_batch(run_id, metrics=points[first : first + METRICS_AT_ONCE])
    wanted = study_params(plan)
    new = [Param(name, value) for name, value in wanted.items() if name not in held.params]
    changed = "; ".join(
        f"{name}: {wanted.get(name, 'not set')}"
        for name, value in held.params.items()
        if wanted.get(name) != value
    )
    for first in range(0, len(new), PARAMS_AT_ONCE):
        client.log_batch(run_id, params=new[first : first + PARAMS_AT_ONCE])
    if changed != held.tags.get(CHANGED_TAG, ""):
        client.log_batch(run_id, tags=[RunTag(CHANGED_TAG, changed[:TEXT_LIMIT])])


def _part(name: Any) -> str:
    """A name out of a table, as a part of a metric's."""
    return key_part(read_back(str(name)))


def _table(contents: Mapping[str, bytes], name: str) -> pd.DataFrame:
    import pandas as pd

    content = contents.get(name, b"").strip()
    if not content:
        return pd.DataFrame()
    names = dict.fromkeys(("model", "baseline", "candidate", "task"), str)  # one may be `NA` or 007
    return pd.read_csv(io.BytesIO(content), dtype=names, na_values=[""], keep_default_na=False)
