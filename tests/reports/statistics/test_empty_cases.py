"""Cases whose truth has nothing are left out by the truth alone, and a model that paints into them
loses where a score is defined there.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvision.metrics import evaluate_case
from medvision.metrics.definitions import USUAL
from record.schema import Metric
from reports.statistics import paired_wilcoxon
from reports.statistics.pairing import Pairs, capped_scores, pair
from reports.statistics.scores import case_scores
from tests.record.builders import commits, study_plan

ABOUT = {name: Metric.model_validate(dataclasses.asdict(info)) for name, info in USUAL.items()}
DEFINED = ("specificity", "accuracy", "false_positive_volume")
BY_TRUTH = tuple(name for name in USUAL if name not in DEFINED)


def box(*corner: int) -> np.ndarray:
    mask = np.zeros((6, 6, 6), bool)
    mask[tuple(slice(0, end) for end in corner)] = True
    return mask


NOTHING, SOME, MORE = np.zeros((6, 6, 6), bool), box(2, 2, 2), box(3, 2, 2)


def scored(prediction: np.ndarray, truth: np.ndarray, **where: Any) -> dict[str, Any]:
    values = evaluate_case(prediction, truth, (1.0, 1.0, 2.0))
    return {
        "seed": 0,
        "group": "g",
        "fold": 0,
        "diagonal": 15.0,
        "nsd": values.pop("nsd@1.0"),
        **values,
        **where,
    }


def paired(rows: pd.DataFrame, metric: str, both_empty: str = "exclude") -> Pairs:
    return pair(
        rows,
        candidate="b",
        baseline="a",
        metric=metric,
        about=ABOUT[metric],
        both_empty=both_empty,
    )


@pytest.fixture
def painter() -> pd.DataFrame:
    """b paints into all ten empty cases, a into none; elsewhere both predict the same."""
    made = []
    for number, model in itertools.product(range(20), "ab"):
        truth = NOTHING if number < 10 else SOME
        prediction = MORE if number >= 10 or model == "b" else NOTHING
        made.append(scored(prediction, truth, model=model, case=f"c{number:02}"))
    return pd.DataFrame(made)


@pytest.mark.parametrize("metric", DEFINED)
def test_a_model_that_paints_into_empty_cases_loses(painter: pd.DataFrame, metric: str) -> None:
    pairs = paired(painter, metric)
    assert (len(pairs.cases), pairs.dropped) == (20, 0)
    worse = pairs.x > pairs.y if metric == "false_positive_volume" else pairs.x < pairs.y
    assert worse.tolist() == [True] * 10 + [False] * 10
    assert paired_wilcoxon(pairs.x, pairs.y).p < 0.05


@pytest.mark.parametrize("metric", BY_TRUTH)
def test_elsewhere_empty_cases_are_left_out_for_both(painter: pd.DataFrame, metric: str) -> None:
    pairs = paired(painter, metric)
    assert (len(pairs.cases), pairs.dropped) == (10, 10)
    assert pairs.x.tolist() == pairs.y.tolist()
    assert np.isfinite(pairs.x).all()


@pytest.mark.parametrize("metric", ["dice", "hd95"])
def test_where_empty_is_perfect_the_painter_loses_there_too(
    painter: pd.DataFrame, metric: str
) -> None:
    pairs = paired(painter, metric, "perfect")
    perfect, worst = (1.0, 0.0) if metric == "dice" else (0.0, np.inf)
    assert (len(pairs.cases), pairs.dropped) == (20, 0)
    assert pairs.y[:10].tolist() == [perfect] * 10
    assert pairs.x[:10].tolist() == [worst] * 10


def test_scores_by_case_leave_out_the_same(painter: pd.DataFrame) -> None:
    plan = study_plan(
        models=["a", "b"],
        tasks=["T"],
        metrics={name: about.model_dump() for name, about in ABOUT.items()},
        trials=[
            {"model": "a", "task": "T", "train_id": "ta", "eval_id": "ea"},
            {"model": "b", "task": "T", "train_id": "tb", "eval_id": "eb"},
        ],
    )
    rows = painter.assign(task="T", fraction=1.0)
    scores = case_scores(rows, plan, commits({"ea": {}, "eb": {"cell": {"model": "b"}}}))
    counts = scores.groupby("model").count()
    assert counts.loc[:, list(DEFINED)].to_numpy().tolist() == [[20] * 3] * 2
    assert set(counts.loc[:, list(BY_TRUTH)].to_numpy().ravel()) == {10}


PREDICTIONS = st.sampled_from((NOTHING, SOME, MORE))


@given(
    truths=st.lists(st.tuples(st.booleans(), st.booleans()).filter(any), min_size=1, max_size=4),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_what_is_left_out_does_not_depend_on_predictions(
    truths: list[tuple[bool, bool]], data: st.DataObject
) -> None:
    """Two label groups a case, one of them perhaps empty: a mean is over those with a truth."""
    made, expected = [], {}
    for number, groups in enumerate([*truths, (False, False)]):
        for model in "ab":
            kept = []
            for group, there in enumerate(groups):
                row = scored(
                    data.draw(PREDICTIONS),
                    SOME if there else NOTHING,
                    model=model,
                    case=f"c{number}",
                    group=f"g{group}",
                )
                made.append(row)
                kept += [row["dice"]] if there else []
            expected[f"c{number}", model] = np.mean(kept) if kept else np.nan
    rows = pd.DataFrame(made)
    pairs = paired(rows, "dice")
    assert pairs.cases == tuple(f"c{number}" for number in range(len(truths)))
    assert pairs.dropped == 1
    assert pairs.x == pytest.approx([expected[case, "b"] for case in pairs.cases])
    assert pairs.y == pytest.approx([expected[case, "a"] for case in pairs.cases])
    counted = capped_scores(rows, "hd95", ABOUT["hd95"], "exclude").notna()
    assert counted.tolist() == rows["status"].isin(["ok", "missed"]).tolist()


@pytest.mark.parametrize(
    ("prediction", "truth", "voxels"),
    [
        (MORE, SOME, 4),
        (SOME, MORE, 0),
        (MORE, NOTHING, 12),
        (NOTHING, SOME, 0),
        (NOTHING, NOTHING, 0),
    ],
)
def test_the_false_positive_volume_is_in_ml(
    prediction: np.ndarray, truth: np.ndarray, voxels: int
) -> None:
    found = evaluate_case(prediction, truth, (2.0, 3.0, 5.0))["false_positive_volume"]
    assert found == pytest.approx(voxels * 30 / 1000)
