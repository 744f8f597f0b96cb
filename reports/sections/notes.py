"""The notes that stand under the tables: what a reader of the tests must know."""

from __future__ import annotations

import numpy as np
import pandas as pd

from record.external import compared_only
from record.schema import StudyPlan
from record.study import StoredStudy
from reports.health import capped_rows
from reports.sections.noise_floor import NoiseFloor, count_facts
from reports.sections.provenance import excluded_cases, mixtures
from reports.sections.row_tests import NOT_FOR_METHODS

LISTED = 20


def notes(
    study: StoredStudy,
    rows: pd.DataFrame,
    table: pd.DataFrame,
    floor: NoiseFloor | None = None,
) -> list[str]:
    """What a reader of the tests must know, one sentence or two each.

    Args:
        rows: the scores.
        table: the significance table.
        floor: the study's self-comparisons, where it has several seeds.
    """
    plan, missing = study.plan, study.missing
    total, commits = len(plan.trials), study.finished.commits
    found = [f"{total - len(missing)} of {total} trials are in this report."]
    found += missing_notes(study)
    found += [
        f"{task}: {description}." for task, description in plan.descriptions.items() if description
    ]
    if searched := study.searched:
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
    compared = _compared(plan, rows)
    distances = [
        name for name, about in plan.metrics.items() if about.distance and name in compared
    ]
    defined = ""
    if distances:
        titles = " and ".join(plan.metrics[name].title for name in distances)
        defined = f" {titles}: definition {scoring.hd95}."
    found.append(
        "Scores are per test case, on its own grid, in mm; mean ± standard deviation over cases "
        "(n), the better one bold where the two print differently. NSD: definition "
        f"{scoring.nsd}, tolerance {tolerances}.{defined}"
    )
    if "patient" in rows:
        found.append(
            "Where a grouping is given, n counts patients, each the mean over its cases, which are "
            "not independent."
        )
    missed = rows.loc[capped_rows(rows, plan), distances]
    if capped := int(np.isinf(missed.to_numpy(dtype=float)).sum()):
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
        "'Not significant' does not mean 'equal'; '80 % power (uncorrected) from' is the smallest "
        "difference that such a study finds in four of five repetitions (p methods < 0.05)."
    )
    if not table.empty:
        untested = int((table["verdict"] == NOT_FOR_METHODS).sum())
        found += _few_trainings(plan, untested)
    if len(_seeds(plan)) == 1 and not compared_only(plan):
        found.append(
            "One seed cannot show its own noise floor: how often a model differs from itself."
        )
    if floor:
        counted = ", ".join(f"{name} in {count}" for name, count in count_facts(floor))
        found.append(
            f"Each model against itself, seed against seed: {counted} (`self.md`). So often the "
            "tests find a difference where there is none between methods; about 5 % is right."
        )
    attempts = [marker.attempt for _, marker in plan.finished(commits) if marker.cost.known]
    kinds = sorted({f"{attempt.world} x {attempt.threads} threads" for attempt in attempts})
    if len(kinds) > 1:
        found.append(
            f"Trials ran with different numbers of processes or threads: {', '.join(kinds)}."
        )
    if mixed := mixtures(plan, commits):
        found.append(
            "Trials were made with different versions: "
            f"{'; '.join(f'{name} {said}' for name, said in mixed)}."
        )
    rounded = sorted({note for trial in plan.trials for note in trial.notes})
    return found + [f"Splits: {note}." for note in rounded]


def missing_notes(study: StoredStudy) -> list[str]:
    """The trials that are not in the report, and why: failed ones first, others up to a number."""
    of, missing = study.finished, study.missing
    found = [
        f"Damaged, and not in this report: {trial.place} ({of.damaged[trial.eval_id]})."
        for trial in missing
        if trial.eval_id in of.damaged
    ]
    missing = [trial for trial in missing if trial.eval_id not in of.damaged]
    failures = study.failures if missing else {}
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
    return found


def _seeds(plan: StudyPlan) -> set[int]:
    return {trial.seed for trial in plan.trials}


def _few_trainings(plan: StudyPlan, untested: int) -> list[str]:
    """What a study cannot say that trains every model once, or once a fold.

    Args:
        plan: the study.
        untested: rows without a test of the methods.
    """
    remedy = "Cross-validation (`folds`), best with several seeds, makes them so."
    if compared_only(plan):
        remedy = "Masks of several trainings (`--trainings`) make them so."
    if untested:
        return [
            f"{untested} rows are not testable for methods: from one training set nothing can be "
            f"said of others. {remedy}"
        ]
    if compared_only(plan):
        return []
    if len({trial.fold for trial in plan.trials}) == 1:
        return [
            "One training set: no row is testable for methods, since nothing can be said of "
            f"others. {remedy}"
        ]
    if len(_seeds(plan)) == 1:
        return [
            "One seed: the test of the methods rests on the folds alone, is valid, and sees large "
            "differences only; more seeds tell luck of training from difference of methods."
        ]
    return []


def _compared(plan: StudyPlan, rows: pd.DataFrame) -> set[str]:
    """Metrics of the comparisons that the scores have."""
    return {name for comparison in plan.comparisons for name in comparison.metrics} & set(
        rows.columns
    )
