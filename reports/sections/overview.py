"""Tables 2 and 3: means over tasks, and all models with their ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from record.metric import Metric
from record.schema import StudyPlan
from reports.render.layout import (
    Cell,
    Section,
    Table,
    number,
    percent_change,
    share,
    spread,
    spread_over,
    stands_out,
    titled,
)
from reports.sections.model_ranks import Ranking, drawn_text, finished_models, stability
from reports.sections.printed_column import marked
from reports.sections.significance import CASES_TESTED
from reports.statistics.adjustment import ALPHA
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
                        {"baseline": baseline, "candidate": candidate, "metric": metric}
                        | record
                        | {"exploratory": bool(tests["exploratory"].eq(True).any())}
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
    of = "Mean over tasks" if len(plan.tasks) == 1 else "Mean ± standard deviation over tasks"
    caption = (
        f"{of} of each task's mean over cases, {share(fraction)} "
        "training data. Better: tasks in which the candidate's mean is better; p methods and p "
        "cases < 0.05: tasks in which the test of the methods, and the one over cases as the paper "
        "counts, favours it with raw p below 0.05; the latter speaks of these trainings only."
    )
    return Section(
        "means",
        "Means over tasks",
        [Table("", header, "lllrrrrrrr", rows, caption)],
        pd.DataFrame(made),
        [caption],
        place="shown" if len(plan.tasks) > 1 else "file",  # over one task it is table 1 again
    )


def _mean_row(values: pd.DataFrame, tests: pd.DataFrame, info: Metric) -> dict[str, Any]:
    values = values.dropna()  # a task without structure in any test case has no mean
    sign = 1 if info.higher_is_better else -1
    y, x = values.iloc[:, 0].to_numpy(), values.iloc[:, 1].to_numpy()
    won = {
        name: tests[(tests[favours] == tests["candidate"]) & tests["verdict"].isin(CASES_TESTED)]
        for name, favours in (("p_methods", "favours"), ("p_cases", "favours_cases"))
    }
    return {
        "tasks": len(values),
        "baseline_mean": y.mean() if len(y) else np.nan,
        "baseline_sd": y.std(ddof=1) if len(y) > 1 else np.nan,
        "candidate_mean": x.mean() if len(x) else np.nan,
        "candidate_sd": x.std(ddof=1) if len(x) > 1 else np.nan,
        "change_percent": 100 * (x.mean() - y.mean()) / y.mean() if len(y) and y.mean() else np.nan,
        "better": int((sign * (x - y) > 0).sum()),
        "methods_significant": int((won["p_methods"]["p_methods"] < ALPHA).sum()),
        "raw_significant": int((won["p_cases"]["p_cases"] < ALPHA).sum()),
        "favours": int(np.sign(sign * (x.mean() - y.mean()))) if len(x) else 0,
    }


def _mean_cells(row: Mapping[str, Any], info: Metric) -> list[Cell]:
    of, digits = f"/{row['tasks']}", info.digits
    means = [row["baseline_mean"], row["candidate_mean"]]
    bold = row["favours"] if stands_out(means[0], means[0], means, digits) else 0
    return [
        Cell(row["candidate"]),
        Cell(row["baseline"]),
        Cell(marked(titled(info), row)),
        number(row["tasks"], 0),
        spread(means[0], row["baseline_sd"], digits, best=bold < 0),
        spread(means[1], row["candidate_sd"], digits, best=bold > 0),
        percent_change(row["change_percent"], means[0], digits),
        Cell(f"{row['better']}{of}", sort=row["better"]),
        *(
            Cell(f"{row[name]}{of}", sort=row[name])
            for name in ("methods_significant", "raw_significant")
        ),
    ]


def models_section(
    scores: pd.DataFrame,
    means: pd.DataFrame,
    plan: StudyPlan,
    ranking: Ranking | None,
    runs: pd.DataFrame | None = None,
) -> Section:
    """Table 3: mean Dice and NSD of all models, and their rank with its stability under resampled
    folds, trainings and cases.

    Args:
        scores: of every case, seeds averaged.
        means: of every task.
        plan: the study.
        ranking: its models by Dice.
        runs: Dice of every run and case; without them cases alone are resampled.
    """
    fraction = max(plan.fractions)
    models = finished_models(means, plan, fraction)
    tasks = common_tasks(means, models, fraction)
    made = []
    drawn = scores.assign(fold=0, seed=0) if runs is None else runs
    stable = stability(drawn, models, tasks, fraction) if len(models) > 1 and tasks else None
    several = len(tasks) > 1
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
        for name in ("mean_low", "mean_high"):
            bounds = getattr(stable, name) if stable and several else None
            row[f"rank_{name}"] = np.nan if bounds is None else float(bounds[index])
        made.append(row)
    frame = pd.DataFrame(made)
    if stable:
        frame = frame.sort_values(["rank_ranks", "mean_rank"], kind="stable").reset_index(drop=True)
    rows = [_model_cells(row, frame) for row in frame.to_dict("records")]
    left_out = [model for model in plan.models if model not in models]
    rank = "Rank by the mean Dice"
    if several:
        rank = "Rank by Dice: models are ranked in each task, and then by the mean of these ranks"
    notes = [
        f"{spread_over(len(tasks)).capitalize()} that every listed model has finished, "
        f"{share(fraction)} training data. {rank}; equal ones share the better rank; in "
        "brackets 95 % of its values over 1,000 bootstrap samples "
        f"of {drawn_text(runs)}{', within each task' if several else ''}."
    ]
    if ranking:
        notes.append(
            f"Mean rank over {ranking.n} {ranking.unit}: {ranking.friedman}; {ranking.how}."
        )
        if several:
            notes.append(
                "Every task has trainings of its own, so that tests over tasks count their luck as "
                "scatter between tasks."
            )
    if left_out:
        notes.append(
            f"Left out, no task is finished at this share of the data: {', '.join(left_out)}."
        )
    header = ["Model", "Tasks", "Dice", "NSD", "Rank", "Mean rank"]
    return Section(
        "models",
        "All models",
        [Table("", header, "lrrrrr", rows, " ".join(notes))],
        frame,
        notes,
        place="shown" if len(rows) > 1 else "file",
    )


def _model_cells(row: Mapping[Any, Any], frame: pd.DataFrame) -> list[Cell]:
    cells = [Cell(row["model"]), number(row["tasks"], 0)]
    for metric in ("dice", "nsd"):
        mean = row.get(f"{metric}_mean", np.nan)
        means = frame.get(f"{metric}_mean", pd.Series(dtype=float))
        best = stands_out(mean, means.max(), means)
        cells.append(spread(mean, row.get(f"{metric}_sd", np.nan), best=best))
    rank = row["rank_ranks"]
    text = "" if np.isnan(rank) else f"{rank:.0f} [{row['rank_low']:.0f}, {row['rank_high']:.0f}]"
    mean = number(row["mean_rank"], 2)
    if np.isfinite(row["rank_mean_low"]) and mean.text:
        bounds = f"[{row['rank_mean_low']:.2f}, {row['rank_mean_high']:.2f}]"
        mean = Cell(f"{mean.text} {bounds}", sort=mean.sort)
    return [*cells, Cell(text, sort=None if np.isnan(rank) else rank), mean]
