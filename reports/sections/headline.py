"""What each comparison comes to, in one sentence: the first thing that a reader sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from record.metric import Metric
from record.schema import StudyPlan
from reports.findings import Finding, failures
from reports.render.layout import Headline, number, share
from reports.sections.printed_column import EXPLORATORY
from reports.sections.row_tests import NOT_FOR_METHODS, NOT_TESTABLE, equivalence
from reports.sections.significance import NOT_SIGNIFICANT, ONLY_CASES, SIGNIFICANT, trainings_only
from reports.sections.significance_layout import (
    REGION,
    bounds,
    estimate,
    interval,
    p_text,
    verdict_text,
)
from reports.statistics.over_tasks import Estimate, over_tasks

FIRST = "dice"  # the metric of the sentence, where it is compared
NAMED = 4  # tasks with one verdict that a sentence names
_MISSING = "incomplete"
_ORDER = (SIGNIFICANT, ONLY_CASES, NOT_SIGNIFICANT, NOT_FOR_METHODS, NOT_TESTABLE, _MISSING)


def headlines(
    table: pd.DataFrame,
    plan: StudyPlan,
    unit: str = "cases",
    findings: Sequence[Finding] = (),
) -> list[Headline]:
    """A sentence for every comparison: its Dice (otherwise its first metric) at the largest share
    of the data.

    Args:
        table: of `significance_table`.
        plan: the study.
        unit: what n counts.
        findings: on the study's health; of a model that failed the sentence says so first.
    """
    groups = table.groupby(["baseline", "candidate"], sort=False)
    return [
        _headline(rows, plan, (str(key[0]), str(key[1])), unit, findings)  # type: ignore[index]
        for key, rows in groups
    ]


def _headline(
    rows: pd.DataFrame,
    plan: StudyPlan,
    models: tuple[str, str],
    unit: str,
    findings: Sequence[Finding],
) -> Headline:
    baseline, candidate = models
    names = list(dict.fromkeys(rows["metric"]))
    metric = FIRST if FIRST in names else names[0]
    fraction = rows["fraction"].max()
    chosen = (rows["metric"] == metric) & (rows["fraction"] == fraction)
    records = rows[chosen].to_dict("records")
    said = f"{candidate} against {baseline}"
    place = _place(records, plan, float(fraction))
    if len(records) == 1:
        found, verdict, basis = _of_one(records[0], plan, models, unit)
    else:
        found, verdict, basis = _of_several(rows[chosen], plan, models, unit)
    if len(records) == 1 and records[0]["exploratory"] is True:  # of several the tally says which
        verdict = f"{verdict}; {EXPLORATORY}"
    others = rows[~chosen]
    tasks = [str(row["task"]) for row in records]
    failed = failures(findings, (candidate, baseline), tasks, float(fraction))
    return Headline(f"{said}{place}", found, verdict, basis, _others(others, models), failed)


def _place(records: Sequence[Mapping[Any, Any]], plan: StudyPlan, fraction: float) -> str:
    task = f", {records[0]['task']}" if len(records) == 1 else ""
    data = "full" if fraction == 1 else share(fraction)
    return f"{task}, {data} data" if len(plan.fractions) > 1 or fraction != 1 else task


def _of_one(
    row: Mapping[Any, Any], plan: StudyPlan, models: tuple[str, str], unit: str
) -> tuple[str, str, str]:
    """What was found, the verdict and what it rests on, of one task."""
    about = plan.metrics[row["metric"]]
    if str(row["verdict"]).startswith(_MISSING):
        return about.title, str(row["verdict"]), ""
    if not row["n"]:
        return f"{_title(about)}, no test case has a score", NOT_TESTABLE, f"n = 0 {unit}"
    digits = about.digits
    means = [
        number(row[f"{name}_mean"], digits, unit=_unit(about.unit)).text
        for name in ("candidate", "baseline")
    ]
    between = f"{means[0]} against {means[1]}, difference {_difference(row, digits)}"
    found = f"{_title(about)} {between}"
    verdict = verdict_text(row, digits)
    if row["verdict"] == NOT_TESTABLE:
        verdict = f"{NOT_TESTABLE} (smallest attainable p {p_text(row['p_floor'])})"
    elif np.isfinite(row["p_holm"]):
        word = str(row["verdict"])
        verdict = verdict.replace(word, f"{word} (methods: Holm p {_equal(row['p_holm'])})", 1)
    basis = f"n = {int(row['n'])} {unit}"
    if row["trainings"] > 0:
        sets = int(row["folds"])
        basis += f", {_count(int(row['trainings']), 'training')} of each model on "
        basis += _count(sets, "training set")
    return found, verdict, basis


def _difference(row: Mapping[Any, Any], digits: int) -> str:
    """With its interval, if there is one."""
    text = interval(estimate(row), *bounds(row), digits).text
    return text.replace(" [", " [95 % CI ")


def _of_several(
    rows: pd.DataFrame, plan: StudyPlan, models: tuple[str, str], unit: str
) -> tuple[str, str, str]:
    """The mean difference over tasks with its interval, p and margin, and what is said of which
    task.
    """
    about = plan.metrics[rows["metric"].iloc[0]]
    records = rows.to_dict("records")
    by_task = _by_task(records, models)
    complete = [row for row in records if not str(row["verdict"]).startswith(_MISSING)]
    if not complete:
        return f"{_title(about)}, no task is complete", by_task, ""
    basis = f"n = {sum(int(row['n']) for row in complete)} {unit}"
    scored = [row for row in complete if not np.isnan(estimate(row))]
    if not scored:
        return f"{_title(about)}, no test case has a score", by_task, basis
    gap = over_tasks(
        [
            Estimate(estimate(row), *bounds(row), row["p_methods"], row["method_df"])
            for row in scored
        ]
    )
    shown = interval(gap.estimate, gap.low, gap.high, about.digits).text
    value, _, ends = shown.partition(" [")
    shown = f"{value}{_unit(about.unit)}" + (f" [95 % CI {ends}" if ends else "")
    found = f"{_title(about)}, mean difference over {_count(len(scored), 'task')} {shown}"
    if ends:
        found += f", p {_equal(gap.p)} (not corrected){_margin(gap, scored)}"
    untested = sum(row["verdict"] in (NOT_TESTABLE, NOT_FOR_METHODS) for row in complete)
    if untested:
        without = "" if ends else ", so without an interval"
        found += f" ({untested} of {_count(len(complete), 'task')} not testable{without})"
    trainings = sorted({int(row["trainings"]) for row in records if row["trainings"] > 0})
    if trainings:
        low, high = trainings[0], trainings[-1]
        counts = _count(low, "training") if low == high else f"{low} to {high} trainings"
        basis += f", {counts} of each model on each task"
    return found, by_task, basis


def _margin(mean: Estimate, rows: Sequence[Mapping[Any, Any]]) -> str:
    """Where the mean over tasks lies against the margin, where the spec names one."""
    margin = float(rows[0]["margin"])  # one comparison and metric, and so one margin
    if not margin > 0:
        return ""
    return f", {REGION[equivalence(mean.low, mean.high, margin)]}"


def _by_task(records: Sequence[Mapping[Any, Any]], models: tuple[str, str]) -> str:
    """`significant for X in A and B; not significant in C`: every task by its name, of many with
    one verdict the first few.
    """
    tasks: dict[tuple[int, int, bool, str], list[str]] = {}
    for row in records:
        tasks.setdefault(_kind(row, models), []).append(str(row["task"]))
    said = []
    for kind in sorted(tasks):
        names = tasks[kind]
        if len(names) > NAMED + 1:  # "and 1 more" is no shorter than its name
            names = [*names[:NAMED], f"{len(names) - NAMED} more"]
        said.append(f"{kind[-1]} in {_and(names)}")
    return "; ".join(said)


def _and(names: Sequence[str]) -> str:
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), names[-1]])


def _others(rows: pd.DataFrame, models: tuple[str, str]) -> str:
    """What the comparison's remaining rows say."""
    if rows.empty:
        return ""
    records = rows.to_dict("records")
    return f"Its other {_count(len(records), 'row')}: {_tally(records, models)}."


def _tally(records: Sequence[Mapping[Any, Any]], models: tuple[str, str]) -> str:
    """`4 significant for X, 2 not significant`: every row counts once."""
    counted = Counter(_kind(row, models) for row in records)
    return ", ".join(f"{counted[kind]} {kind[-1]}" for kind in sorted(counted))


def _kind(row: Mapping[Any, Any], models: tuple[str, str]) -> tuple[int, int, bool, str]:
    """The verdict with the model that it favours and a mark of what is exploratory; before it,
    what it is sorted by: verdict, candidate first, marked ones last.
    """
    verdict = str(row["verdict"])
    verdict = _MISSING if verdict.startswith(_MISSING) else verdict
    said, marks, favoured = verdict, [], ""
    if verdict == SIGNIFICANT and row["favours"]:
        favoured = str(row["favours"])
        said = f"{verdict} for {favoured}"
    elif trainings_only(row) and row["favours_cases"]:
        favoured = str(row["favours_cases"])
        which = "" if verdict == ONLY_CASES else "these trainings "
        marks.append(f"{which}favour {favoured}")
    exploratory = row["exploratory"] is True
    marks += [EXPLORATORY] if exploratory else []
    if marks:
        said = f"{said} ({'; '.join(marks)})"
    place = models[::-1].index(favoured) if favoured in models else len(models)
    return _ORDER.index(verdict), place, exploratory, said


def _title(about: Metric) -> str:
    return about.title if about.higher_is_better else f"{about.title} (less is better)"


def _equal(p: float) -> str:
    """`= 0.012`, or `< 1e-300`."""
    text = p_text(p)
    return f"< {text[1:]}" if text.startswith("<") else f"= {text}"


def _count(number_of: int, what: str) -> str:
    return f"{number_of} {what}{'' if number_of == 1 else 's'}"


def _unit(unit: str) -> str:
    return f" {unit}" if unit else ""
