"""The notes that stand under the tables: what a reader of the tests must know."""

from __future__ import annotations

import numpy as np
import pandas as pd

from record.damage import FinishedTrials
from record.schema import StudyPlan
from record.store import Store
from reports.sections.provenance import excluded_cases, ran_searches
from reports.sections.row_tests import NOT_FOR_METHODS

LISTED = 20


def notes(
    plan: StudyPlan,
    of: FinishedTrials,
    store: Store,
    rows: pd.DataFrame,
    table: pd.DataFrame,
) -> list[str]:
    """What a reader of the tests must know, one sentence or two each.

    Args:
        rows: the scores.
        table: the significance table.
    """
    total, commits, missing = len(plan.trials), of.commits, plan.missing(of.commits)
    found = [f"{total - len(missing)} of {total} trials are in this report."]
    found += [
        f"Damaged, and not in this report: {trial.place} ({of.damaged[trial.eval_id]})."
        for trial in missing
        if trial.eval_id in of.damaged
    ]
    missing = [trial for trial in missing if trial.eval_id not in of.damaged]
    failures = store.failures() if missing else {}
    # Failed cells are named first: of a large unfinished study the rest is only counted.
    ordered = sorted(missing, key=lambda trial: trial.eval_id not in failures)
    shown = [trial for trial in ordered if trial.eval_id in failures]
    shown += [trial for trial in ordered if trial.eval_id not in failures][:LISTED]
    for trial in shown:
        failed = failures.get(trial.eval_id or "")
        why = (
            f"{len(failed)} failed attempts, the last: {failed[-1].reason}"
            if failed
            else "not run yet"
        )
        found.append(f"Missing: {trial.place} ({why}).")
    if rest := len(missing) - len(shown):
        found.append(f"Missing: {rest} more trials that have not run yet.")
    found += [
        f"{task}: {description}." for task, description in plan.descriptions.items() if description
    ]
    if searched := ran_searches(store, plan):
        counts = sorted({sum(one.counts.values()) for one in searched})
        found.append(
            f"Settings were chosen before these trials by {len(searched)} searches of "
            f"{', '.join(map(str, counts))} trials, on no test case of the trials that use them "
            "(provenance.md); no trial of this report was ended on a metric."
        )
    found += [
        f"Left out for all models: {task}, {case} ({why})."
        for task, case, why in excluded_cases(plan)
    ]
    found += [f"Odd in the data: {doubt}." for doubt in plan.doubts]
    scoring = plan.scoring
    tolerances = ", ".join(
        f"{task} {values[0]:g} mm" for task, values in scoring.tolerances.items()
    )
    found.append(
        "Scores are per test case, on its own grid, in mm; mean ± standard deviation over cases "
        f"(n), the better one bold. NSD: definition {scoring.nsd}, tolerance {tolerances}. "
        f"HD95: definition {scoring.hd95}."
    )
    if "patient" in rows:
        found.append(
            "Where a grouping is given, n counts patients, each the mean over its cases, which are "
            "not independent."
        )
    distances = [
        name
        for name, about in plan.metrics.items()
        if about.distance and name in _compared(plan, rows)
    ]
    if capped := int(np.isinf(rows[distances].to_numpy(dtype=float)).sum()):
        found.append(
            f"{capped} infinite distances (a structure missed) count as the volume's diagonal in "
            "the means."
        )
    found.append(
        "Difference: candidate minus baseline, with the interval of the methods: on new trainings, "
        "training sets of this size and cases. Shift (Hodges-Lehmann, its interval the inverted "
        "test) and r (matched-pairs rank-biserial correlation, from -1 to 1) speak of these "
        "trainings."
    )
    approximate = int((table["cases_test"] == "asymptotic").sum())
    but = (
        f", the normal approximation in the {approximate} rows of more than about 1,000 pairs"
        if approximate
        else ""
    )
    found.append(
        f"p cases: exact two-sided Wilcoxon signed-rank test over paired cases (zeros by Pratt"
        f"{but}), label groups and seeds averaged first: these trainings, on new cases. p methods: "
        "the methods, with training set (fold), training (seed) and case as sources of chance. "
        "Holm and BH: p methods corrected within the declared family; the verdict is Holm at 0.05. "
        "'These trainings only': Holm over cases is below 0.05, and that of the methods is not. "
        "'Not significant' does not mean 'equal'; '80 % power from' is the smallest difference "
        "that such a study finds in four of five repetitions (p methods < 0.05, uncorrected)."
    )
    if (untested := int((table["verdict"] == NOT_FOR_METHODS).sum())) or len(_seeds(plan)) == 1:
        found.append(_one_training(untested))
    attempts = [marker.attempt for _, marker in plan.finished(commits)]
    kinds = sorted({f"{attempt.world} x {attempt.threads} threads" for attempt in attempts})
    if len(kinds) > 1:
        found.append(
            f"Trials ran with different numbers of processes or threads: {', '.join(kinds)}."
        )
    rounded = sorted({note for trial in plan.trials for note in trial.notes})
    return found + [f"Splits: {note}." for note in rounded]


def _seeds(plan: StudyPlan) -> set[int]:
    return {trial.seed for trial in plan.trials}


def _one_training(untested: int) -> str:
    """What a study cannot say that trains every model once, or once a fold."""
    if untested:
        return (
            f"{untested} rows are not testable for methods: from one training set nothing can be "
            "said of others. Cross-validation (`folds`), best with several seeds, makes them so."
        )
    return (
        "One seed: the test of the methods rests on the folds alone, is valid, and sees large "
        "differences only; more seeds tell luck of training from difference of methods."
    )


def _compared(plan: StudyPlan, rows: pd.DataFrame) -> set[str]:
    """Metrics of the comparisons that the scores have."""
    return {name for comparison in plan.comparisons for name in comparison.metrics} & set(
        rows.columns
    )
