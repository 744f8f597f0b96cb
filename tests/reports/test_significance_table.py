"""From rows to the significance table: pairing, families, missing cells, infinities."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.sections.significance import significance_table
from reports.sections.significance_layout import to_csv, to_markdown
from reports.statistics.pairing import PairingError, pair
from tests.reports.studies import commits, plan, rows, table


def test_a_planted_effect_is_found_and_flips_with_its_sign() -> None:
    better, worse = table(rows(0.05)), table(rows(-0.05))
    assert list(better["verdict"]) == ["significant", "significant"]
    assert list(better["better"]) == ["cand", "cand"]  # a higher Dice and a lower distance
    assert list(worse["better"]) == ["base", "base"]
    assert (better["p_methods"] <= better["p_bh"]).all()
    assert (better["p_bh"] <= better["p_holm"]).all()


def test_equal_models_differ_by_nothing() -> None:
    frame = rows()
    same = pd.concat(
        [frame[frame["model"] == "base"], frame[frame["model"] == "base"].assign(model="cand")]
    )
    result = table(same)
    assert list(result["p_cases"]) == [1.0, 1.0]
    assert list(result["verdict"]) == [
        "not testable",
        "not testable",
    ]  # twenty zeros: no p below 1 can be had
    assert list(result["better"]) == ["", ""]


def test_means_that_print_alike_are_not_told_apart_in_bold() -> None:
    frame = rows(0.05)
    assert "**" in to_markdown(table(frame), plan(), [])
    close = rows(0.0)
    nearly = close[close["model"] == "base"].assign(model="cand")
    nearly["dice"] += 1e-5 * np.arange(1, len(nearly) + 1) / len(nearly)
    result = table(pd.concat([close[close["model"] == "base"], nearly]))
    assert result["better"].iloc[0] == "cand"
    assert "**" not in to_markdown(result, plan(), [])


def test_between_two_zeros_there_is_no_change_and_between_ties_no_interval() -> None:
    frame = rows().assign(dice=0.0)
    frame.loc[(frame["model"] == "base") & (frame["case"] == "c00"), "dice"] = 1e-6
    result = table(frame)
    assert result["change_percent"].iloc[0] == pytest.approx(-100)
    assert "-100" not in to_markdown(result, plan(), [])
    same = rows()
    same = pd.concat([same[same["model"] == "base"].assign(model=name) for name in plan().models])
    shown = to_markdown(table(same), plan(), [])
    assert "| 0.000 |" in shown
    assert "[0.000" not in shown
    assert "[+0.000" not in shown


def test_five_cases_are_not_testable_and_no_p_is_printed() -> None:
    result = table(rows(n=5))
    assert list(result["verdict"]) == ["not testable", "not testable"]
    assert result["p_floor"].iloc[0] == pytest.approx(0.0625)
    assert result["p_holm"].isna().all()
    assert "not testable: smallest attainable p 0.062" in to_markdown(result, plan(), [])


def test_a_missing_trial_gives_no_test_and_is_counted() -> None:
    of = plan()
    some = {key: value for key, value in commits(of).items() if key != "ecand1"}
    frame = rows()
    result = significance_table(
        frame[~((frame["model"] == "cand") & (frame["fold"] == 1))], of, some
    )
    assert list(result["verdict"]) == ["incomplete: 1 of 10 trials missing"] * 2
    assert result["p_methods"].isna().all()


def test_a_value_of_one_model_only_gives_no_test_and_names_the_case() -> None:
    frame = rows()
    frame.loc[(frame["model"] == "cand") & (frame["case"] == "c03"), "dice"] = np.nan
    result = table(frame)
    only = "incomplete: only one of cand and base has a value of c03 (seed 0, foreground)"
    assert list(result["verdict"]) == [only, "significant"]
    frame.loc[frame["case"] == "c03", "dice"] = np.nan
    assert list(table(frame)["verdict"]) == ["significant", "significant"]


def test_families_are_corrected_apart() -> None:
    models = ("base", "cand", "other")
    of = plan(models)
    frame = rows(0.01, models)
    apart = table(frame, of)
    of.comparisons[0].family.clear()
    together = table(frame, of)
    assert (together["p_methods"] == apart["p_methods"]).all()
    assert (together["p_holm"] >= apart["p_holm"]).all()
    assert (together["p_holm"] > apart["p_holm"]).any()


def test_missed_structures_are_capped_in_means_counted_and_ranked_last() -> None:
    frame = rows(0.0)
    missed = (frame["model"] == "cand") & (frame["case"] == "c03")
    frame.loc[missed, ["hd95", "dice"]] = [np.inf, 0.0]
    result = table(frame).set_index("metric")
    expected = frame[frame["model"] == "cand"]["hd95"].replace(np.inf, 50.0).mean()
    assert result.loc["hd95", "candidate_mean"] == pytest.approx(expected)
    assert result.loc["hd95", "capped"] == 1
    both = frame["case"] == "c03"
    frame.loc[both, "hd95"] = np.inf
    assert table(frame).set_index("metric").loc["hd95", "capped"] == 2


def test_an_empty_case_is_left_out_for_both_or_counts_as_perfect() -> None:
    frame = rows(0.0)
    frame.loc[frame["case"] == "c00", ["dice", "hd95", "status"]] = [np.nan, np.nan, "both-empty"]
    frame.loc[(frame["case"] == "c00") & (frame["model"] == "cand"), ["dice", "hd95", "status"]] = [
        0.0,
        np.inf,
        "spurious",
    ]
    assert list(table(frame)["n"]) == [19, 19]
    assert list(table(frame)["dropped"]) == [1, 1]
    perfect = pair(frame, candidate="cand", baseline="base", metric="dice", both_empty="perfect")
    assert len(perfect.cases) == 20
    assert (perfect.x[0], perfect.y[0]) == (0.0, 1.0)


def test_groups_then_seeds_are_averaged_before_cases_are_paired() -> None:
    made = [
        {
            "model": m,
            "case": c,
            "seed": s,
            "group": g,
            "fold": 0,
            "status": "ok",
            "diagonal": 1.0,
            "dice": v,
        }
        for m, c, s, g, v in [
            ("a", "c1", 0, "x", 0.2),
            ("a", "c1", 0, "y", 0.4),
            ("a", "c1", 1, "x", 0.6),
            ("a", "c1", 1, "y", 0.8),
            ("b", "c1", 0, "x", 0.1),
            ("b", "c1", 0, "y", 0.1),
            ("b", "c1", 1, "x", 0.1),
            ("b", "c1", 1, "y", 0.1),
        ]
    ]
    pairs = pair(pd.DataFrame(made), candidate="a", baseline="b", metric="dice")
    assert pairs.x == pytest.approx([0.5])
    assert pairs.y == pytest.approx([0.1])


def test_unequal_case_sets_are_refused_with_the_difference() -> None:
    frame = rows()
    with pytest.raises(PairingError, match=r"only base has c07 \(seed 0, foreground\)"):
        pair(
            frame[~((frame["model"] == "cand") & (frame["case"] == "c07"))],
            candidate="cand",
            baseline="base",
            metric="dice",
        )


@given(st.permutations(range(40)))
@settings(deadline=None, max_examples=20)
def test_the_order_of_rows_changes_no_byte(order: list[int]) -> None:
    frame = rows()
    assert to_csv(table(frame.iloc[order].reset_index(drop=True))) == to_csv(table(frame))
