"""The sentence that a report begins with, whole, in every kind of study."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from record.schema import StudyPlan
from reports.figures.forest import forest_plots
from reports.findings import Finding, Kind, Place
from reports.render.html import Figure, opening
from reports.render.layout import Cell, Section, Table, to_markdown
from reports.sections.headline import headlines
from reports.sections.significance import COLUMNS
from reports.sections.significance_layout import significance_section
from tests.record.builders import study_plan

WORDS = ("better", "favours", "favours_cases", "equivalence", "method", "cases_test")
METRICS = {
    "dice": {"title": "Dice"},
    "hd95": {"title": "HD95", "unit": "mm", "higher_is_better": False},
}
TESTED = {
    "verdict": "significant",
    "favours": "cand",
    "favours_cases": "cand",
    "p_methods": 0.004,
    "p_holm": 0.012,
    "p_cases": 0.001,
    "p_cases_holm": 0.001,
}
OPEN = TESTED | {"verdict": "not significant", "p_holm": 0.4, "p_cases_holm": 0.4, "favours": ""}
CASES = OPEN | {"verdict": "these trainings only", "p_cases_holm": 0.01}
BARE = {"p_methods": np.nan, "p_holm": np.nan, "favours": ""}
SMALL = TESTED | {"verdict": "not testable", "p_holm": np.nan, "p_floor": 0.0625, "n": 5}
ONE_FOLD = TESTED | BARE | {"verdict": "not testable for methods", "folds": 1, "trainings": 1}
ONE_FOLD |= {"method_low": np.nan, "method_high": np.nan, "p_cases_holm": 0.01}
NO_SCORE = TESTED | BARE | {"verdict": "not testable", "n": 0, "n_zero": 0, "p_floor": np.nan}
NO_SCORE |= dict.fromkeys(("difference", "method_difference", "method_low", "method_high"), np.nan)
NO_SCORE |= dict.fromkeys(("candidate_mean", "baseline_mean", "trainings", "folds"), np.nan)
MISSING = {"verdict": "incomplete: 1 of 10 trials missing", "n": 0, "trainings": np.nan}
NEW = {"exploratory": True}


def row(**given: Any) -> dict[str, Any]:
    plain = dict.fromkeys(COLUMNS, np.nan) | dict.fromkeys(WORDS, "")
    plain |= {"baseline": "base", "candidate": "cand", "task": "A", "fraction": 1.0}
    plain |= {"metric": "dice", "n": 20, "n_zero": 0, "folds": 5, "trainings": 5}
    plain |= {"baseline_mean": 0.7, "candidate_mean": 0.72, "difference": 0.02, "margin": 0.0}
    plain |= {"method_difference": 0.02, "method_low": 0.01, "method_high": 0.03, "method_df": 4.0}
    return plain | given


def made(*rows: dict[str, Any]) -> tuple[pd.DataFrame, StudyPlan]:
    table = pd.DataFrame([row(**given) for given in rows], columns=list(COLUMNS))
    tasks, fractions = (list(dict.fromkeys(table[name])) for name in ("task", "fraction"))
    return table, study_plan(tasks=tasks, fractions=fractions, metrics=METRICS)


B, C, TENTH = {"task": "B"}, {"task": "C"}, {"fraction": 0.1}
BASIS = "(n = 20 cases, 5 trainings of each model on 5 training sets)"
EACH = "5 trainings of each model on each task"
FOUND = "Dice 0.720 against 0.700, difference +0.020"
MILLIMETRES = {
    "metric": "hd95",
    "candidate_mean": 4.0,
    "baseline_mean": 5.0,
    **dict.fromkeys(("difference", "method_difference"), -1.0),
    "method_low": -1.5,
    "method_high": -0.5,
}


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (
            [TESTED],
            f"cand against base, A: {FOUND} [95 % CI +0.010, +0.030]: "
            f"significant (methods: Holm p = 0.012), favours cand {BASIS}.",
        ),
        (
            [TESTED | {"p_holm": 0.0}],
            f"cand against base, A: {FOUND} [95 % CI +0.010, +0.030]: "
            f"significant (methods: Holm p < 1e-300), favours cand {BASIS}.",
        ),
        (
            [CASES | NEW | {"better": "cand", "detectable": 0.05}],
            f"cand against base, A: {FOUND} [95 % CI +0.010, +0.030]: these trainings only "
            "(methods: Holm p = 0.400), which favour cand; 80 % power (uncorrected) from 0.050; "
            f"exploratory {BASIS}.",
        ),
        (
            [SMALL],
            f"cand against base, A: {FOUND}: not testable (smallest attainable p 0.062) "
            "(n = 5 cases, 5 trainings of each model on 5 training sets).",
        ),
        (
            [ONE_FOLD | {"better": "cand"}],
            f"cand against base, A: {FOUND}: not testable for methods; these trainings only, which "
            "favour cand (n = 20 cases, 1 training of each model on 1 training set).",
        ),
        (
            [NO_SCORE],
            "cand against base, A: Dice, no test case has a score: not testable (n = 0 cases).",
        ),
        ([MISSING], "cand against base, A: Dice: incomplete: 1 of 10 trials missing."),
        (
            [TESTED | MILLIMETRES],
            "cand against base, A: HD95 (less is better) 4.00 mm against 5.00 mm, difference -1.00 "
            f"[95 % CI -1.50, -0.50]: significant (methods: Holm p = 0.012), favours cand {BASIS}.",
        ),
        (
            [OPEN | TENTH, TESTED],
            f"cand against base, A, full data: {FOUND} [95 % CI +0.010, +0.030]: significant "
            f"(methods: Holm p = 0.012), favours cand {BASIS}. Its other 1 row: 1 not significant.",
        ),
        (
            [TESTED, OPEN | B | NEW],
            "cand against base: Dice, mean difference over 2 tasks +0.020 "
            "[95 % CI +0.014, +0.026], p = 5.0e-05 (not corrected): significant for cand in A; "
            "not significant (exploratory) in B "
            f"(n = 40 cases, {EACH}).",
        ),
        (
            [CASES | {"favours_cases": "base"}, CASES | B, SMALL | C],
            "cand against base: Dice, mean difference over 3 tasks +0.020 (1 of 3 tasks not "
            "testable, so without an interval): these trainings only (favour cand) in B; "
            "these trainings only (favour base) in A; not testable in C "
            f"(n = 45 cases, {EACH}).",
        ),
        (
            [ONE_FOLD, ONE_FOLD | B | NEW],
            "cand against base: Dice, mean difference over 2 tasks +0.020 (2 of 2 tasks not "
            "testable, so without an interval): not testable for methods (these trainings favour "
            "cand) in A; not testable for methods (these trainings favour cand; exploratory) in B "
            "(n = 40 cases, 1 training of each model on each task).",
        ),
        (
            [NO_SCORE, NO_SCORE | B],
            "cand against base: Dice, no test case has a score: not testable in A and B "
            "(n = 0 cases).",
        ),
        (
            [MISSING, MISSING | B],
            "cand against base: Dice, no task is complete: incomplete in A and B.",
        ),
        (
            [OPEN | {"margin": 0.04, "task": name} for name in "ABCDEF"],
            "cand against base: Dice, mean difference over 6 tasks +0.020 "
            "[95 % CI +0.017, +0.023], p = 9.0e-13 (not corrected), equivalent within the margin "
            "(interval not corrected): not significant in A, B, C, D and 2 more "
            f"(n = 120 cases, {EACH}).",
        ),
    ],
)
def test_the_whole_sentence(rows: list[dict[str, Any]], sentence: str) -> None:
    [found] = headlines(*made(*rows))
    assert str(found) == sentence


def test_where_a_margin_is_left_before_correction_alone_the_sentence_says_so() -> None:
    [found] = headlines(*made(CASES | {"better": "cand", "margin": 0.005, "equivalence": "above"}))
    assert "these trainings only (methods: Holm p = 0.400)" in found.verdict
    assert found.verdict.endswith("larger by more than the margin (interval not corrected)")


def failed(kind: Kind, model: str, task: str, of: tuple[int, int], fraction: float = 1) -> Finding:
    return Finding(kind, Place(model, task, fraction), *of, "trainings")


def test_the_sentence_on_a_model_that_failed_begins_with_it() -> None:
    findings = [
        failed(Kind.NOTHING, "cand", "A", (5, 5)),
        failed(Kind.NOT_LEARNT, "cand", "A", (5, 5)),  # one reason is enough
        failed(Kind.NOT_LEARNT, "base", "B", (3, 5)),
        failed(Kind.LAST_EPOCH, "base", "A", (5, 5)),  # a note
        failed(Kind.NOTHING, "other", "A", (5, 5)),
        failed(Kind.EVERYTHING, "base", "A", (5, 5), 0.1),
    ]
    table, of = made(TESTED)
    [one] = headlines(table, of, findings=findings)
    assert str(one).startswith(
        f"cand against base, A: cand failed: it predicts nothing or almost nothing; {FOUND}"
    )
    [several] = headlines(*made(TESTED, OPEN | B), findings=findings)
    assert several.failed == (
        "cand failed on A: it predicts nothing or almost nothing; "
        "base failed on B in 3 of 5 trainings: it did not learn"
    )


def test_beside_not_testable_stands_no_interval_and_single_rows_are_called_such() -> None:
    table, of = made(SMALL | {"method_difference": 0.04})  # the mean over cases is +0.020
    section = significance_section(table, of, [])
    for shown in (section.tables, section.short, section.column):
        text = " ".join(cell.text for cell in shown[0].rows[0])
        assert "+0.020" in text
        assert "[" not in text
    single = "Intervals are of single rows, not corrected for their number."
    assert single in section.column[0].caption
    assert all(single in figure.caption for figure in forest_plots(table, of))


def on_a_page(table: pd.DataFrame, of: StudyPlan) -> list[Figure]:
    return [one for one in forest_plots(table, of) if one.name.endswith("_page")]


def test_a_long_comparison_opens_with_the_most_data_and_one_figure() -> None:
    rows = [
        {"task": f"T{task}", "fraction": fraction, **OPEN}
        for fraction in (0.1, 1.0)
        for task in range(40)
    ]
    table, of = made(*rows)
    first, *later = on_a_page(table, of)
    assert "part 1 of 2" in first.caption
    assert [first.follows, *(one.follows for one in later)] == [False, True]
    whole = table[table["fraction"] == 1.0].reset_index(drop=True)
    plain = on_a_page(pd.concat([whole, table[table["fraction"] < 1]]), of)[0]
    assert plain.png == first.png  # full data stand first, wherever the table has them


def figure(name: str, *, follows: bool = False) -> Figure:
    return Figure(name, "", {}, follows=follows)


def test_every_comparison_has_its_figure_on_top_and_the_summary_says_what_is_folded() -> None:
    three = [figure(f"{name}_page") for name in "abc"]
    assert opening(three) == (three, [], "More forest plots: ")
    long = [three[0], figure("a2_page", follows=True), *three[1:], figure("c_column")]
    shown, folded, said = opening(long)
    assert (shown, folded) == (three, [long[1]])
    assert said == "More forest plots: the other rows of these comparisons"
    many = [figure(f"{number}_page") for number in range(9)]
    assert [len(part) for part in opening(many)[:2]] == [6, 3]
    assert opening(many)[2] == "More forest plots: 3 more comparisons"


def test_a_name_with_a_bar_is_one_column_in_markdown() -> None:
    section = Section(
        "s", "S", [Table("", ["a|b", "c"], "ll", [[Cell("1"), Cell("2")]])], pd.DataFrame()
    )
    assert r"| a\|b | c |" in to_markdown(section, "study")
