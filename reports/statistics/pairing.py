"""From rows per case to pairs of numbers that a paired test may see.

The unit is the test case. Label groups are averaged within a case, then seeds are averaged, then
cases are paired; the case sets of both models must be the same. Treating case x seed as independent
pairs would inflate false positives to several times the nominal rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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

    `x`: candidate, `y`: baseline, with infinite distances as they are; `x_capped`, `y_capped`:
    infinities replaced by the volume's diagonal in mm. `capped`: how many of the 2n scores that
    were; `dropped`: cases left out because the truth has nothing in them.
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
    return pair_sorted(
        x_rows,
        y_rows,
        candidate=candidate,
        baseline=baseline,
        metric=metric,
        about=about or Metric.known(metric),
        both_empty=both_empty,
    )


def by_case(rows: pd.DataFrame) -> pd.DataFrame:
    """One model's rows in the order that `pair_sorted` needs."""
    if "patient" not in rows:
        rows = rows.assign(patient=rows["case"])
    return rows.set_index(["patient", "case", "seed", "group"]).sort_index()


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


def pair_sorted(
    x_rows: pd.DataFrame,
    y_rows: pd.DataFrame,
    *,
    candidate: str,
    baseline: str,
    metric: str,
    about: Metric,
    both_empty: str,
) -> Pairs:
    """`pair` of rows that went through `by_case`, for many metrics of the same rows."""
    if not x_rows.index.equals(y_rows.index):
        raise PairingError(_difference(candidate, x_rows.index, baseline, y_rows.index))
    x, y = (_per_case(rows, metric, about, both_empty) for rows in (x_rows, y_rows))
    keep = ~(x["empty"] | y["empty"])
    dropped = int((~keep).sum())
    x, y = (frame[keep].groupby(level="patient", sort=True).mean() for frame in (x, y))
    return Pairs(
        cases=tuple(map(str, x.index)),
        x=x["raw"].to_numpy(dtype=np.float64),
        y=y["raw"].to_numpy(dtype=np.float64),
        x_capped=x["capped"].to_numpy(dtype=np.float64),
        y_capped=y["capped"].to_numpy(dtype=np.float64),
        capped=int(np.isinf(x["raw"]).sum() + np.isinf(y["raw"]).sum()),
        dropped=dropped,
    )


def _per_case(rows: pd.DataFrame, metric: str, about: Metric, both_empty: str) -> pd.DataFrame:
    """Mean over groups, then over seeds: columns raw, capped, empty, indexed by patient and
    case.
    """
    values = counted_scores(rows, metric, about, both_empty)
    capped = _capped(values, rows, about)
    left_out = _left_out(rows, about, both_empty)
    frame = pd.DataFrame({"raw": values, "capped": capped, "empty": left_out})
    levels = ["patient", "case", "seed"]
    by_seed = frame.groupby(level=levels, sort=True).agg(
        {"raw": "mean", "capped": "mean", "empty": "all"}
    )
    return by_seed.groupby(level=levels[:2], sort=True).agg(
        {"raw": "mean", "capped": "mean", "empty": "any"}
    )


def seed_spread(rows: pd.DataFrame, metric: str, about: Metric, both_empty: str) -> float:
    """Standard deviation over seeds of one model's mean over cases, groups averaged; NaN with one
    seed.

    rows: as `by_case` gives them. Infinite distances are capped at the diagonal.
    """
    scores = capped_scores(rows, metric, about, both_empty)
    by_case = scores.groupby(level=["patient", "case", "seed"]).mean()
    return float(by_case.groupby(level="seed").mean().std(ddof=1))


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


def planned_cells(plan: StudyPlan, **where: Any) -> list[PlannedTrial]:
    """The plan's trials whose columns equal the given values."""
    return [
        trial
        for trial in plan.trials
        if all(getattr(trial, key) == value for key, value in where.items())
    ]
