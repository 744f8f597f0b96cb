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

from reports.render.layout import fixed
from reports.sections.claim_counts import BY_CHANCE, counted
from reports.sections.claim_curves import convergence, few_shot, focus
from reports.sections.claim_study import (
    Claim,
    Evidence,
    Study,
    UntestableError,
    at_least,
    interval_text,
    with_methods,
)
from reports.sections.significance import CASES_TESTED, TESTED
from reports.statistics import Interval, mean_difference, paired_wilcoxon, place
from reports.statistics.adjustment import ALPHA
from reports.statistics.scores import common_tasks, matrix

MARGIN = 0.01  # the largest difference of a ratio without practical importance
ROUNDED = 0.005  # the paper's numbers have two digits
WITHIN = 0.05  # an interval that is wider says nothing about a level; the paper's own spread


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


def _better(claim: Claim, study: Study) -> Evidence:
    rows = _rows(claim, study)
    count = int((rows["better"] == rows["candidate"]).sum())
    text = f"better in {count} of {len(rows)}"
    rule = f"claimed: {claim['least']} of {claim['of']}"
    return counted(claim, rows, count, text, rule, by_chance=0.5)


def _significant(claim: Claim, study: Study) -> Evidence:
    rows = _rows(claim, study)
    won = rows[(rows["favours"] == rows["candidate"]) & rows["verdict"].isin(TESTED)]
    raw, holm, bh = (int((won[name] < ALPHA).sum()) for name in ("p_methods", "p_holm", "p_bh"))
    # By the ranks: a few large values can set the means against what p over cases speaks of.
    by_cases = rows[
        (rows["favours_cases"] == rows["candidate"]) & rows["verdict"].isin(CASES_TESTED)
    ]
    papers = int((by_cases["p_cases"] < ALPHA).sum())
    untestable = int((~rows["verdict"].isin(TESTED)).sum())
    text = (
        f"favoured by the test of the methods with p < 0.05 in {raw} of {len(rows)} raw, {holm} "
        f"Holm, {bh} BH; {untestable} not testable; by the paper's way, raw p over cases, which "
        f"speaks of these trainings only, in {papers}"
    )
    rule = f"claimed: {claim['least']} of {claim['of']}, by raw p of the methods"
    return counted(claim, rows, raw, text, rule, by_chance=BY_CHANCE, undecided=untestable)


def _task_values(claim: Claim, study: Study, metric: str) -> pd.DataFrame:
    """Means per task of candidate and baseline, in this order, at the full data."""
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
    _require_values(values, metric)
    return values[[candidate, baseline]]


def _gain(values: pd.DataFrame, study: Study, metric: str, sign: int = 1) -> Interval:
    """The first column's gain over the second, times `sign`: over tasks, and of the methods."""
    x, y = (sign * values.iloc[:, place].to_numpy(dtype=float) for place in (0, 1))
    candidate, baseline = values.columns
    found = study.methods(candidate, baseline, metric, list(values.index), sign)
    return with_methods(mean_difference(x, y), found)


def _require_values(values: pd.DataFrame, metric: str) -> None:
    """Raise UntestableError where the mean of a task is of no case."""
    if lacking := int(values.isna().any(axis=1).sum()):
        raise UntestableError(f"{metric} applies to no case of {lacking} of {len(values)} tasks")


def _change(claim: Claim, study: Study) -> Evidence:
    metric = claim["metric"]
    values = _task_values(claim, study, metric)
    x, y = (values.iloc[:, place].to_numpy(dtype=float) for place in (0, 1))
    sign = 1 if study.info(metric).higher_is_better else -1
    claimed = abs(claim["percent"]) / 100 * float(y.mean())
    interval = _gain(values, study, metric, sign)
    change = 100 * (x.mean() - y.mean()) / y.mean() if y.mean() else np.nan
    text = f"{y.mean():.3f} to {x.mean():.3f} ({fixed(change, 1, sign=True)} %)"
    text += f"; gain {interval_text(interval)}"
    rule = (
        f"the 95 % interval of the gain must lie above 0 and reach {claimed:.3f} "
        f"({abs(claim['percent']):g} %)"
    )
    return Evidence(at_least(interval, claimed), text, rule)


def _better_mean(claim: Claim, study: Study) -> Evidence:
    metric = claim["metric"]
    values = _task_values(claim, study, metric)
    x, y = (values.iloc[:, place].to_numpy(dtype=float) for place in (0, 1))
    sign = 1 if study.info(metric).higher_is_better else -1
    interval = _gain(values, study, metric, sign)
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
    found = matrix(study.means, [model], 1.0, metric)
    _require_values(found, metric)
    values = found[model].to_numpy(dtype=float)
    interval = mean_difference(values, np.zeros(len(values)))
    text = f"mean {values.mean():.3f}"
    if not np.isfinite(interval.low):
        return Evidence(None, text, "fewer than three tasks give no interval")
    text += f" [{interval.low:.3f}, {interval.high:.3f}] over {len(values)} tasks"
    value, within = claim["value"], claim.get("within", WITHIN)
    rule = (
        f"the 95 % interval over tasks must hold {value:g} (rounded to two digits) and lie within "
        f"{within:g} of it"
    )
    if not interval.low - ROUNDED <= value <= interval.high + ROUNDED:
        return Evidence(False, text, rule)
    near = value - within <= interval.low and interval.high <= value + within
    return Evidence(True if near else None, text, rule)


def _no_difference(claim: Claim, study: Study) -> Evidence:
    values = _task_values(claim, study, claim["metric"])
    x, y = (values.iloc[:, place].to_numpy(dtype=float) for place in (0, 1))
    interval, margin = _gain(values, study, claim["metric"]), claim.get("margin", MARGIN)
    test = paired_wilcoxon(x, y)
    papers = (
        f"p = {test.p:.2g} over tasks" if test.p_floor < ALPHA else "too few tasks for the test"
    )
    text = f"difference {interval_text(interval)}; as the paper counts: {papers}"
    rule = (
        f"the 95 % interval over tasks must lie within {margin:g}; 'not significant', as the paper "
        "argues, is not equality"
    )
    where = place(interval.low, interval.high, margin)
    if where == "within":
        return Evidence(True, text, rule)
    return Evidence(False if _differs(interval) else None, text, rule)


def _differs(interval: Interval) -> bool:
    return interval.low > 0 or interval.high < 0


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
    _require_values(values, claim["metric"])
    means, ours = values.mean(), {rank: name for name, rank in ranks.items()}[claim["rank"]]
    sign = 1 if study.info(claim["metric"]).higher_is_better else -1
    leads = {
        name: _gain(values[[ours, name]], study, claim["metric"], sign)
        for name in sorted(names, key=lambda name: ranks[name])
        if name != ours
    }
    text = f"rank {claim['rank']}: {means[ours]:.3f}, " + ", ".join(
        f"rank {ranks[name]}: {means[name]:.3f} (gain over it {interval_text(lead)})"
        for name, lead in leads.items()
    )
    rule = (
        f"the 95 % intervals over tasks of the gain of rank {claim['rank']} over every other rank "
        "must lie above 0; one below 0 contradicts"
    )
    if any(lead.high < 0 for lead in leads.values()):
        return Evidence(False, text, rule)
    return Evidence(True if all(lead.low > 0 for lead in leads.values()) else None, text, rule)


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
