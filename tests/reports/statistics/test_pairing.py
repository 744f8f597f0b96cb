"""What is counted once: patients, structures, seeds; and in which direction a test points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from record.schema import StudyPlan
from reports.render.layout import to_markdown
from reports.sections.groups import groups_section
from reports.sections.significance import significance_table
from reports.sections.significance_layout import significance_section
from reports.sections.tests_in_detail import details_section
from reports.statistics.pairing import pair, with_patients
from reports.statistics.scores import case_scores
from tests.record.builders import commits, study_plan

METRICS = {
    "dice": {"higher_is_better": True, "unit": "", "title": "Dice"},
    "sensitivity": {"higher_is_better": True, "unit": "", "title": "Sensitivity"},
    "hd95": {"higher_is_better": False, "unit": "mm", "title": "HD95"},
}
COMPARISON = {"baseline": "a", "candidates": ["b"], "metrics": ["dice", "hd95"], "family": []}
CELL = {"task": "T_1", "fraction": 1.0}
FOLDS = 5

FINISHED = commits({f"{model}{fold}": {} for model in ("a", "b") for fold in range(FOLDS)})


def plan(**changes: Any) -> StudyPlan:
    trials = [
        CELL
        | {"model": model, "fold": fold, "seed": 0}
        | {"train_id": f"{model}{fold}", "eval_id": f"{model}{fold}"}
        for model in ("a", "b")
        for fold in range(FOLDS)
    ]
    values = {
        "models": ["a", "b"],
        "tasks": ["T_1"],
        "metrics": METRICS,
        "comparisons": [COMPARISON],
        "trials": trials,
    }
    return study_plan(**values | changes)


def rows(dice: dict[str, Any], **more: Any) -> pd.DataFrame:
    """Scores of each model by case, three neighbours in one fold; the HD95 of `more`, where it is
    given.
    """
    made = [
        CELL
        | {
            "model": model,
            "fold": number // 3 % FOLDS,
            "seed": 0,
            "case": f"c{number:02d}",
            "group": "x",
            "status": "ok",
            "diagonal": 200.0,
            "dice": value,
            "hd95": more.get("hd95", {}).get(model, [0.0] * len(values))[number],
        }
        for model, values in dice.items()
        for number, value in enumerate(values)
    ]
    return pd.DataFrame(made)


def table(frame: pd.DataFrame, **changes: Any) -> pd.DataFrame:
    return significance_table(frame, plan(**changes), FINISHED).set_index("metric")


def test_the_scans_of_one_patient_are_one_pair() -> None:
    rng = np.random.default_rng(0)
    frame = rows({"a": rng.uniform(0.5, 0.7, 30), "b": rng.uniform(0.5, 0.8, 30)})
    grouped = with_patients(
        frame, {"T_1": {f"c{number:02d}": f"p{number // 3}" for number in range(30)}}
    )
    pairs = pair(grouped, candidate="b", baseline="a", metric="dice")
    assert pairs.cases == tuple(sorted(f"p{number}" for number in range(10)))
    first = frame[frame["case"].isin(["c00", "c01", "c02"]) & (frame["model"] == "b")][
        "dice"
    ].mean()
    assert pairs.x[0] == pytest.approx(first)
    assert table(grouped).loc["dice", "n"] == 10
    assert table(frame).loc["dice", "n"] == 30
    of = plan()
    scores = case_scores(grouped, of, FINISHED)
    assert len(scores) == 20
    assert scores["dice"].iloc[10] == pytest.approx(first)


def test_without_a_grouping_nothing_changes() -> None:
    frame = rows({"a": [0.5, 0.6], "b": [0.7, 0.7]})
    assert with_patients(frame, {"T_1": {}}) is frame


def test_what_only_the_cases_support_names_the_model_that_the_ranks_favour() -> None:
    """b is a little worse in 19 of 20 cases; a misses one structure, which decides the means."""
    a, b = np.full(20, 5.0), 5.5 + np.arange(20) / 100
    a[0] = np.inf
    frame = rows({"a": np.full(20, 0.5), "b": np.full(20, 0.5)}, hd95={"a": a, "b": b})
    found = table(frame)
    row = found.loc["hd95"]
    assert row["verdict"] == "these trainings only"
    assert (row["better"], row["favours_cases"]) == ("b", "a")
    text = to_markdown(significance_section(found.reset_index(), plan(), []), "s")
    assert "these trainings only, which favour a by the ranks, not by the means" in text


def test_missing_one_structure_and_missing_both_are_no_tie() -> None:
    """a misses one of two structures in every case, b both."""
    whole = rows({"a": [0.5] * 8, "b": [0.5] * 8})
    parts = [whole.assign(group=name, hd95=np.inf) for name in ("x", "y")]
    frame = pd.concat(parts, ignore_index=True)
    frame.loc[(frame["model"] == "a") & (frame["group"] == "x"), "hd95"] = 4.0
    pairs = pair(frame, candidate="b", baseline="a", metric="hd95")
    assert list(pairs.x) == [200.0] * 8  # all capped
    assert list(pairs.y) == [102.0] * 8
    assert pairs.capped == 16
    row = table(frame).loc["hd95"]
    assert (row["n_zero"], row["favours_cases"]) == (0, "a")
    assert row["p_cases"] == pytest.approx(2 / 2**8)
    frame.loc[frame["model"] == "b", "hd95"] = 4.0  # one miss against none stays infinite
    assert list(pair(frame, candidate="b", baseline="a", metric="hd95").y) == [np.inf] * 8


def test_a_case_without_structure_has_no_sensitivity_even_where_empty_is_perfect() -> None:
    frame = rows({"a": [0.5] * 8, "b": [0.6] * 8}).assign(sensitivity=0.5)
    empty = frame["case"] == "c00"
    frame.loc[empty, ["dice", "sensitivity", "hd95", "status"]] = [
        np.nan,
        np.nan,
        np.nan,
        "both-empty",
    ]
    frame.loc[empty & (frame["model"] == "b"), ["dice", "hd95", "status"]] = [
        0.0,
        np.inf,
        "spurious",
    ]
    comparison = {
        "baseline": "a",
        "candidates": ["b"],
        "metrics": ["dice", "sensitivity"],
        "family": [],
    }
    found = table(frame, both_empty="perfect", comparisons=[comparison])
    assert list(found["n"]) == [8, 7]
    assert list(found["dropped"]) == [0, 1]


def test_the_region_of_equivalence_is_told() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(0.5, 0.7, 40)
    frame = rows({"a": base, "b": base + rng.normal(0, 0.002, 40)})
    comparison = COMPARISON
    assert table(frame).loc["dice", "equivalence"] == ""
    for margin, said in ((0.01, "equivalent"), (1e-4, "undecided")):
        found = table(frame, comparisons=[comparison | {"equivalence": {"dice": margin}}])
        assert found.loc["dice", "equivalence"] == said
        assert found.loc["hd95", "equivalence"] == ""
    far = rows({"a": base, "b": base - 0.05 + rng.normal(0, 0.002, 40)})
    found = table(far, comparisons=[comparison | {"equivalence": {"dice": 0.01}}])
    assert found.loc["dice", "equivalence"] == "below"
    text = to_markdown(significance_section(found.reset_index(), plan(), []), "s")
    assert (
        "significant, favours a; smaller by more than the margin (interval not corrected)" in text
    )


def test_the_spread_between_seeds_is_told() -> None:
    one, two = (rows({"a": values, "b": values}) for values in ([0.5] * 8, [0.7] * 8))
    frame = pd.concat([one, two.assign(seed=1)])
    found = table(frame)
    assert found.loc["dice", "baseline_seed_sd"] == pytest.approx(np.std([0.5, 0.7], ddof=1))
    assert np.isnan(table(one).loc["dice", "baseline_seed_sd"])
    assert "0.1414" in to_markdown(details_section(found.reset_index(), plan()), "s")


def test_every_structure_has_a_line_of_its_own() -> None:
    whole = rows({"a": [0.5] * 4, "b": [0.6] * 4})
    assert groups_section(whole, plan()) is None
    core = whole.assign(group="core", dice=[0.1, 0.2, 0.3, 0.4] * 2)
    core.loc[3, ["dice", "hd95", "status"]] = [np.nan, np.nan, "both-empty"]
    section = groups_section(pd.concat([whole, core]), plan())
    assert section is not None
    text = to_markdown(section, "s")
    assert "| T_1 | core | a | 3 | 0.200 ± 0.100 | 0.00 ± 0.00 |" in text
    assert "| T_1 | x | b | 4 | 0.600 ± 0.000 | 0.00 ± 0.00 |" in text
    assert section.data.query("group == 'core' and model == 'a'")["dice_n"].item() == 3
