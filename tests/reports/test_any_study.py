"""Whatever a study is like, its report is made, is the same twice, and prints what the tests say.

`make any-study` takes many studies, draws every figure, and makes each report in a process of its
own, too, in which sets of names have another order (`MEDVISION_STUDIES`).
"""

from __future__ import annotations

import io
import math
import os
import random
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from record import paths
from record.names import read_back
from record.store import Store
from record.study import StoredStudy
from reports.build import build_report
from reports.sections.significance import TESTED
from reports.statistics import adjust, method_difference, paired_wilcoxon
from reports.statistics.methods import Variance
from reports.statistics.pairing import NO_TRUTH
from tests.reports.any_study import AnyStudy, studies

STUDIES = int(os.environ.get("MEDVISION_STUDIES", "0"))
Run = tuple[str, int, int]  # case, fold and seed
NAMES = dict.fromkeys(("task", "baseline", "candidate", "family"), str)  # a model may be called 0

few = settings(
    max_examples=STUDIES or 6,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if STUDIES else [])],
)


def built(store: Store) -> dict[str, bytes]:
    """Every file of the report, by name."""
    report = build_report(StoredStudy.opened(store))
    return {name: store.read(paths.report(name)) or b"" for name in report.files}


@contextmanager
def quickly() -> Iterator[None]:
    """Figures are laid out and saved in the long form only; files wait for no disk."""
    with mock.patch.object(os, "fsync"):
        if STUDIES:
            yield
            return
        with (
            mock.patch.object(Figure, "savefig"),
            mock.patch.object(ConstrainedLayoutEngine, "execute"),
        ):
            yield


@contextmanager
def listed_otherwise() -> Iterator[None]:
    """The file system lists what there is in another order."""
    plain = os.listdir

    def shuffled(folder: Any) -> list[str]:
        return random.Random(7).sample(names := sorted(plain(folder)), len(names))

    with mock.patch.object(os, "listdir", shuffled):
        yield


@few
@given(studies())
def test_any_study_has_a_report_and_the_same_one_twice(study: AnyStudy) -> None:
    with tempfile.TemporaryDirectory() as folder, quickly():
        store = study.write(Path(folder))
        first = built(store)
        with listed_otherwise():
            assert built(store) == first
        if STUDIES:
            environment = os.environ | {"PYTHONHASHSEED": "1"}
            command = [sys.executable, "-m", "reports.build", store.uri]
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            assert done.returncode == (len(study.rows) < len(study.plan.trials)), done.stderr
            assert {name: store.read(paths.report(name)) for name in first} == first
        check_numbers(study, first)


def check_numbers(study: AnyStudy, report: Mapping[str, bytes]) -> None:
    """The p of the printed table are those of the tests, of scores that are put together here."""
    if not study.plan.comparisons or not study.rows:
        return
    table = pd.read_csv(
        io.BytesIO(report["significance.csv"]), dtype=NAMES, keep_default_na=False, na_values=[""]
    )
    for row in table.to_dict("records"):
        if str(row["verdict"]).startswith("incomplete"):
            assert math.isnan(row["p_methods"])
            assert math.isnan(row["p_cases"])
            continue
        place = (read_back(row["task"]), float(row["fraction"]), str(row["metric"]))
        y, x = (Scores(study, read_back(row[name]), *place) for name in ("baseline", "candidate"))
        expected = paired_wilcoxon(*told_apart(x, y))
        assert row["n"] == expected.n
        assert row["p_floor"] == pytest.approx(expected.p_floor, nan_ok=True)
        assert row["p_cases"] == pytest.approx(expected.p, nan_ok=True)
        variance = study.plan.comparisons[0].variance
        assert row["p_methods"] == pytest.approx(of_methods(x, y, variance), nan_ok=True, rel=1e-6)
    for _, family in table[table["verdict"].isin(TESTED)].groupby("family"):
        p = family["p_methods"].astype(float).to_numpy()
        np.testing.assert_allclose(family["p_holm"].astype(float), adjust(p, "holm"))


class Scores:
    """One model's scores by case, fold and seed, groups averaged: as they are, and capped."""

    def __init__(
        self, study: AnyStudy, model: str, task: str, fraction: float, metric: str
    ) -> None:
        about, rule = study.plan.metrics[metric], study.plan.both_empty
        raw, capped = defaultdict[Run, list[float]](list), defaultdict[Run, list[float]](list)
        for row in study.rows_of(model, task, fraction):
            run, value = (row["case"], row["fold"], row["seed"]), row[metric]
            counts = rule == "perfect" or row["status"] not in NO_TRUTH
            if row["status"] == "both-empty" and counts:
                value = about.perfect
            raw[run].append(value if counts else math.nan)
            far = row["diagonal"] if math.isinf(value) else value
            capped[run].append(far if counts else math.nan)
        self.raw = {run: mean(values) for run, values in raw.items()}
        self.capped = {run: mean(values) for run, values in capped.items()}

    def by_case(self, of: Mapping[Run, float]) -> dict[str, float]:
        """The mean over seeds."""
        found = defaultdict[str, list[float]](list)
        for (case, *_), value in of.items():
            found[case].append(value)
        return {case: mean(found[case]) for case in sorted(found)}


def mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def told_apart(*models: Scores) -> list[list[float]]:
    """Scores by case of both models: infinite ones of both are capped, which tells them apart."""
    raw = [one.by_case(one.raw) for one in models]
    capped = [one.by_case(one.capped) for one in models]
    both = {case for case in raw[0] if all(math.isinf(of[case]) for of in raw)}
    return [
        [(far if case in both else plain)[case] for case in plain]
        for plain, far in zip(raw, capped, strict=True)
    ]


def of_methods(x: Scores, y: Scores, variance: Variance) -> float:
    """p of the difference between the methods; NaN where no case applies."""
    found = {run: x.capped[run] - y.capped[run] for run in x.capped}
    known = sorted(((fold, seed, case), found[case, fold, seed]) for case, fold, seed in found)
    known = [(run, value) for run, value in known if not math.isnan(value)]
    if not known:
        return math.nan
    folds, seeds, cases = zip(*(run for run, _ in known), strict=True)
    values = [value for _, value in known]
    return method_difference(values, fold=folds, training=seeds, case=cases, variance=variance).p
