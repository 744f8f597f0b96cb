"""The rules that claims are judged by: each returns evidence from the rows, or says why there is
none.

`candidate` and `baseline` of the claims that rules see are models of the study, `tasks` (of a
modality) those that count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports.sections.claim_curves import convergence, few_shot, focus
from reports.sections.claim_study import (
    ALPHA,
    Claim,
    Evidence,
    Study,
    UntestableError,
    at_least,
    interval_text,
)
from reports.statistics import mean_difference, paired_wilcoxon
from reports.statistics.scores import common_tasks, matrix


def _rows(claim: Claim, study: Study) -> pd.DataFrame:
    """Rows of table 1 at the full data; every planned one must be complete."""
    candidate, baseline = claim["candidate"], claim["baseline"]
    table = study.table
    rows = table[
        (table["candidate"] == candidate)
        & (table["baseline"] == baseline)
        & (table["fraction"] == 1.0)
        & table["metric"].isin(claim["metrics"])
    ].drop_duplicates(["task", "metric"])
    if rows.empty:
        raise UntestableError(f"{candidate} is not compared with {baseline} on the full data")
    if missing := int(rows["verdict"].str.startswith("incomplete").sum()):
        raise UntestableError(f"{missing} of {len(rows)} comparisons are incomplete")
    return rows


def _counted(claim: Claim, rows: pd.DataFrame, count: int, text: str, rule: str) -> Evidence:
    """`least` of `of` rows. Other numbers of rows leave it open: a share of them is not what is
    claimed.
    """
    if len(rows) != claim["of"]:
        lacks = f"it has {len(rows)} of the {claim['of']} comparisons that the claim counts"
        return Evidence(None, text, rule, (lacks,))
    return Evidence(count >= claim["least"], text, rule)


def _better(claim: Claim, study: Study) -> Evidence:
    rows = _rows(claim, study)
    count = int((rows["better"] == rows["candidate"]).sum())
    text = f"better in {count} of {len(rows)}"
    return _counted(claim, rows, count, text, f"claimed: {claim['least']} of {claim['of']}")


def _significant(claim: Claim, study: Study) -> Evidence:
    rows = _rows(claim, study)
    # By the test's ranks: a few large values can set the means against what p speaks of.
    won = rows[rows["favours"] == rows["candidate"]]
    tested = won[won["verdict"].isin(["significant", "not significant"])]
    raw, holm, bh = (int((tested[name] < ALPHA).sum()) for name in ("p", "p_holm", "p_bh"))
    untestable = int((rows["verdict"] == "not testable").sum())
    text = (
        f"favoured by the test with p < 0.05 in {raw} of {len(rows)} raw, {holm} Holm, {bh} BH; "
        f"{untestable} not testable"
    )
    rule = f"claimed: {claim['least']} of {claim['of']}, counted as the paper does, by raw p"
    return _counted(claim, rows, raw, text, rule)


def _task_values(claim: Claim, study: Study, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Means per task of candidate and baseline at the full data."""
    candidate, baseline = claim["candidate"], claim["baseline"]
    if metric not in study.means:
        raise UntestableError(f"{metric} was not scored")
    values = matrix(study.means, [candidate, baseline], 1.0, metric)
    planned = list(study.plan.tasks)
    if "tasks" in claim:
        planned = [task for task in planned if task in claim["tasks"]]
        values = values[values.index.isin(planned)]
        if not planned:
            raise UntestableError(
                f"none of the claim's {len(claim['tasks'])} tasks is in the study"
            )
    if len(values) < len(planned):
        raise UntestableError(
            f"{candidate} and {baseline} have finished {len(values)} of {len(planned)} tasks on "
            "the full data"
        )
    return values[candidate].to_numpy(dtype=float), values[baseline].to_numpy(dtype=float)


def _change(claim: Claim, study: Study) -> Evidence:
    metric = claim["metric"]
    x, y = _task_values(claim, study, metric)
    sign = 1 if study.info(metric).higher_is_better else -1
    claimed = abs(claim["percent"]) / 100 * float(y.mean())
    interval = mean_difference(sign * x, sign * y)
    change = 100 * (x.mean() - y.mean()) / y.mean() if y.mean() else np.nan
    text = f"{y.mean():.3f} to {x.mean():.3f} ({change:+.1f} %); gain {interval_text(interval)}"
    rule = (
        f"the 95 % interval of the gain must lie above 0 and reach {claimed:.3f} "
        f"({abs(claim['percent']):g} %)"
    )
    return Evidence(at_least(interval, claimed), text, rule)


def _better_mean(claim: Claim, study: Study) -> Evidence:
    metric = claim["metric"]
    x, y = _task_values(claim, study, metric)
    sign = 1 if study.info(metric).higher_is_better else -1
    interval = mean_difference(sign * x, sign * y)
    agrees = at_least(interval, 0.0)
    gain, title = interval_text(interval), study.info(metric).title
    text = f"{title} {x.mean():.3f} against {y.mean():.3f}; gain {gain}"
    rule = "the 95 % interval of the gain over tasks must lie above 0"
    if claim.get("fewer_trained"):
        candidate, baseline = claim["candidate"], claim["baseline"]
        if unknown := [model for model in (candidate, baseline) if model not in study.trained]:
            raise UntestableError(f"the trained parameters of {' and '.join(unknown)} are unknown")
        ours, theirs = study.trained[candidate], study.trained[baseline]
        text += f"; {ours:,} against {theirs:,} trained parameters"
        rule += ", with fewer trained parameters"
        agrees = agrees if ours < theirs else False
    return Evidence(agrees, text, rule)


def _level(claim: Claim, study: Study) -> Evidence:
    model, metric = claim["candidate"], claim["metric"]
    tasks = common_tasks(study.means, [model], 1.0)
    if len(tasks) < len(study.plan.tasks):
        raise UntestableError(
            f"{model} has finished {len(tasks)} of {len(study.plan.tasks)} tasks on the full data"
        )
    values = matrix(study.means, [model], 1.0, metric)[model].to_numpy(dtype=float)
    interval = mean_difference(values, np.zeros(len(values)))
    text = f"mean {values.mean():.3f}"
    if not np.isfinite(interval.low):
        return Evidence(None, text, "fewer than three tasks give no interval")
    text += f" [{interval.low:.3f}, {interval.high:.3f}] over {len(values)} tasks"
    inside = interval.low - 0.005 <= claim["value"] <= interval.high + 0.005
    return Evidence(
        inside,
        text,
        f"the 95 % interval over tasks must hold {claim['value']:g} (rounded to two digits)",
    )


def _no_difference(claim: Claim, study: Study) -> Evidence:
    x, y = _task_values(claim, study, claim["metric"])
    test = paired_wilcoxon(x, y)
    if test.p_floor >= ALPHA:
        raise UntestableError(
            f"{len(x)} tasks are too few for a test (smallest attainable p {test.p_floor:.3g})"
        )
    text = f"difference {interval_text(mean_difference(x, y))}, p = {test.p:.2g}"
    return Evidence(
        test.p > ALPHA,
        text,
        "Wilcoxon test over tasks with p > 0.05, as the paper argues; this is not equality",
    )


def _best_rank(claim: Claim, study: Study) -> Evidence:
    reference = _but_rank(study.settings.get(claim["candidate"], {}))
    ranks = {
        name: int(settings["lora"]["rank"])
        for name in study.plan.models
        if (settings := study.settings.get(name, {})).get("mapper") == "lora"
        and _but_rank(settings) == reference
    }
    if len(ranks) < 2 or claim["rank"] not in ranks.values():
        raise UntestableError(
            f"the study does not compare rank {claim['rank']} with models of another rank alone"
        )
    names: Sequence[str] = list(ranks)
    values = matrix(study.means, names, 1.0, claim["metric"])
    if len(values) < len(study.plan.tasks):
        raise UntestableError(
            f"all ranks have finished {len(values)} of {len(study.plan.tasks)} tasks on the "
            "full data"
        )
    means = values.mean()
    text = ", ".join(
        f"rank {ranks[name]}: {means[name]:.3f}"
        for name in sorted(names, key=lambda name: ranks[name])
    )
    return Evidence(
        ranks[str(means.idxmax())] == claim["rank"],
        text,
        f"rank {claim['rank']} must have the highest mean over tasks",
    )


def _but_rank(settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings but the rank, and but the name, which changes nothing."""
    return {**settings, "name": None, "lora": {**settings.get("lora", {}), "rank": None}}


RULES: dict[str, Callable[[Claim, Study], Evidence]] = {
    "better": _better,
    "significant": _significant,
    "change": _change,
    "better-mean": _better_mean,
    "level": _level,
    "few-shot": few_shot,
    "convergence": convergence,
    "focus": focus,
    "no-difference": _no_difference,
    "best-rank": _best_rank,
}
