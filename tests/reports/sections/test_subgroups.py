"""Comparisons in declared parts of the test cases: a family of tests of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from record.comparison import Comparison
from record.frozen import Analysis
from record.schema import StudyPlan
from record.study import StoredStudy
from reports.build import build_report
from reports.render.layout import to_markdown
from reports.sections.exploratory import Exploratory
from reports.sections.subgroups import subgroup_tests, subgroups_section
from reports.statistics import adjust
from tests.reports.studies import commits, plan, rows, study, table

CASES = [f"c{number:02d}" for number in range(20)]
SIZE = {"name": "size", "borders_ml": [5.0]}
DIVISION = {
    "parts": ["below 5 ml", "from 5 ml"],
    "cases": {
        "T_1": {case: f"{'below' if n % 2 else 'from'} 5 ml" for n, case in enumerate(CASES)}
    },
    "borders_ml": {"T_1": [5.0]},
}


def divided(*subgroups: dict[str, Any], **divisions: Any) -> StudyPlan:
    comparison = {
        "baseline": "base",
        "candidates": ["cand"],
        "metrics": ["dice", "hd95"],
        "family": ["candidate"],
        "subgroups": list(subgroups or (SIZE,)),
    }
    return plan(comparisons=[comparison], divisions=divisions or {"size": DIVISION})


def one_sided() -> pd.DataFrame:
    """The candidate is better by far in the cases of odd numbers, and no different elsewhere."""
    frame = rows(gain=0.0)
    odd = frame["case"].isin(CASES[1::2]) & (frame["model"] == "cand")
    frame.loc[odd, "dice"] += 0.15
    return frame


def test_each_part_is_tested_by_its_own_cases_and_all_are_one_family() -> None:
    of, frame = divided(), one_sided()
    found = subgroup_tests(frame, of, commits(of))
    dice = found[found["metric"] == "dice"].set_index("part")
    assert list(dice["n"]) == [10, 10]
    for part, start in (("below 5 ml", 1), ("from 5 ml", 0)):
        alone = table(frame[frame["case"].isin(CASES[start::2])])
        alone = alone[alone["metric"] == "dice"].iloc[0]
        assert dice.loc[part, "difference"] == alone["difference"]
        assert dice.loc[part, "p_methods"] == alone["p_methods"]
    assert found["family"].nunique() == 1
    expected = adjust(found["p_methods"].to_numpy(dtype=float), "holm")
    np.testing.assert_array_equal(found["p_holm"].to_numpy(dtype=float), expected)
    assert dice.loc["below 5 ml", "verdict"] == "significant"
    assert dice.loc["from 5 ml", "verdict"] == "not significant"


def test_the_tests_of_all_cases_stay_as_they_are(tmp_path: Path) -> None:
    frame, of = one_sided(), divided()
    pd.testing.assert_frame_equal(table(frame, of), table(frame))
    report = build_report(StoredStudy.opened(study(tmp_path, frame, of)))
    assert {"subgroups.md", "subgroups.csv", "subgroups.tex"} <= set(report.files)


def test_a_case_in_no_part_and_a_part_without_cases_are_borne() -> None:
    cases = dict.fromkeys(CASES[:9], "small")
    of = divided(SIZE, size={"parts": ["small", "large"], "cases": {"T_1": cases}})
    found = subgroup_tests(one_sided(), of, commits(of)).set_index(["part", "metric"])
    assert found.loc[("small", "dice"), "n"] == 9
    assert found.loc[("large", "dice"), "n"] == 0
    assert found.loc[("large", "dice"), "verdict"] == "not testable"
    section = subgroups_section(one_sided(), of, commits(of))
    assert section is not None
    assert "large not known (n = 0)" in section.opening[0]


def test_the_section_says_it_in_a_sentence_and_names_the_borders() -> None:
    of = divided()
    section = subgroups_section(one_sided(), of, commits(of))
    assert section is not None
    [said] = section.opening
    assert said.startswith(
        "cand against base, by size: Dice significant in 1 of 2 parts (Holm over the parts): "
        "below 5 ml +0."
    )
    text = to_markdown(section, "s")
    assert "Volumes at which size divides the cases: T_1 5 ml." in text
    assert "does not show that the parts differ" in text
    assert subgroups_section(one_sided(), plan(), commits(plan())) is None


def test_fewer_metrics_may_be_tested_in_parts() -> None:
    of = divided(SIZE | {"metrics": ["dice"]})
    assert set(subgroup_tests(one_sided(), of, commits(of))["metric"]) == {"dice"}


@pytest.mark.parametrize(
    ("change", "exploratory"),
    [({}, False), ({"borders_ml": [6.0]}, True), ({"metrics": ["dice"]}, True)],
)
def test_a_division_that_was_not_frozen_is_exploratory(
    change: dict[str, Any], exploratory: bool
) -> None:
    then, now = divided(), divided(SIZE | change)
    against = Exploratory(Analysis.of(then, {}), Analysis.of(now, {}))
    found = subgroup_tests(one_sided(), now, commits(now), against)
    assert set(found["exploratory"]) == {exploratory}
    if exploratory:
        assert any("subgroups" in line for line in against.differences())


def test_a_plan_without_subgroups_is_stored_as_it_was() -> None:
    values = {"baseline": "a", "candidates": ["b"], "metrics": ["dice"], "family": []}
    assert Comparison.model_validate({**values, "subgroups": []}).to_json() == values
