"""Gaps and convergence as differences between methods, and ranks that see luck of training."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy.special import stdtr

from record.frozen import Analysis
from record.schema import Commit, StudyPlan
from reports.figures.diagrams import critical_difference_diagram
from reports.sections.exploratory import Exploratory
from reports.sections.few_shot import few_shot_section
from reports.sections.gaps import gaps_section
from reports.sections.model_ranks import rank_models
from reports.sections.overview import models_section
from reports.sections.significance import significance_table
from reports.statistics import friedman, method_difference
from reports.statistics.over_tasks import Estimate, over_tasks
from reports.statistics.scores import case_scores, run_scores_of, task_means
from tests.record.builders import commit, study_plan

MODELS = ("base", "cand", "third")
DICE = {"dice": {"higher_is_better": True, "unit": "", "title": "Dice"}}
CASES, FOLDS, SEEDS = 30, 5, 2


def plan(
    tasks: tuple[str, ...] = ("T",), folds: int = FOLDS, repeats: int = 1, variance: str = ""
) -> StudyPlan:
    trials = [
        {"model": m, "task": t, "fold": f, "seed": s, "repeat": f * repeats // folds}
        | {"train_id": f"{m}{t}{f}{s}", "eval_id": f"e{m}{t}{f}{s}"}
        for m, t, f, s in itertools.product(MODELS, tasks, range(folds), range(SEEDS))
    ]
    compared = {"baseline": "base", "candidates": ["cand"], "metrics": ["dice"], "family": []}
    compared |= {"variance": variance} if variance else {}
    return study_plan(
        models=list(MODELS),
        tasks=list(tasks),
        metrics=DICE,
        scoring={"nsd": "surfel", "hd95": "voxel-max", "tolerances": {t: [1.0] for t in tasks}},
        comparisons=[compared],
        trials=trials,
    )


def results(
    of: StudyPlan, gains: dict[str, float], luck: float = 0.02
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores and curves; a training is off by `luck` (standard deviation)."""
    rng = np.random.default_rng(4)
    rows, curves = [], []
    folds = len({trial.fold for trial in of.trials})
    hardness = {task: rng.uniform(0.5, 0.7, CASES) for task in of.tasks}
    for trial in of.trials:
        raised = gains.get(trial.model, 0.0) + rng.normal(0, luck)
        place = {"model": trial.model, "task": trial.task, "fraction": 1.0}
        place |= {"fold": trial.fold, "seed": trial.seed}
        rows += [
            place
            | {"case": f"c{case}", "group": "foreground", "status": "ok", "diagonal": 50.0}
            | {"dice": hardness[trial.task][case] + raised + rng.normal(0, 0.01)}
            for case in range(trial.fold, CASES, folds)
        ]
        curves += [
            place | {"epoch": epoch, "split": "val", "metric": "dice", "value": level + raised}
            for epoch, level in enumerate((0.30, 0.45, 0.55, 0.58, 0.60), start=1)
        ]
    return pd.DataFrame(rows), pd.DataFrame(curves)


def test_gaps_of_runs_are_method_differences_and_tasks_are_averaged() -> None:
    of = plan(("T", "U"))
    rows, curves = results(of, {"cand": 0.05})
    done = {str(trial.eval_id): commit(eval_id=trial.eval_id) for trial in of.trials}
    table = significance_table(rows, of, done)
    row = gaps_section(table, curves, of, done).data.iloc[0]
    ends = curves[curves["epoch"] == 5].set_index(["model", "task", "fold", "seed"])["value"]
    d = ends["cand"] - ends["base"]
    found = []
    for task in of.tasks:
        one = d[task]
        fold, seed = (one.index.get_level_values(name).tolist() for name in ("fold", "seed"))
        of_task = method_difference(one.to_numpy(), fold=fold, training=seed, case=fold)
        found.append(Estimate(of_task.estimate, of_task.low, of_task.high, of_task.p, of_task.df))
    expected = over_tasks(found)
    assert row["validation"] == pytest.approx(d.mean())
    assert (row["validation_low"], row["validation_p"]) == pytest.approx((expected.low, expected.p))
    assert row["test"] == pytest.approx(table["method_difference"].mean())
    assert row["tasks"] == 2


def test_convergence_is_asked_of_each_run() -> None:
    of = plan()
    rows, curves = results(of, {}, luck=0.0)
    faster = curves["model"] == "cand"
    curves.loc[faster & (curves["epoch"] == 2), "value"] = 0.58  # the level is 0.57
    done = {str(trial.eval_id): commit(eval_id=trial.eval_id) for trial in of.trials}
    table = significance_table(rows, of, done)
    row = gaps_section(table, curves, of, done).data.iloc[0]
    assert row["epochs"] == 2  # epoch 2 against epoch 4, in every run
    never = curves.copy()
    never.loc[faster, "value"] = 0.1
    assert gaps_section(table, never, of, done).data["epochs"].iloc[0] == 4 - 6  # one past the last
    text = gaps_section(table, curves, of, done).notes[0]
    assert "new training sets and trainings" in text


def test_a_missing_trial_leaves_the_task_out() -> None:
    of = plan(("T", "U"))
    rows, curves = results(of, {"cand": 0.05})
    done = {str(t.eval_id): commit(eval_id=t.eval_id) for t in of.trials if t.eval_id != "ecandU00"}
    table = significance_table(rows, of, done)
    row = gaps_section(table, curves, of, done).data.iloc[0]
    assert row["tasks"] == 1
    assert row["test"] == pytest.approx(table["method_difference"].iloc[0])


def one_seed(of: StudyPlan) -> StudyPlan:
    return of.model_copy(update={"trials": [trial for trial in of.trials if trial.seed == 0]})


def gap_row(of: StudyPlan, curves: pd.DataFrame, done: dict[str, Commit]) -> pd.Series:
    rows = results(of, {"cand": 0.05})[0]
    return gaps_section(significance_table(rows, of, done), curves, of, done).data.iloc[0]


def validated(of: StudyPlan, gaps: tuple[float, ...]) -> pd.DataFrame:
    """Curves of one epoch in which the candidate is so far ahead in each fold."""
    rows = [
        {"model": trial.model, "task": trial.task, "fraction": 1.0, "fold": trial.fold}
        | {"seed": trial.seed, "epoch": 1, "split": "val", "metric": "dice"}
        | {"value": 0.5 + (gaps[trial.fold] if trial.model == "cand" else 0.0)}
        for trial in of.trials
    ]
    return pd.DataFrame(rows)


def test_folds_with_the_same_training_cases_are_one_training_set() -> None:
    of = one_seed(plan())
    gaps = (0.051, 0.050, 0.052, 0.049, 0.03)
    trained = [["a", "b"]] * 4 + [["c", "d"]]
    done = {
        str(trial.eval_id): commit(
            eval_id=trial.eval_id, identity={"train": {"train_cases": trained[trial.fold]}}
        )
        for trial in of.trials
    }
    row = gap_row(of, validated(of, gaps), done)
    sets, runs = [0, 0, 0, 0, 4], range(5)
    expected = method_difference(gaps, fold=sets, training=runs, case=sets)
    by_fold = method_difference(gaps, fold=runs, training=runs, case=runs)
    assert row["validation_p"] == pytest.approx(expected.p, rel=1e-4)
    assert row["validation_low"] == pytest.approx(expected.low, rel=1e-4)
    assert by_fold.p < 0.001 < 0.1 < expected.p


def test_gaps_have_the_variance_of_their_comparison() -> None:
    gaps = (0.051, 0.030, 0.042, 0.049, 0.03, 0.04)
    p = {}
    for repeats, variance in itertools.product((1, 2), ("independent", "nadeau-bengio")):
        of = one_seed(plan(folds=6, repeats=repeats, variance=variance))
        done = {str(trial.eval_id): commit(eval_id=trial.eval_id) for trial in of.trials}
        p[repeats, variance] = gap_row(of, validated(of, gaps), done)["validation_p"]
    error = np.std(gaps, ddof=1) / math.sqrt(6)
    # Nadeau and Bengio (2003): 1 / n + n2 / n1 in place of 1 / n, with n2 / n1 = 1 / (K - 1).
    for (repeats, variance), found in p.items():
        factor = 1 + 6 / (6 / repeats - 1) if variance == "nadeau-bengio" else 1
        t = np.mean(gaps) / (error * math.sqrt(factor))
        assert found == pytest.approx(2 * stdtr(5, -t), rel=1e-6), (repeats, variance)


def test_a_row_that_is_not_in_the_frozen_analysis_is_marked() -> None:
    of = plan()
    rows, curves = results(of, {"cand": 0.05})
    done = {str(trial.eval_id): commit(eval_id=trial.eval_id) for trial in of.trials}
    now = Analysis.of(of, {})
    for both_empty, word in (("exclude", "cand"), ("one", "cand; exploratory")):
        frozen = now.model_copy(update={"both_empty": both_empty})
        table = significance_table(rows, of, done, Exploratory(frozen, now))
        section = gaps_section(table, curves, of, done)
        assert section.tables[0].rows[0][0].text == word
        assert section.data["exploratory"].tolist() == [word != "cand"]


def test_a_gap_of_fewer_tasks_says_so() -> None:
    of = plan(("T", "U"))
    rows, curves = results(of, {"cand": 0.05})
    done = {str(trial.eval_id): commit(eval_id=trial.eval_id) for trial in of.trials}
    table = significance_table(rows, of, done)
    section = gaps_section(table, curves[curves["task"] == "T"], of, done)
    (row,), (cells,) = section.data.to_dict("records"), section.tables[0].rows
    assert [row[f"{name}tasks"] for name in ("", "test_", "validation_", "epochs_")] == [2, 2, 1, 1]
    assert cells[4].text.endswith("]")
    assert cells[6].text.endswith("], 1 task")
    means = task_means(case_scores(rows, of, done))
    shots = few_shot_section(means, curves[curves["task"] == "T"], of)
    assert shots.data["validation_tasks"].tolist() == [1, 1, 1]
    assert all(cells[5].text.endswith(", 1 task") for cells in shots.tables[0].rows)


def ranked(gains: dict[str, float], folds: int = FOLDS, luck: float = 0.02):
    of = plan(folds=folds)
    rows, curves = results(of, gains, luck)
    done = {str(trial.eval_id): commit(eval_id=trial.eval_id) for trial in of.trials}
    scores, runs = case_scores(rows, of, done), run_scores_of(rows, of, done, "dice")
    means = task_means(scores)
    ranking = rank_models(scores, means, of, runs=runs)
    assert ranking is not None
    return of, rows, curves, scores, runs, means, ranking


def test_within_one_task_training_sets_are_the_units() -> None:
    *_, rows, _, _, _, _, ranking = ranked({"cand": 0.2, "third": -0.2})
    assert (ranking.unit, ranking.n, ranking.distance) == ("folds", FOLDS, None)
    by_fold = rows.groupby(["fold", "model"])["dice"].mean().unstack()[list(MODELS)].to_numpy()
    assert ranking.p == friedman(by_fold).f_p
    assert ranking.bars == ()  # every two of them differ as methods
    assert "tests of the methods" in ranking.how
    (figure,) = critical_difference_diagram(ranking)
    assert "pairwise tests of the methods with Holm" in figure.caption


def test_folds_of_repeats_are_no_blocks_of_friedmans_test() -> None:
    of = plan(folds=2 * FOLDS)
    trials = [t.model_dump() | {"repeat": t.fold // FOLDS} for t in of.trials]
    repeated = of.model_copy(update={"trials": [type(of.trials[0])(**t) for t in trials]})
    rows, _ = results(of, {"cand": 0.2, "third": -0.2})
    done = {str(trial.eval_id): commit(eval_id=trial.eval_id) for trial in of.trials}
    scores, runs = case_scores(rows, of, done), run_scores_of(rows, of, done, "dice")
    once, twice = (
        rank_models(scores, task_means(scores), one, runs=runs) for one in (of, repeated)
    )
    assert once is not None
    assert twice is not None
    assert once.p < 0.05
    assert math.isnan(twice.p)
    assert (twice.mean_ranks, twice.n) == (once.mean_ranks, 2 * FOLDS)
    assert twice.friedman == (
        "no Friedman test, since the folds of repeated cross-validations are not independent"
    )


def test_luck_of_training_is_no_rank() -> None:
    of, _, curves, scores, runs, means, ranking = ranked({}, luck=0.05)
    assert ranking.bars != ()
    section = models_section(scores, means, of, ranking, runs)
    over_cases = models_section(scores, means, of, ranking)
    width = section.data["rank_high"] - section.data["rank_low"]
    assert (width >= (over_cases.data["rank_high"] - over_cases.data["rank_low"])).all()
    assert width.sum() > 0
    assert "trainings (seeds)" in section.notes[0]
    assert "samples of the cases alone" in over_cases.notes[0]
    assert "trainings (seeds)" in few_shot_section(means, curves, of, runs).notes[0]
    shots = few_shot_section(means, curves, of, runs).data
    assert (
        (shots["test_low"] < shots["test_dice"]) & (shots["test_dice"] < shots["test_high"])
    ).all()
    assert few_shot_section(means, curves, of).data["test_low"].isna().all()


def test_one_training_set_ranks_without_a_test() -> None:
    *_, ranking = ranked({"cand": 0.2}, folds=1)
    assert ranking.unit == "cases"
    assert math.isnan(ranking.p)
    assert len(ranking.bars) == 1
    assert len(ranking.bars[0]) == 3
    assert "not testable for methods" in ranking.how
    assert ranking.friedman == "no Friedman test"
    assert critical_difference_diagram(ranking) == []  # a bar over all models would say nothing
