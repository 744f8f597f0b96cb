"""The noise floor of a study with several seeds: its table, its figure, its numbers by hand."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest

from record.schema import Commit, StudyPlan
from reports.figures.noise import noise_figure
from reports.render.latex import to_latex
from reports.render.layout import to_csv, to_markdown
from reports.sections.noise_floor import NoiseFloor, noise_floor, self_section
from reports.sections.significance import significance_table
from reports.statistics import method_difference, paired_wilcoxon
from tests.record.builders import commit, study_plan

METRICS = {
    "dice": {"higher_is_better": True, "unit": "", "title": "Dice"},
    "hd95": {"higher_is_better": False, "unit": "mm", "title": "HD95"},
}
CASES = 60


def plan(
    models: tuple[str, ...] = ("base",), folds: int = 5, seeds: int = 4, **changes: Any
) -> StudyPlan:
    trials = [
        {"model": m, "fold": f, "seed": s, "train_id": f"{m}{f}{s}", "eval_id": f"e{m}{f}{s}"}
        for m, f, s in itertools.product(models, range(folds), range(seeds))
    ]
    compared = {"baseline": "base", "metrics": list(METRICS), "family": []}
    comparisons = [compared | {"candidates": list(models[1:])}] if models[1:] else []
    values = {"models": list(models), "tasks": ["T"], "metrics": METRICS, "trials": trials}
    scoring = {"nsd": "surfel", "hd95": "voxel-max", "tolerances": {"T": [1.0]}}
    return study_plan(**values | {"comparisons": comparisons, "scoring": scoring} | changes)


def commits(of: StudyPlan) -> dict[str, Commit]:
    return {str(trial.eval_id): commit(eval_id=trial.eval_id) for trial in of.trials}


def scores(of: StudyPlan, luck: float = 0.02) -> pd.DataFrame:
    """Every training is off by `luck` (standard deviation), every score by 0.02."""
    rng = np.random.default_rng(3)
    hardness = rng.uniform(0.5, 0.8, CASES)
    folds = len({trial.fold for trial in of.trials})
    made = []
    for trial in of.trials:
        off = rng.normal(0, luck)
        for case in range(trial.fold, CASES, folds):
            dice = hardness[case] + off + rng.normal(0, 0.02)
            made.append(
                {"model": trial.model, "task": "T", "fraction": 1.0, "fold": trial.fold}
                | {"seed": trial.seed, "case": f"c{case:02d}", "group": "foreground"}
                | {"status": "ok", "diagonal": 50.0, "dice": dice, "hd95": 20 * (1 - dice)}
            )
    return pd.DataFrame(made)


def floor(rows: pd.DataFrame, of: StudyPlan) -> NoiseFloor:
    found = noise_floor(rows, of, commits(of))
    assert found is not None
    return found


def test_the_rows_are_the_tests_of_every_two_seeds() -> None:
    of = plan(seeds=3)
    rows = scores(of)
    found = floor(rows, of)
    assert list(found.rows.columns[:7]) == [
        "model",
        "task",
        "fraction",
        "metric",
        "pairs",
        "share of p_cases < 0.05",
        "share of p_methods < 0.05",
    ]
    wide = rows.pivot_table(index=["fold", "case"], columns="seed", values="dice")
    p_cases, p_methods, sizes = [], [], []
    for one, other in ((0, 1), (0, 2), (1, 2)):
        p_cases.append(paired_wilcoxon(wide[one], wide[other]).p)
        d = wide[one] - wide[other]
        fold, case = (d.index.get_level_values(name).tolist() for name in ("fold", "case"))
        p_methods.append(
            method_difference(d.to_numpy(), fold=fold, training=[0] * len(d), case=case).p
        )
        sizes.append(abs(d.mean()))
    dice = found.rows.set_index("metric").loc["dice"]
    assert dice["pairs"] == 3
    assert dice["share of p_cases < 0.05"] == np.mean(np.array(p_cases) < 0.05)
    assert dice["share of p_methods < 0.05"] == np.mean(np.array(p_methods) < 0.05)
    assert (dice["typical"], dice["largest"]) == pytest.approx((np.median(sizes), max(sizes)))
    pairs = found.pairs[found.pairs["metric"] == "dice"]
    assert pairs["p_methods"].to_numpy() == pytest.approx(p_methods, rel=1e-4)


def test_luck_of_training_is_found_over_cases_and_not_of_methods() -> None:
    of = plan(seeds=6)
    found = floor(scores(of, luck=0.03), of)
    (cases, of_cases), (methods, of_methods) = found.counted().values()
    assert of_cases == of_methods == 2 * 15
    assert cases >= 15 > 8 > methods
    section = self_section(found, of)
    text = to_markdown(section, "s")
    assert f"p cases < 0.05 in {cases} of 30 ({cases / 30:.0%})" in text
    assert f"p methods < 0.05 in {methods} of 30" in text
    assert "scatters widely" in text
    assert r"p cases $<$ 0.05" in to_latex(section)


def test_the_order_of_rows_changes_nothing() -> None:
    of = plan()
    rows = scores(of)
    shuffled = rows.sample(frac=1, random_state=1)
    assert to_csv(floor(rows, of).rows) == to_csv(floor(shuffled, of).rows)


def test_one_seed_and_unfinished_cells_have_no_floor() -> None:
    of = plan(seeds=1)
    assert noise_floor(scores(of), of, commits(of)) is None
    of = plan(seeds=2)
    done = commits(of)
    done.popitem()
    assert noise_floor(scores(of), of, done) is None


def test_a_hold_out_shows_sizes_and_says_what_it_cannot_test() -> None:
    of = plan(folds=1, seeds=3)
    found = floor(scores(of), of)
    assert found.rows["share of p_methods < 0.05"].isna().all()
    assert (found.rows["typical"] > 0).all()
    text = to_markdown(self_section(found, of), "s")
    assert "no testable comparison" in text
    assert "One training set" in text


def test_of_many_seeds_fifteen_pairs_are_drawn_and_said() -> None:
    of = plan(folds=2, seeds=8)
    found = floor(scores(of), of)
    assert set(found.rows["pairs"]) == {15}
    assert set(found.rows["possible_pairs"]) == {28}
    assert "15 were drawn" in to_markdown(self_section(found, of), "s")


def test_scans_of_a_patient_are_averaged_first() -> None:
    of = plan(seeds=2)
    rows = scores(of)
    number = rows["case"].str.removeprefix("c").astype(int)
    rows["patient"] = (number % 30).map("p{:02d}".format)
    rows["patient"] += rows["fold"].astype(str)  # scans of a patient share their fold
    means = rows.groupby(["fold", "patient", "seed"])["dice"].mean().unstack("seed")
    found = floor(rows, of)
    p = found.pairs[found.pairs["metric"] == "dice"]["p_cases"].iloc[0]
    assert p == paired_wilcoxon(means[0], means[1]).p


def test_the_figure_has_a_panel_a_metric_and_says_the_counts() -> None:
    of = plan(("base", "cand"), seeds=3)
    rows = scores(of)
    found = floor(rows, of)
    table = significance_table(rows, of, commits(of))
    (drawn,) = noise_figure(found, table, of)
    assert drawn.name == "self"
    assert drawn.png.startswith(b"\x89PNG")
    assert drawn.pdf.startswith(b"%PDF")
    count, tested = found.counted()["p_cases"]
    assert f"p cases < 0.05 in {count} of {tested}" in drawn.caption
    assert "between the methods" in drawn.caption
    (alone,) = noise_figure(floor(rows, of), table[:0], of)
    assert "between the methods" not in alone.caption
    assert noise_figure(None, table, of) == []
