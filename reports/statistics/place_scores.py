"""What the tests of a report need of each model, task and fraction: a metric at a time, made for
all of them at once, because pandas takes as long for the 200 rows of one as for those of a hundred.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import pandas as pd

from record.schema import StudyPlan
from reports.statistics.pairing import by_case, counted_scores, per_case, seed_means
from reports.statistics.run_scores import run_scores

PLACE = ["model", "task", "fraction"]
Place = tuple[str, str, float]


class PlaceScores(NamedTuple):
    """A metric of a model, task and fraction: which rows have a value, `per_case`, the standard
    deviation over seeds of the mean over cases (NaN with one seed), and `run_scores`.
    """

    known: pd.Series
    cases: pd.DataFrame
    seed_spread: float
    runs: pd.DataFrame


class Places:
    """The rows of each model, task and fraction.

    Args:
        rows: the scores of all of them.
        plan: says how metrics are read.
    """

    def __init__(self, rows: pd.DataFrame, plan: StudyPlan) -> None:
        self._plan, self._rows = plan, by_case(rows, PLACE)
        self._index = cast(pd.MultiIndex, self._rows.index)
        self._places = set(zip(*map(self._index.get_level_values, PLACE), strict=True))
        self._made: dict[str, tuple[Any, ...]] = {}

    def cases(self, place: Place) -> pd.MultiIndex:
        """Patient, case, seed and group of the rows of a place."""
        there = self._index.get_loc(place) if place in self._places else slice(0)
        found = cast(pd.MultiIndex, self._index[there])
        return cast(pd.MultiIndex, found.droplevel(PLACE))

    def scores(self, metric: str, place: Place) -> PlaceScores:
        """A metric of a place; empty where no trial of it is planned."""
        if metric not in self._made:
            about, both_empty = self._plan.metrics[metric], self._plan.both_empty
            self._made[metric] = (
                counted_scores(self._rows, metric, about, both_empty).notna(),
                per_case(self._rows, metric, about, both_empty, PLACE),
                seed_means(self._rows, metric, about, both_empty, PLACE),
                run_scores(self._rows, metric, about, both_empty, PLACE),
            )
        known, cases, means, runs = (_of_place(made, place) for made in self._made[metric])
        return PlaceScores(
            known, cast(pd.DataFrame, cases), float(means.std(ddof=1)), cast(pd.DataFrame, runs)
        )


def _of_place(made: Any, place: Place) -> Any:
    """The part of a frame or series that is a place's; empty where it has none."""
    try:
        return made.xs(place)
    except KeyError:
        return made.iloc[:0].droplevel(PLACE)
