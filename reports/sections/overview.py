"""Tables 2 to 4: means over tasks, all models with their ranks, and the shares of the training
data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from record.metric import Metric
from record.schema import StudyPlan
from reports.render.layout import Cell, Section, Table, number, share, spread, text_cell, titled
from reports.sections.model_ranks import Ranking, finished_models, stability
from reports.sections.row_tests import ALPHA
from reports.sections.significance import CASES_TESTED
from reports.statistics.scores import common_tasks, matrix


def means_section(table: pd.DataFrame, means: pd.DataFrame, plan: StudyPlan) -> Section:
    """Table 2, the paper's headline: each comparison's means over tasks, at the largest share of
    the data.
    """
    fraction = max(plan.fractions)
    rows, made = [], []
    for comparison in plan.comparisons:
        baseline = comparison.baseline
        for candidate in comparison.candidates:
            for metric in comparison.metrics:
                if metric not in means.columns:
                    continue
                values = matrix(means, [baseline, candidate], fraction, metric)
                if len(values):
                    tests = table[
                        (table["baseline"] == baseline) & (table["candidate"] == candidate)
                        & (table["metric"] == metric) & (table["fraction"] == fraction)
                    ]  # fmt: skip
                    record = _mean_row(values, tests, plan.metrics[metric])
                    made.append(
                        {"baseline": baseline, "candidate": candidate, "metric": metric} | record
                    )
                    rows.append(_mean_cells(made[-1], plan.metrics[metric]))
    header = [
        "Candidate",
        "Baseline",
        "Metric",
        "Tasks",
        "Baseline mean",
        "Candidate mean",
        "Change",
        "Better",
        "p methods < 0.05",
        "p cases < 0.05",
    ]
    caption = (
        f"Mean ± standard deviation over tasks of each task's mean over cases, {share(fraction)} "
        "training data. Better: tasks in which the candidate's mean is better; p methods and p "
        "cases < 0.05: tasks in which the test of the methods, and the one over cases as the paper "
        "counts, favours it with raw p below 0.05."
    )
    return Section(
        "means",
        "Means over tasks",
        [Table("", header, "lllrrrrrrr", rows, caption)],
        pd.DataFrame(made),
        [caption],
    )


def _mean_row(values: pd.DataFrame, tests: pd.DataFrame, info: Metric) -> dict[str, Any]:
    sign = 1 if info.higher_is_better else -1
    y, x = values.iloc[:, 0].to_numpy(), values.iloc[:, 1].to_numpy()
    won = {
        name: tests[(tests[favours] == tests["candidate"]) & tests["verdict"].isin(CASES_TESTED)]
        for name, favours in (("p_methods", "favours"), ("p_cases", "favours_cases"))
    }
    return {
        "tasks": len(values),
        "baseline_mean": y.mean(),
        "baseline_sd": y.std(ddof=1) if len(y) > 1 else np.nan,
        "candidate_mean": x.mean(),
        "candidate_sd": x.std(ddof=1) if len(x) > 1 else np.nan,
        "change_percent": 100 * (x.mean() - y.mean()) / y.mean() if y.mean() else np.nan,
        "better": int((sign * (x - y) > 0).sum()),
        "methods_significant": int((won["p_methods"]["p_methods"] < ALPHA).sum()),
        "raw_significant": int((won["p_cases"]["p_cases"] < ALPHA).sum()),
        "favours": int(np.sign(sign * (x.mean() - y.mean()))) if len(x) else 0,
    }


def _mean_cells(row: Mapping[str, Any], info: Metric) -> list[Cell]:
    of = f"/{row['tasks']}"
    return [
        Cell(row["candidate"]),
        Cell(row["baseline"]),
        Cell(titled(info)),
        number(row["tasks"], 0),
        spread(row["baseline_mean"], row["baseline_sd"], info.digits, best=row["favours"] < 0),
        spread(row["candidate_mean"], row["candidate_sd"], info.digits, best=row["favours"] > 0),
        number(row["change_percent"], 1, sign=True, unit="%"),
        Cell(f"{row['better']}{of}", sort=row["better"]),
        *(
            Cell(f"{row[name]}{of}", sort=row[name])
            for name in ("methods_significant", "raw_significant")
        ),
    ]


def models_section(
    scores: pd.DataFrame, means: pd.DataFrame, plan: StudyPlan, ranking: Ranking | None
) -> Section:
    """Table 3: mean Dice and NSD of all models, and their rank with its stability under resampled
    cases.
    """
    fraction = max(plan.fractions)
    models = finished_models(means, plan, fraction)
    tasks = common_tasks(means, models, fraction)
    made = []
    stable = stability(scores, models, tasks, fraction) if len(models) > 1 and tasks else None
    for index, model in enumerate(models if tasks else []):
        row: dict[str, Any] = {"model": model, "tasks": len(tasks)}
        for metric in ("dice", "nsd"):
            if metric in means:
                values = matrix(means, models, fraction, metric)[model].to_numpy()
                row |= {
                    f"{metric}_mean": values.mean(),
                    f"{metric}_sd": values.std(ddof=1) if len(values) > 1 else np.nan,
                }
        row["mean_rank"] = ranking.mean_ranks[index] if ranking else np.nan
        for name in ("ranks", "low", "high"):
            row[f"rank_{name}"] = float(getattr(stable, name)[index]) if stable else np.nan
        made.append(row)
    frame = pd.DataFrame(made)
    if stable:
        frame = frame.sort_values(["rank_ranks", "mean_rank"], kind="stable").reset_index(drop=True)
    rows = [_model_cells(row, frame) for row in frame.to_dict("records")]
    left_out = [model for model in plan.models if model not in models]
    notes = [
        f"Mean ± standard deviation over {len(tasks)} task(s) that every listed model has "
        f"finished, {share(fraction)} training data. Rank by Dice, 95 % of its values over 1,000 "
        "bootstrap samples of the cases in brackets."
    ]
    if ranking:
        how = (
            f"Nemenyi's critical difference {ranking.distance:.2f}"
            if ranking.distance is not None
            else "pairwise Wilcoxon tests with Holm"
        )
        notes.append(
            f"Mean rank over {ranking.n} {ranking.unit}: Friedman p = {ranking.p:.3g}; {how}."
        )
    if left_out:
        notes.append(
            f"Left out, no task is finished at this share of the data: {', '.join(left_out)}."
        )
    header = ["Model", "Tasks", "Dice", "NSD", "Rank", "Mean rank"]
    return Section(
        "models", "All models", [Table("", header, "lrrrrr", rows, " ".join(notes))], frame, notes
    )


def _model_cells(row: Mapping[Any, Any], frame: pd.DataFrame) -> list[Cell]:
    cells = [Cell(row["model"]), number(row["tasks"], 0)]
    for metric in ("dice", "nsd"):
        mean = row.get(f"{metric}_mean", np.nan)
        best = bool(mean == frame[f"{metric}_mean"].max()) if f"{metric}_mean" in frame else False
        cells.append(spread(mean, row.get(f"{metric}_sd", np.nan), best=best))
    rank = row["rank_ranks"]
    text = "" if np.isnan(rank) else f"{rank:.0f} [{row['rank_low']:.0f}, {row['rank_high']:.0f}]"
    return [*cells, Cell(text, sort=None if np.isnan(rank) else rank), number(row["mean_rank"], 2)]


def few_shot_section(means: pd.DataFrame, history: pd.DataFrame, plan: StudyPlan) -> Section:
    """Table 4: test Dice, and validation Dice after the last epoch, by share of the training
    data.
    """
    made, rows = [], []
    last = last_validation(history)
    for fraction in plan.fractions:
        models = finished_models(means, plan, fraction)
        tasks = common_tasks(means, models, fraction)
        best = (
            max(
                (means_at(means, model, tasks, fraction).mean() for model in models), default=np.nan
            )
            if tasks
            else np.nan
        )
        for model in models if tasks else []:
            test, validation = (
                means_at(means, model, tasks, fraction),
                means_at(last, model, tasks, fraction),
            )
            row: dict[str, Any] = {"fraction": fraction, "model": model, "tasks": len(tasks)}
            for name, values in (("test", test), ("validation", validation)):
                row |= {
                    f"{name}_dice": values.mean() if len(values) else np.nan,
                    f"{name}_sd": values.std(ddof=1) if len(values) > 1 else np.nan,
                }
            made.append(row)
            rows.append(
                [
                    Cell(share(fraction), sort=fraction),
                    text_cell(model),
                    number(len(tasks), 0),
                    spread(row["test_dice"], row["test_sd"], best=bool(row["test_dice"] == best)),
                    spread(row["validation_dice"], row["validation_sd"]),
                ]
            )
    notes = [
        "Mean ± standard deviation over tasks that every listed model has finished at that share "
        "of the training data. Test: every test case, on its own grid. Validation: after the last "
        "epoch, on the network's grid."
    ]
    header = ["Training data", "Model", "Tasks", "Test Dice", "Validation Dice, last epoch"]
    return Section(
        "few_shot",
        "Few-shot",
        [Table("", header, "llrrr", rows, notes[0])],
        pd.DataFrame(made),
        notes,
    )


def last_validation(history: pd.DataFrame) -> pd.DataFrame:
    """Validation Dice after the last epoch, mean over folds and seeds: columns model, task,
    fraction, dice.
    """
    columns = ["model", "task", "fraction", "dice"]
    if history.empty:
        return pd.DataFrame(columns=columns)
    curves = history[(history["split"] == "val") & (history["metric"] == "dice")]
    last = (
        curves.sort_values("epoch", kind="stable")
        .groupby([*columns[:3], "fold", "seed"], observed=True)["value"]
        .last()
    )
    return last.groupby(level=[0, 1, 2]).mean().rename("dice").reset_index()


def means_at(means: pd.DataFrame, model: str, tasks: Sequence[str], fraction: float) -> pd.Series:
    """Dice of one model in these tasks at one fraction."""
    here = means[
        (means["model"] == model) & (means["fraction"] == fraction) & means["task"].isin(tasks)
    ]
    return here["dice"].astype(float)
