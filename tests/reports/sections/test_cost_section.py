"""The table of costs: GPU-hours are those of each trial's own shape."""

from __future__ import annotations

from typing import Any

import pytest

from record.schema import Commit, StudyPlan
from reports.sections.details import cost_section
from tests.record.builders import commits, study_plan


def study(*trials: tuple[str, dict[str, Any], int]) -> tuple[StudyPlan, dict[str, Commit]]:
    """(model, what the plan says of the trial's GPUs, processes), an hour each on a GPU."""
    cost = {"seconds": 3600.0}
    rows = [
        {"model": model, "eval_id": str(number), **told}
        for number, (model, told, _) in enumerate(trials)
    ]
    markers = {
        str(number): {"cost": cost, "attempt": {"device": "NVIDIA H100", "world": world}}
        for number, (_, _, world) in enumerate(trials)
    }
    models = sorted({model for model, _, _ in trials})
    plan = study_plan(models=models, trials=rows, resources={"gpus_per_worker": 0.5})
    return plan, commits(markers)


def test_each_trial_counts_the_gpus_of_its_own_shape() -> None:
    plan, commits = study(
        ("large", {"gpus": 4.0}, 4), ("small", {"gpus": 0.5}, 1), ("small", {"gpus": 0.5}, 1)
    )
    found = cost_section(plan, commits).data.set_index("model")
    assert found["gpu_hours"].to_dict() == pytest.approx({"large": 4.0, "small": 1.0})
    assert found["process_hours"].to_dict() == pytest.approx({"large": 4.0, "small": 2.0})


def test_an_old_plan_without_gpus_counts_one_for_each_process() -> None:
    plan, commits = study(("large", {}, 2))
    assert cost_section(plan, commits).data["gpu_hours"].tolist() == [2.0]
