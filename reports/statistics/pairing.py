"""From rows per case to pairs of numbers that a paired test may see.

The unit is the test case. Label groups are averaged within a case, then seeds are averaged, then
cases are paired; the case sets of both models must be the same. Treating case x seed as independent
pairs would inflate false positives to several times the nominal rate.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from record.metric import Metric
from record.schema import PlannedTrial, StudyPlan

BOTH_EMPTY = "both-empty"
NO_TRUTH = ("spurious", BOTH_EMPTY)  # statuses of rows whose truth has no voxels
LISTED = 5


class PairingError(ValueError):
    """The two models were not tested on the same cases, folds or seeds; the message lists the
    difference.
    """


@dataclass(frozen=True)
class Pairs:
    """Scores of the same cases, [n] each, sorted by case id; where a grouping is given of patients,
    means over their cases.

    `x`: candidate, `y`: baseline, with infinite distances as they are (`told_apart`); `x_capped`,
    `y_capped`: infinities replaced by the volume's diagonal in mm. `capped`: how many of the 2n
    scores that were; `dropped`: cases left out because the truth has nothing in them.
    """

    cases: tuple[str, ...]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    x_capped: NDArray[np.float64]
    y_capped: NDArray[np.float64]
    capped: int
    dropped: int


def pair(
    rows: pd.DataFrame,
    *,
    candidate: str,
    baseline: str,
    metric: str,
    about: Metric | None = None,
    both_empty: str = "exclude",
) -> Pairs:
    """Pair two models' scores of one metric over the rows of one task and fraction.

    Args:
        rows: columns model, case, seed, group, fold, status, diagonal and the metric; patient where
            a grouping is given.
        metric: its column.
        about: how it is read, as the plan says; may be left out for the metrics of version 1.
        both_empty: `exclude` leaves out, whatever a model predicts there, a label group of a case
            in which the truth has nothing, and a case in which it has nothing in any group;
            `perfect` scores them, as perfect where nothing is predicted. Metrics that are defined
            without a truth (`about.empty`) score them always.

    Raises:
        PairingError: the models' (case, seed, group) sets differ.
    """
    x_rows, y_rows = (by_case(rows[rows["model"] == name]) for name in (candidate, baseline))
    require_same_cases(x_rows.index, y_rows.index, (candidate, baseline))
    known = about or Metric.known(metric)
    return paired(*(per_case(one, metric, known, both_empty) for one in (x_rows, y_rows)))


def by_case(rows: pd.DataFrame, place: Sequence[str] = ()) -> pd.DataFrame:
    """One model's rows in the order that `per_case` needs, or those of several places (columns)."""
    if "patient" not in rows:
        rows = rows.assign(patient=rows["case"])
    return rows.set_index([*place, "patient", "case", "seed", "group"]).sort_index()


def with_patients(rows: pd.DataFrame, patients: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """The rows with a column `patient`, of tasks with a grouping (task -> case -> patient);
    elsewhere it is the case itself.
    """
    if not any(patients.values()) or rows.empty:
        return rows
    parts = [
        rows.loc[rows["task"] == task, "case"].replace(dict(of_case))
        for task, of_case in patients.items()
    ]
    return rows.assign(patient=pd.concat(parts).reindex(rows.index).fillna(rows["case"]))


def require_same_cases(x: pd.Index, y: pd.Index, names: Sequence[str]) -> None:
    """Raises PairingError where the rows of `by_case` are not of the same cases and seeds.

    Args:
        x: the index of the candidate's rows.
        y: that of the baseline's.
        names: of the two models.
    """
    if not x.equals(y):
        candidate, baseline = names
        raise PairingError(_difference(candidate, x, baseline, y))


def require_same_values(x: pd.Series, y: pd.Series, names: Sequence[str]) -> None:
    """Raises PairingError where a metric has a value of one model only, as a metric of one's own
    may: means over different label groups and seeds would be compared.

    Args:
        x: whether each of the candidate's rows has a value.
        y: the same of the baseline's, over the same rows.
        names: of the two models.
    """
    if not (alone := x.to_numpy() != y.to_numpy()).any():
        return
    listed = ", ".join(
        f"{case} (seed {seed}, {group})" for _, case, seed, group in x.index[alone][:LISTED]
    )
    rest = f" and {alone.sum() - LISTED} more" if alone.sum() > LISTED else ""
    raise PairingError(f"only one of {' and '.join(names)} has a value of {listed}{rest}")


def paired(x: pd.DataFrame, y: pd.DataFrame) -> Pairs:
    """The pairs of candidate and baseline, both as `per_case` gives them, of the same cases."""
    keep = ~(x["empty"] | y["empty"])
    dropped = int((~keep).sum())
    x, y = (frame[keep].groupby(level="patient", sort=True).mean() for frame in (x, y))
    x_raw, y_raw, x_capped, y_capped = (
        frame[name].to_numpy(dtype=np.float64) for name in ("raw", "capped") for frame in (x, y)
    )
    x_told, y_told = told_apart(x_raw, y_raw, x_capped, y_capped)
    return Pairs(
        cases=tuple(map(str, x.index)),
        x=x_told,
        y=y_told,
        x_capped=x_capped,
        y_capped=y_capped,
        capped=int(np.isinf(x["raw"]).sum() + np.isinf(y["raw"]).sum()),
        dropped=dropped,
    )


def told_apart(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    x_capped: NDArray[np.float64],
    y_capped: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x and y with their capped values where both are infinite, so that a case in which one model
    misses one structure and the other misses both is no tie; all of one shape.
    """
    both = np.isinf(x) & np.isinf(y)
    return np.where(both, x_capped, x), np.where(both, y_capped, y)


def per_case(
    rows: pd.DataFrame,
    metric: str,
    about: Metric,
    both_empty: str,
    place: Sequence[str] = (),
) -> pd.DataFrame:
    """Mean over groups, then over seeds: columns raw, capped, empty, indexed by patient and
    case.

    Args:
        rows: as `by_case` gives them.
        metric: its column.
        about: how it is read.
        both_empty: the plan's rule for cases without structure.
        place: levels of the index that come before, where the rows are of several models or tasks.
    """
    values = counted_scores(rows, metric, about, both_empty)
    capped = _capped(values, rows, about)
    left_out = _left_out(rows, about, both_empty)
    frame = pd.DataFrame({"raw": values, "capped": capped, "empty": left_out})
    levels = [*place, "patient", "case", "seed"]
    by_seed = frame.groupby(level=levels, sort=True).agg(
        {"raw": "mean", "capped": "mean", "empty": "all"}
    )
    return by_seed.groupby(level=levels[:-1], sort=True).agg(
        {"raw": "mean", "capped": "mean", "empty": "any"}
    )


def seed_means(
    rows: pd.DataFrame,
    metric: str,
    about: Metric,
    both_empty: str,
    place: Sequence[str] = (),
) -> pd.Series:
    """One model's mean over cases by seed, groups averaged; arguments as of `per_case`. Infinite
    distances are capped at the diagonal.
    """
    scores = capped_scores(rows, metric, about, both_empty)
    by_case = scores.groupby(level=[*place, "patient", "case", "seed"]).mean()
    return by_case.groupby(level=[*place, "seed"]).mean()


def capped_scores(rows: pd.DataFrame, metric: str, about: Metric, both_empty: str) -> pd.Series:
    """`counted_scores`, infinite distances replaced by the volume's diagonal in mm: what means
    are made of.
    """
    return _capped(counted_scores(rows, metric, about, both_empty), rows, about)


def _capped(values: pd.Series, rows: pd.DataFrame, about: Metric) -> pd.Series:
    if not about.distance:
        return values
    return values.where(~np.isinf(values), rows["diagonal"].astype(float))


def counted_scores(rows: pd.DataFrame, metric: str, about: Metric, both_empty: str) -> pd.Series:
    """One metric of every row as `both_empty` says: NaN where the row is left out because its truth
    is empty, or perfect where its prediction is empty, too.
    """
    values = rows[metric].astype(float).mask(_left_out(rows, about, both_empty))
    if both_empty != "perfect" or about.empty != "by-spec":
        return values
    return values.mask((rows["status"] == BOTH_EMPTY) & values.isna(), about.perfect)


def _left_out(rows: pd.DataFrame, about: Metric, both_empty: str) -> pd.Series:
    """Rows that do not count, by their truth alone, so that they are the same for every model."""
    if about.empty == "defined" or both_empty != "exclude":
        return pd.Series(False, index=rows.index)
    return rows["status"].isin(NO_TRUTH)


def _difference(candidate: str, x: pd.Index, baseline: str, y: pd.Index) -> str:
    parts = []
    for name, more in ((candidate, x.difference(y)), (baseline, y.difference(x))):
        if len(more):
            listed = ", ".join(
                f"{case} (seed {seed}, {group})" for _, case, seed, group in list(more)[:LISTED]
            )
            rest = f" and {len(more) - LISTED} more" if len(more) > LISTED else ""
            parts.append(f"only {name} has {listed}{rest}")
    return f"{candidate} and {baseline} were not tested on the same cases: " + "; ".join(parts)


def planned_cells(
    plan: StudyPlan, *, model: str, task: str, fraction: float
) -> Sequence[PlannedTrial]:
    """The plan's trials of one cell, every fold and seed."""
    return _by_place(_Same(plan.trials)).get((model, task, fraction), ())


class _Same:
    """A list as the key of a cache: the same one while it has not grown."""

    def __init__(self, trials: list[PlannedTrial]) -> None:
        self.trials, self._count = trials, len(trials)

    def __hash__(self) -> int:
        return hash((id(self.trials), self._count))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Same) and other.trials is self.trials and other._count == self._count
        )


@functools.lru_cache(maxsize=1)
def _by_place(of: _Same) -> Mapping[tuple[str, str, float], Sequence[PlannedTrial]]:
    """One pass over all trials for all cells: a report asks for each of them, twice a test."""
    found: dict[tuple[str, str, float], list[PlannedTrial]] = {}
    for trial in of.trials:
        found.setdefault((trial.model, trial.task, trial.fraction), []).append(trial)
    return found
