"""The health of a study: what makes its numbers less than they look (`reports.findings`).

Nothing here is a test. A finding says what was seen and how often; whoever reads the table decides.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from record import paths
from record.schema import Commit, StudyPlan
from record.study import StoredStudy
from reports.findings import Finding, Kind, Place

NEARLY_ALL = 0.95  # share of a volume's voxels from which a prediction is nearly everything
NEARLY_NONE = 0.05  # share of the truth's volume below which a prediction is almost nothing
OFTEN = 0.5  # share of a training's cases, or of trainings, from which a finding speaks of a model
LOW = 0.1  # validation Dice below which a training that does not rise has not learnt
LEARNT = 0.01  # validation Dice that a training gains over its first epoch, at least
ABOVE_TRIVIAL = 0.01  # mean Dice that a model gains over a mask of everything, at least
NO_TRUTH = ("spurious", "both-empty")  # `status` of cases without structure in the truth


def health_of(study: StoredStudy) -> list[Finding]:
    """The findings of a stored study's finished trials.

    Raises:
        StoreError: a file of the study is damaged, or the storage is out of reach.
    """
    if not study.finished.commits:
        return []
    rows, history = study.rows(paths.CASES), study.rows(paths.HISTORY)
    return health(study.plan, study.finished.commits, rows, history)


def health(
    plan: StudyPlan, commits: Mapping[str, Commit], rows: pd.DataFrame, history: pd.DataFrame
) -> list[Finding]:
    """What is wrong or odd with the finished trials, in the order of `Kind`, then of the plan.

    Args:
        plan: the study's.
        commits: of the finished trials, by evaluation id.
        rows: their scores, a row per test case and label group.
        history: what was measured after each of their epochs.
    """
    volumes = _volumes(rows)
    found = [
        *_segmenting(volumes),
        *_capped(rows, plan),
        *_learning(history, volumes),
        *_trainings(plan, commits),
        *_hardware(plan, commits),
    ]
    kinds, models, tasks = list(Kind), plan.models, plan.tasks

    def order(finding: Finding) -> tuple[int, int, int, float]:
        place = finding.place or Place(models[0], tasks[0], 1.0)
        return (
            kinds.index(finding.kind),
            tasks.index(place.task),
            models.index(place.model),
            -place.fraction,
        )

    return sorted(found, key=order)


def shares(rows: pd.DataFrame) -> pd.DataFrame:
    """Share of a volume's voxels that the truth has (`truth`) and that is predicted (`predicted`),
    of every row; NaN where its scores do not say.

    Scores are ratios of voxel counts. With sensitivity s and specificity c, accuracy is
    s * truth + c * (1 - truth). Where s and c are equal (a perfect prediction), another model's
    scores of the same case give the truth's share.
    """
    names = ("sensitivity", "specificity", "accuracy")
    if not {*names, "case", "group", "task"} <= set(rows.columns):
        return pd.DataFrame(np.nan, index=rows.index, columns=["truth", "predicted"])
    found, right, accuracy = (rows[name].astype(float) for name in names)
    with np.errstate(invalid="ignore", divide="ignore"):
        truth = (accuracy - right) / (found - right).where((found - right).abs() > 1e-9)
    truth = truth.mask(right.isna(), 1.0)  # the truth fills the volume
    case = [rows[name] for name in ("task", "case", "group")]
    truth = truth.fillna(truth.groupby(case).transform("median"))
    predicted = found * truth + (1 - right.fillna(1.0)) * (1 - truth)
    return pd.DataFrame({"truth": truth, "predicted": predicted})


def capped_rows(rows: pd.DataFrame, plan: StudyPlan) -> pd.Series:
    """Rows with an infinite distance that a comparison counts, capped at the volume's diagonal."""
    compared = {name for comparison in plan.comparisons for name in comparison.metrics}
    distances = [
        name
        for name, about in plan.metrics.items()
        if about.distance and name in compared and name in rows
    ]
    infinite = pd.Series(np.isinf(rows[distances].to_numpy(dtype=float)).any(axis=1), rows.index)
    if plan.both_empty == "exclude" and "status" in rows:
        infinite &= ~rows["status"].isin(NO_TRUTH)
    return infinite


_PLACE = ["model", "task", "fraction"]


_RUN = ["fold", "seed"]


def _volumes(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of cases with a structure, with what their volumes say: whether (almost) `nothing` or
    `everything` is predicted, and the Dice of a mask of everything, `trivial`.
    """
    if rows.empty or "status" not in rows:
        return pd.DataFrame()
    rows = rows[~rows["status"].isin(NO_TRUTH)]
    rows = rows.assign(**shares(rows))
    missed = rows["status"] == "missed"
    return rows.assign(
        nothing=missed | (rows["predicted"] < NEARLY_NONE * rows["truth"]),
        everything=(rows["predicted"] >= NEARLY_ALL) & (rows["truth"] < NEARLY_ALL),
        trivial=2 * rows["truth"] / (1 + rows["truth"]),
    )


def _segmenting(volumes: pd.DataFrame) -> list[Finding]:
    """Trainings that predict nothing or everything, and models no better than the latter.

    Each training is judged alone: one that has collapsed is a part of every mean in the tables,
    and would go unseen among the predictions of the others.
    """
    if volumes.empty:
        return []
    found = []
    several = _structures(volumes)
    for key, of in volumes.groupby([*_PLACE, "group"], sort=False, observed=True):
        place = _place(key)
        if several[place.task] > 1:
            place = place._replace(group=str(of["group"].iloc[0]))
        trainings = of.groupby(_RUN, observed=True)[["nothing", "everything"]].mean() >= OFTEN
        for kind, column in ((Kind.NOTHING, "nothing"), (Kind.EVERYTHING, "everything")):
            if count := int(trainings[column].sum()):
                found.append(Finding(kind, place, count, len(trainings), "trainings"))
        # Volumes are unknown only of cases that every model segments perfectly.
        dice, trivial = of["dice"].astype(float).mean(), of["trivial"].mean()
        if dice <= trivial + ABOVE_TRIVIAL:
            details = f"{dice:.3f} against {trivial:.3f}"
            found.append(Finding(Kind.TRIVIAL, place, len(of), len(of), "predictions", details))
    return found


def _capped(rows: pd.DataFrame, plan: StudyPlan) -> list[Finding]:
    if rows.empty:
        return []
    every = rows.groupby(_PLACE, sort=False, observed=True)["case"].nunique().to_dict()
    several = _structures(rows)
    found = []
    missed = rows[capped_rows(rows, plan)]
    for key, of in missed.groupby(_PLACE, sort=False, observed=True):
        place, total = _place(key), int(every[key])
        details = f"{_by_number(of)} of {total} cases" if several[place.task] > 1 else ""
        found.append(Finding(Kind.CAPPED, place, of["case"].nunique(), total, "cases", details))
    return found


def _by_number(missed: pd.DataFrame) -> str:
    """In how many cases how many structures are missed at most by one training: `one structure in
    3 and 2 structures in 1`.
    """
    runs = [name for name in ("case", "fold", "seed") if name in missed]
    most = missed.groupby(runs, observed=True).size().groupby(level="case").max()
    words = [
        f"{'one structure' if number == 1 else f'{number} structures'} in {count}"
        for number, count in most.value_counts().sort_index().items()
    ]
    return " and ".join(words)


def _structures(rows: pd.DataFrame) -> dict[str, int]:
    """How many structures each task has."""
    counts = rows.groupby("task", sort=False, observed=True)["group"].nunique()
    return {str(task): int(count) for task, count in counts.items()}


def _learning(history: pd.DataFrame, volumes: pd.DataFrame) -> list[Finding]:
    """Trainings whose validation Dice never rose: failed where most of a place's stayed low, too;
    a network with learnt parts may be good from its first epoch on.
    """
    if history.empty:
        return []
    dice = history[(history["split"] == "val") & (history["metric"] == "dice")]
    runs = dice.sort_values("epoch").groupby([*_PLACE, *_RUN], sort=False, observed=True)
    each = runs["value"].agg(["first", "max", "count"])  # without NaN: no structure to find
    each = each[each["count"] > 1]
    trivial = (
        {} if volumes.empty else volumes.groupby(_PLACE, observed=True)["trivial"].mean().to_dict()
    )
    found = []
    for key, of in each.groupby(level=_PLACE, sort=False, observed=True):
        stayed = of["max"] - of["first"] < LEARNT
        everything = trivial.get(key, np.nan)
        low = stayed & ((of["max"] < LOW) | (of["max"] <= everything + ABOVE_TRIVIAL))
        failed = int(low.sum()) if low.mean() >= OFTEN else 0
        for kind, count in ((Kind.NOT_LEARNT, failed), (Kind.NO_RISE, int(stayed.sum()) - failed)):
            if count:
                found.append(Finding(kind, _place(key), count, len(of), "trainings"))
    return found


def _trainings(plan: StudyPlan, commits: Mapping[str, Commit]) -> list[Finding]:
    """Trainings whose best epoch is their last one, and those that ran in smaller parts."""
    best_counts = plan.training.get("select", "best") != "last"
    of_place: dict[Place, list[Commit]] = {}
    for trial, marker in plan.finished(commits):
        of_place.setdefault(Place(trial.model, trial.task, trial.fraction), []).append(marker)
    found = []
    for place, markers in of_place.items():
        costs = [marker.cost for marker in markers]
        last = sum(cost.chosen_epoch == cost.epochs > 1 for cost in costs)
        if best_counts and last >= OFTEN * len(markers):
            found.append(Finding(Kind.LAST_EPOCH, place, last, len(markers), "trainings"))
        if parts := sum(marker.attempt.micro_batch is not None for marker in markers):
            found.append(Finding(Kind.MICRO_BATCH, place, parts, len(markers), "trainings"))
    return found


def _hardware(plan: StudyPlan, commits: Mapping[str, Commit]) -> list[Finding]:
    kinds: dict[str, int] = {}
    for _, marker in plan.finished(commits):
        if not marker.cost.known:  # masks of another tool
            continue
        attempt = marker.attempt
        kinds[str(attempt)] = kinds.get(str(attempt), 0) + 1
    if len(kinds) < 2:
        return []
    details = "; ".join(f"{count} on {kind}" for kind, count in sorted(kinds.items()))
    total = sum(kinds.values())
    return [Finding(Kind.HARDWARE, None, total - max(kinds.values()), total, "trainings", details)]


def _place(key: object) -> Place:
    """The place of a group of rows whose key begins with _PLACE."""
    assert isinstance(key, tuple)  # noqa: S101
    return Place(str(key[0]), str(key[1]), float(key[2]))
