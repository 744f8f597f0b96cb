"""Table 5: how far candidates are ahead at each share of the data, and how much earlier they
converge, as differences between methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from record.schema import Commit, StudyPlan
from reports.render.layout import Cell, Section, Table, number, of_fewer, share
from reports.sections.printed_column import marked
from reports.sections.significance_layout import interval, p_text
from reports.statistics import method_difference
from reports.statistics.methods import Variance
from reports.statistics.over_tasks import Estimate, over_tasks
from reports.statistics.run_scores import repeats_of, trainings_of
from reports.statistics.single_trainings import single_trainings

CONVERGED = 0.95  # of the baseline's best validation Dice of the same run
RUN = ["task", "fold", "seed"]
_TRAINING = ["repeat", "set", "training"]
GAPS = ("test", "validation", "epochs")
_DIGITS = {"test": 3, "validation": 3, "epochs": 1}
_METHODS = ["method_difference", "method_low", "method_high", "p_methods", "method_df"]
HEADER = [
    "Candidate",
    "Baseline",
    "Data",
    "Tasks",
    "Test Dice [95% CI]",
    "p",
    "Validation Dice, last epoch [95% CI]",
    "p",
    "Epochs earlier [95% CI]",
    "p",
]
NOTE = (
    "Candidate minus baseline, mean over tasks; positive: the candidate is ahead, or converges "
    f"earlier. A run has converged at the first epoch with {CONVERGED:.0%} of the best validation "
    "Dice of the baseline's run with the same fold and seed. Intervals and p (two-sided, "
    "uncorrected) are those of the methods: on new training sets and trainings, and for test Dice "
    "new cases, of these tasks. Folds with the same training cases are one training set. Empty "
    "with one training set, or where a trial is missing. Tasks: those with all trials; a gap that "
    "fewer of them have says of how many it is the mean."
)


def gaps_section(
    table: pd.DataFrame, history: pd.DataFrame, plan: StudyPlan, commits: Mapping[str, Commit]
) -> Section:
    """Differences in test Dice, last validation Dice and epochs, of every comparison and share.

    Args:
        table: the significance table.
        history: the curves.
        plan: the study.
        commits: its finished trials.
    """
    made = [
        {"candidate": candidate, "baseline": baseline, "fraction": fraction}
        | _row(table, history, plan, commits, baseline, candidate, fraction)
        for baseline, candidate in _comparisons(plan)
        for fraction in plan.fractions
    ]
    rows = [_cells(row) for row in made]
    tables = [Table("", HEADER, "lllrrrrrrr", rows, NOTE, keys=3)]
    return Section("gaps", "Gaps and convergence", tables, pd.DataFrame(made), [NOTE])


def _comparisons(plan: StudyPlan) -> dict[tuple[str, str], None]:
    return {
        (comparison.baseline, candidate): None
        for comparison in plan.comparisons
        for candidate in comparison.candidates
    }


def _row(
    table: pd.DataFrame,
    history: pd.DataFrame,
    plan: StudyPlan,
    commits: Mapping[str, Commit],
    baseline: str,
    candidate: str,
    fraction: float,
) -> dict[str, Any]:
    """Every gap with its tasks, interval and p; NaN where it cannot be had.

    Exploratory where a test of the pair's Dice is, or any test of a pair whose Dice is not tested.
    """
    rows = table[
        (table["baseline"] == baseline)
        & (table["candidate"] == candidate)
        & (table["fraction"] == fraction)
    ]
    incomplete = set(rows[rows["verdict"].str.startswith("incomplete")]["task"])
    done = [task for task in plan.tasks if task not in incomplete]
    of_dice = rows[rows["metric"] == "dice"]
    tested = of_dice[of_dice["task"].isin(done)].drop_duplicates("task")
    tested = tested[tested["method_difference"].notna()]
    test = [Estimate(*map(float, values)) for values in tested[_METHODS].itertuples(index=False)]
    pairs = paired_runs(history, plan, commits, baseline, candidate, fraction, done)
    variance = variance_of(plan, baseline, candidate)
    found = {"test": test}
    found |= {name: by_task(pairs, name, variance) for name in ("validation", "epochs")}
    marking = rows if of_dice.empty else of_dice
    row: dict[str, Any] = {
        "tasks": len(done),
        "exploratory": bool(marking["exploratory"].eq(True).any()),
    }
    for name, of_tasks in found.items():
        gap = over_tasks(of_tasks)
        row |= {name: gap.estimate, f"{name}_low": gap.low, f"{name}_high": gap.high}
        row |= {f"{name}_p": gap.p, f"{name}_tasks": len(of_tasks)}
    return row


def variance_of(plan: StudyPlan, baseline: str, candidate: str) -> Variance:
    """The variance setting of the comparison that tests these models, of Dice if there is one."""
    found = [
        comparison
        for comparison in plan.comparisons
        if comparison.baseline == baseline and candidate in comparison.candidates
    ]
    of_dice = [comparison for comparison in found if "dice" in comparison.metrics]
    return next((one.variance for one in [*of_dice, *found]), "independent")


def by_task(pairs: pd.DataFrame, gap: str, variance: Variance) -> list[Estimate]:
    """The methods' difference of each task in one of the gaps of `paired_runs`, a training a
    value.
    """
    tasks = {
        task: here.groupby(_TRAINING, sort=False)[gap].mean().reset_index()
        for task, here in pairs.groupby("task", sort=False, observed=True)
    }
    together: dict[tuple[Any, ...], list[Any]] = {}  # tasks with the same training sets
    for task, here in tasks.items():
        key = (tuple(here["set"]), tuple(here["repeat"]))
        together.setdefault(key, []).append(task)
    made: dict[Any, Estimate] = {}
    for (sets, repeats), members in together.items():
        values = np.array([tasks[task][gap].to_numpy(dtype=float) for task in members])
        found = single_trainings(values, sets)
        made |= {
            task: Estimate(*(float(column[row]) for column in found))
            for row, task in enumerate(members)
        }
        plain = variance == "independent" and len(set(repeats)) == 1
        asked = np.isnan(found.p) if plain else np.full(len(members), fill_value=True)
        for row in np.flatnonzero(asked & (np.ptp(values, axis=1) > 0)):
            alone = method_difference(
                values[row],
                fold=sets,
                training=range(len(sets)),
                case=sets,
                repeat=repeats,
                variance=variance,
            )
            made[members[row]] = Estimate(alone.estimate, alone.low, alone.high, alone.p, alone.df)
    return [made[task] for task in tasks]


def paired_runs(
    history: pd.DataFrame,
    plan: StudyPlan,
    commits: Mapping[str, Commit],
    baseline: str,
    candidate: str,
    fraction: float,
    tasks: Sequence[str],
) -> pd.DataFrame:
    """One row a run that both models have, by RUN in the order of the tasks.

    Columns of each model: `last*` its last validation Dice, `reached*` the epoch that reaches the
    level of the baseline's run, one past the last where it does not; without a suffix of the
    candidate, with `_baseline` of the baseline. Gaps: `validation` of Dice, candidate - baseline,
    `epochs` that the candidate is earlier. `set`, `training` and `repeat` are the run's training
    set, training and cross-validation, as the test of the methods has them.
    """
    columns = [*RUN, *_TRAINING, "last_baseline", "reached_baseline", "last", "reached", *GAPS[1:]]
    if history.empty:
        return pd.DataFrame(columns=columns)
    curves = history[
        (history["split"] == "val")
        & (history["metric"] == "dice")
        & (history["fraction"] == fraction)
        & history["task"].isin(tasks)
        & history["model"].isin([baseline, candidate])
    ].sort_values("epoch", kind="stable")
    theirs, ours = (curves[curves["model"] == model] for model in (baseline, candidate))
    level = CONVERGED * theirs.groupby(RUN, observed=True)["value"].max()
    found = {}
    for suffix, of in {"_baseline": theirs, "": ours}.items():
        runs = of.groupby(RUN, observed=True)
        found[f"last{suffix}"] = runs["value"].last()
        at = level.reindex(pd.MultiIndex.from_frame(of[RUN])).to_numpy()
        first = of[of["value"].to_numpy() >= at].groupby(RUN, observed=True)["epoch"].first()
        past = runs["epoch"].last() + 1
        found[f"reached{suffix}"] = first.reindex(past.index).fillna(past)
    pairs = pd.DataFrame(found).dropna().reset_index()
    pairs["validation"] = pairs["last"] - pairs["last_baseline"]
    pairs["epochs"] = pairs["reached_baseline"] - pairs["reached"]
    repeats = repeats_of(plan)
    named = {task: trainings_of(plan, commits, candidate, task, fraction) for task in tasks}
    keys = list(pairs[RUN].itertuples(index=False, name=None))
    names = [named[task].get((fold, seed), (fold, seed)) for task, fold, seed in keys]
    pairs["set"] = [name[0] for name in names]
    pairs["training"] = [str(name[1]) for name in names]
    pairs["repeat"] = [repeats.get(name[0], 0) for name in names]
    order = pairs["task"].map({task: place for place, task in enumerate(tasks)})
    return pairs.loc[order.sort_values(kind="stable").index, columns].reset_index(drop=True)


def _cells(row: dict[str, Any]) -> list[Cell]:
    cells = [
        Cell(marked(row["candidate"], row)),
        Cell(row["baseline"]),
        Cell(share(row["fraction"]), sort=row["fraction"]),
        number(row["tasks"], 0),
    ]
    for name, digits in _DIGITS.items():
        p = row[f"{name}_p"]
        gap = interval(row[name], row[f"{name}_low"], row[f"{name}_high"], digits)
        cells.append(of_fewer(gap, row[f"{name}_tasks"], row["tasks"]))
        cells.append(Cell(p_text(p), sort=None if np.isnan(p) else p))
    return cells
