"""Table of subgroups: the comparisons again, in each part of the test cases that the spec declares.

The parts of a division are one family of tests with what the comparison's `family` joins, apart
from the tests of all cases, whose p they leave as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from record.comparison import Comparison, Division, Subgroups
from record.schema import Commit, StudyPlan
from reports.render.layout import Cell, Section, Table, number, share, spread, titled
from reports.sections.exploratory import Exploratory
from reports.sections.printed_column import marked
from reports.sections.significance import SIGNIFICANT, judge, tests_of
from reports.sections.significance_layout import bounds, estimate, interval, p_text, verdict_text

_FIRST = "dice"  # the metric of the sentence, where it is tested
_NOTE = (
    "The comparisons in parts of the test cases, which the spec declares and the truth or a table "
    "decides, never a score. Difference, p and verdict as in the table of significance; Holm over "
    "the parts of a division, with the tests that the comparison's family joins. One part that is "
    "significant beside one that is not does not show that the parts differ."
)


def subgroup_tests(
    rows: pd.DataFrame,
    plan: StudyPlan,
    commits: Mapping[str, Commit],
    frozen: Exploratory | None = None,
) -> pd.DataFrame:
    """The columns of `significance_table` after `division` and `part`: a row for each part of each
    division, candidate, task, fraction and metric; empty where the spec declares none.
    """
    found = [
        _of_part(rows, plan, commits, number, one, part, frozen)
        for number, comparison in enumerate(plan.comparisons)
        for one in comparison.subgroups
        for part in _division(plan, one).parts
    ]
    if not found:
        return pd.DataFrame()
    table = pd.concat(found, ignore_index=True)
    judge(table)
    return table


def _of_part(
    rows: pd.DataFrame,
    plan: StudyPlan,
    commits: Mapping[str, Commit],
    place: int,
    one: Subgroups,
    part: str,
    frozen: Exploratory | None,
) -> pd.DataFrame:
    """The tests of one comparison within a part, not yet corrected."""
    comparison, cases = plan.comparisons[place], _division(plan, one).cases
    here = [
        cases.get(task, {}).get(case) == part
        for task, case in zip(rows["task"], rows["case"], strict=True)
    ]
    only = comparison.model_copy(update={"metrics": one.metrics or comparison.metrics})
    table = tests_of(rows[here], plan.model_copy(update={"comparisons": [only]}), commits)
    table["family"] = f"{place} {one.name}: " + table["family"]
    if frozen is not None:
        table["exploratory"] = not _was_frozen(frozen, comparison, one)
    table.insert(0, "part", part)
    table.insert(0, "division", one.name)
    return table


def _division(plan: StudyPlan, one: Subgroups) -> Division:
    return plan.divisions.get(one.name, Division(parts=[], cases={}))


def _was_frozen(frozen: Exploratory, comparison: Comparison, one: Subgroups) -> bool:
    """Whether the comparison was frozen as it is, with this division."""
    before = [each for each in frozen.frozen.comparisons if one in each.subgroups]
    return any(_apart(each) == _apart(comparison) for each in before)


def _apart(comparison: Comparison) -> Comparison:
    return comparison.model_copy(update={"subgroups": []})


def subgroups_section(
    rows: pd.DataFrame,
    plan: StudyPlan,
    commits: Mapping[str, Commit],
    frozen: Exploratory | None = None,
) -> Section | None:
    """A table for each comparison and division, and a sentence of each; None without a division."""
    table = subgroup_tests(rows, plan, commits, frozen)
    if table.empty:
        return None
    tables, opening = [], []
    for key, found in table.groupby(["division", "baseline", "candidate"], sort=False):
        division, baseline, candidate = map(str, key)  # type: ignore[arg-type]
        records = found.to_dict("records")
        title = f"{candidate} against {baseline}, by {division}"
        header = ["Task", "Data", "Metric", "Part", "Verdict", "n", baseline, candidate]
        header += ["Difference [95% CI]", "p methods", "Holm"]
        caption = " ".join([_NOTE, *_borders(plan, division)])
        cells = [_cells(row, plan) for row in records]
        tables.append(Table(title, header, "lllllrrrrrr", cells, caption, grouped=3))
        opening.append(_sentence(title, records, plan))
    notes = [_NOTE, *(text for name in plan.divisions for text in _borders(plan, name))]
    return Section("subgroups", "Subgroups", tables, table, notes, opening=opening)


def _cells(row: Mapping[Any, Any], plan: StudyPlan) -> list[Cell]:
    about = plan.metrics[row["metric"]]
    digits = about.digits
    if str(row["verdict"]).startswith("incomplete"):
        said, found = str(row["verdict"]), Cell("")
    else:
        said = verdict_text(row, digits)
        found = interval(estimate(row), *bounds(row), digits)
    return [
        Cell(row["task"]),
        Cell(share(row["fraction"]), sort=row["fraction"]),
        Cell(titled(about)),
        Cell(row["part"]),
        Cell(marked(said, row)),
        number(row["n"], 0),
        *(spread(row[f"{name}_mean"], row[f"{name}_sd"], digits) for name in _MODELS),
        found,
        Cell(p_text(row["p_methods"])),
        Cell(p_text(row["p_holm"]), star=row["verdict"] == SIGNIFICANT),
    ]


_MODELS = ("baseline", "candidate")


def _borders(plan: StudyPlan, name: str) -> list[str]:
    """Where sizes are divided, in words."""
    if not (borders := plan.divisions[name].borders_ml):
        return []
    said = "; ".join(
        f"{task} {', '.join(f'{edge:.3g}' for edge in of)} ml" for task, of in borders.items()
    )
    return [f"Volumes at which {name} divides the cases: {said}."]


def _sentence(title: str, records: list[dict[Any, Any]], plan: StudyPlan) -> str:
    """What the parts come to, in one metric at the largest share of the data."""
    names = list(dict.fromkeys(row["metric"] for row in records))
    metric = _FIRST if _FIRST in names else names[0]
    largest = max(row["fraction"] for row in records)
    chosen = [row for row in records if (row["metric"], row["fraction"]) == (metric, largest)]
    significant = sum(row["verdict"] == SIGNIFICANT for row in chosen)
    about = plan.metrics[metric]
    several = len({row["task"] for row in chosen}) > 1
    parts = [
        f"{row['part']}{' in ' + row['task'] if several else ''} "
        f"{interval(estimate(row), *bounds(row), about.digits).text or 'not known'}"
        f" (n = {row['n']:.0f})"
        for row in chosen
        if not np.isnan(row["n"])
    ]
    return (
        f"{title}: {about.title} significant in {significant} of {len(chosen)} parts "
        f"(Holm over the parts): {'; '.join(parts)}."
    )
