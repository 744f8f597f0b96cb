"""A metric's facts stand in its row of METRICS and reach the tables through the plan alone."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest

from medvision.metrics import METRICS, MetricInfo, evaluate_case
from medvision.metrics.definitions import USUAL
from orchestrator.planning.found import Inputs, TaskInputs
from orchestrator.planning.plan import make_plan
from orchestrator.planning.study_files import study_plan
from orchestrator.spec import reference
from orchestrator.spec.study import Spec
from record.metric import Metric
from record.schema import StudyPlan
from reports.statistics.pairing import capped_scores, pair

OF_VERSION_1 = (
    *("dice", "jaccard", "sensitivity", "specificity", "precision", "accuracy"),
    *("nsd", "hd95", "hd", "assd"),
)


@pytest.fixture
def with_masd(monkeypatch: pytest.MonkeyPatch) -> str:
    """An added distance metric: its row, and nothing else."""
    distance = dataclasses.replace(METRICS["assd"], title="MASD")
    for table in (METRICS, USUAL):
        monkeypatch.setitem(table, "masd", distance)
    return "masd"


def plan() -> StudyPlan:
    """As it comes back from disk."""
    spec = Spec.model_validate({"name": "s", "models": ["ViT_Baseline"], "tasks": ["T"]})
    inputs = Inputs({"T": TaskInputs(missing="no data")}, {})
    made = study_plan(spec, inputs, make_plan(spec, inputs, {}, {}), {})
    return StudyPlan.model_validate(json.loads(json.dumps(made.to_json())))


def test_the_plan_holds_every_fact_of_every_metric() -> None:
    assert set(Metric.model_fields) == {fact.name for fact in dataclasses.fields(MetricInfo)}
    stored = {name: about.model_dump() for name, about in plan().metrics.items()}
    assert stored == {name: dataclasses.asdict(info) for name, info in USUAL.items()}


def test_a_plan_of_version_1_reads_as_it_did() -> None:
    known = {name: dataclasses.asdict(METRICS[name]) for name in OF_VERSION_1}
    facts = ("higher_is_better", "unit", "title")
    values = plan().to_json()
    values["metrics"] = {name: {fact: row[fact] for fact in facts} for name, row in known.items()}
    values["metrics"]["mine"] = {"higher_is_better": True, "unit": "", "title": "Mine"}
    values["metrics"]["far"] = {"higher_is_better": False, "unit": "mm", "title": "Far"}
    read = dict(StudyPlan.model_validate(values).metrics)
    mine, far = read.pop("mine"), read.pop("far")
    assert (mine.perfect, mine.empty, mine.digits, mine.distance) == (1.0, "by-spec", 3, False)
    assert (far.perfect, far.empty, far.digits, far.distance) == (0.0, "by-spec", 2, True)
    assert {name: about.model_dump() for name, about in read.items()} == known


def test_an_added_distance_is_perfect_at_0_mm_everywhere(with_masd: str) -> None:
    about = plan().metrics[with_masd]
    assert (about.perfect, about.digits, about.higher_is_better) == (0.0, 2, False)
    empty, full = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)
    missed = evaluate_case(empty, full, (1, 1, 1))
    nothing = evaluate_case(empty, empty, (1, 1, 1))
    assert missed[with_masd] == math.inf
    assert math.isnan(float(nothing[with_masd]))

    found = {("a", "c0"): missed, ("b", "c0"): missed, ("a", "c1"): nothing, ("b", "c1"): nothing}
    rows = pd.DataFrame(
        {"model": model, "case": case, "seed": 0, "group": "g", "diagonal": 5.0, **values}
        for (model, case), values in found.items()
    )
    pairs = pair(
        rows, candidate="a", baseline="b", metric=with_masd, about=about, both_empty="perfect"
    )
    assert pairs.x.tolist() == [5.0, 0.0]  # both missed: told apart by their capped values
    assert pairs.x_capped.tolist() == [5.0, 0.0]
    assert capped_scores(rows, with_masd, about, "perfect").tolist() == [5.0, 5.0, 0.0, 0.0]
    assert "| `masd` | MASD | mm | lower |" in reference.reference()
