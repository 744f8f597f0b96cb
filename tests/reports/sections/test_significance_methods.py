"""The significance table asks about methods: verdicts, families, margins and what one training is
worth.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest

from record.schema import StudyPlan
from reports.render.latex import to_latex
from reports.render.layout import to_markdown
from reports.sections.significance import count_line, counts, significance_table
from reports.sections.significance_layout import significance_section
from reports.sections.tests_in_detail import details_section
from reports.statistics import method_difference, paired_wilcoxon
from tests.record.builders import commit, study_plan

DICE = {"dice": {"higher_is_better": True, "unit": "", "title": "Dice"}}
CASES = 40


def plan(folds: int = 5, seeds: int = 1, **comparison: Any) -> StudyPlan:
    trials = [
        {"model": m, "fold": f, "seed": s, "train_id": f"{m}{f}{s}", "eval_id": f"e{m}{f}{s}"}
        for m, f, s in itertools.product(("base", "cand"), range(folds), range(seeds))
    ]
    tested = {"baseline": "base", "candidates": ["cand"], "metrics": ["dice"], "family": []}
    return study_plan(
        models=["base", "cand"],
        tasks=["T"],
        metrics=DICE,
        scoring={"nsd": "surfel", "hd95": "voxel-max", "tolerances": {"T": [1.0]}},
        comparisons=[tested | comparison],
        trials=trials,
    )


def scores(
    gain: float, luck: float, folds: int = 5, seeds: int = 1, draw: int = 0, groups: int = 1
) -> pd.DataFrame:
    """Every training is off by `luck` (standard deviation), every score by 0.02."""
    rng = np.random.default_rng(draw)
    hardness = rng.uniform(0.5, 0.8, CASES)
    of_training = rng.normal(0, luck, (2, folds, seeds))
    made = []
    for (number, model), fold, seed in itertools.product(
        enumerate(("base", "cand")), range(folds), range(seeds)
    ):
        for case, group in itertools.product(range(fold, CASES, folds), range(groups)):
            score = hardness[case] + number * gain + of_training[number, fold, seed]
            made.append(
                {"model": model, "task": "T", "fraction": 1.0, "fold": fold, "seed": seed}
                | {"case": f"c{case:02d}", "group": f"g{group}", "status": "ok", "diagonal": 50.0}
                | {"dice": score + rng.normal(0, 0.02)}
            )
    return pd.DataFrame(made)


def table(rows: pd.DataFrame, of: StudyPlan) -> pd.DataFrame:
    return significance_table(
        rows, of, {str(trial.eval_id): commit(eval_id=trial.eval_id) for trial in of.trials}
    )


def test_the_columns_are_the_two_tests_of_the_differences() -> None:
    rows = scores(0.02, 0.01, seeds=3, groups=2)
    row = table(rows, plan(seeds=3)).iloc[0]
    by_run = rows.groupby(["model", "fold", "seed", "case"])["dice"].mean()
    d = by_run["cand"] - by_run["base"]
    by_hand = method_difference(
        d.to_numpy(),
        fold=d.index.get_level_values("fold").tolist(),
        training=d.index.get_level_values("seed").tolist(),
        case=d.index.get_level_values("case").tolist(),
    )
    assert row["p_methods"] == pytest.approx(by_hand.p, rel=1e-9)
    assert (row["method_low"], row["method_high"]) == pytest.approx((by_hand.low, by_hand.high))
    assert (row["folds"], row["trainings"], row["method"]) == (5, 15, by_hand.method)
    assert row["component_training"] == pytest.approx(by_hand.components["training"])
    averaged = d.groupby(level="case").mean().to_numpy()
    assert row["p_cases"] == paired_wilcoxon(averaged, np.zeros(CASES)).p


def test_a_case_of_several_scans_counts_as_its_patient() -> None:
    rows = scores(0.0, 0.0)
    rows["patient"] = rows["case"].str.removeprefix("c").astype(int).mod(20).map("p{:02d}".format)
    row = table(rows, plan()).iloc[0]
    assert row["n"] == 20
    means = rows.groupby(["model", "fold", "patient"])["dice"].mean()
    d = means["cand"] - means["base"]
    labels = {name: d.index.get_level_values(name).tolist() for name in ("fold", "patient")}
    by_hand = method_difference(
        d.to_numpy(), fold=labels["fold"], training=[0] * len(d), case=labels["patient"]
    )
    assert row["p_methods"] == pytest.approx(by_hand.p, rel=1e-9)


def test_luck_of_training_supports_these_trainings_only() -> None:
    found = [table(scores(0.0, 0.03, draw=draw), plan()).iloc[0] for draw in range(40)]
    verdicts = [row["verdict"] for row in found]
    assert verdicts.count("significant") <= 5
    assert verdicts.count("these trainings only") >= 15
    for row in found:
        if row["verdict"] == "these trainings only":
            assert row["p_cases_holm"] < 0.05 <= row["p_holm"]


def test_a_difference_of_methods_is_found_through_luck_of_training() -> None:
    row = table(scores(0.08, 0.02, seeds=3), plan(seeds=3)).iloc[0]
    assert (row["verdict"], row["favours"]) == ("significant", "cand")


@pytest.mark.parametrize(("folds", "seeds"), [(1, 1), (1, 3)])
def test_one_training_set_says_nothing_about_methods(folds: int, seeds: int) -> None:
    of = plan(folds, seeds, equivalence={"dice": 0.5})
    result = table(scores(0.05, 0.0, folds, seeds), of)
    row = result.iloc[0]
    assert row["verdict"] == "not testable for methods"
    assert np.isnan([row["p_methods"], row["p_holm"], row["p_bh"], row["method_low"]]).all()
    assert row["p_cases"] < 1e-6
    assert row["equivalence"] == ""
    assert dict(counts(result))["not testable for methods"] == "1/1"
    assert count_line(result) == (
        "0/1 raw, 0/1 Holm, 0/1 BH, 0/1 not testable, 1/1 not testable for methods; "
        "1/1 as the paper counts (raw p over cases)"
    )
    text = to_markdown(significance_section(result, of, []), "s")
    assert "not testable for methods; these trainings only, which favour cand" in text


def test_the_margin_is_held_against_the_interval_of_the_methods() -> None:
    of = plan(equivalence={"dice": 0.02})
    lucky = table(scores(0.0, 0.03, draw=1), of).iloc[0]
    assert lucky["difference_high"] - lucky["difference_low"] < 0.03
    assert lucky["method_high"] - lucky["method_low"] > 0.06
    assert lucky["equivalence"] == "undecided"
    steady = table(scores(0.0, 0.0), of).iloc[0]
    assert (steady["equivalence"], steady["verdict"]) == ("equivalent", "not significant")
    probabilities = [steady[f"probability_{name}"] for name in ("below", "within", "beyond")]
    assert sum(probabilities) == pytest.approx(1)
    assert probabilities[1] > 0.95


def test_nothing_is_equivalent_beside_not_testable() -> None:
    rows = scores(0.0, 0.0)
    same = pd.concat(
        [rows[rows["model"] == "base"].assign(model=name) for name in ("base", "cand")]
    )
    of = plan(equivalence={"dice": 0.02})
    result = table(same, of)
    assert (result["verdict"].iloc[0], result["equivalence"].iloc[0]) == ("not testable", "")
    assert "equivalent" not in to_markdown(significance_section(result, of, []), "s")


def test_a_training_that_two_folds_share_is_one_training() -> None:
    of = plan(4)
    for place, trial in enumerate(of.trials):
        shared = {"train_id": f"{trial.model}{trial.fold // 2}"}
        of.trials[place] = trial.model_copy(update=shared)
    row = table(scores(0.05, 0.0, 4), of).iloc[0]
    apart = table(scores(0.05, 0.0, 4), plan(4)).iloc[0]
    assert (apart["folds"], apart["trainings"]) == (4, 4)
    assert (row["folds"], row["trainings"]) == (2, 2)
    assert row["p_methods"] > apart["p_methods"]


def test_what_is_not_significant_says_what_could_have_been_seen() -> None:
    of = plan(equivalence={"dice": 0.001})
    result = table(scores(0.0, 0.001), of)
    row = result.iloc[0]
    assert row["verdict"] == "not significant"
    assert 0.005 < row["detectable"] < 0.05
    shown = to_markdown(significance_section(result, of, []), "s")
    assert f"not significant; 80 % power (uncorrected) from {row['detectable']:.3f}" in shown
    details = details_section(result, of)
    assert [len(one.rows) for one in details.tables] == [1, 1]
    for made in details.tables:
        assert {len(made.header), len(made.align)} == {len(made.rows[0])}
    assert {"p_runs", "probability_within", "component_fold", "detectable"} <= set(details.data)
    assert r"80 \% power" in to_latex(details)
