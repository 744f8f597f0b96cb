"""Plans and commits for tests, out of the few values that a test is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from record.schema import Commit, StudyPlan

CELL = {"model": "m", "task": "T", "fraction": 1.0, "fold": 0, "seed": 0}
COST = {
    "seconds": 1.0,
    "epochs": 1,
    "chosen_epoch": 1,
    "parameters": 1,
    "trained_parameters": 1,
    "peak_memory_bytes": 1,
}
ATTEMPT = {"world": 1, "threads": 1}
METRIC = {"higher_is_better": True, "unit": "", "title": "A metric"}


def study_plan(**given: Any) -> StudyPlan:
    """A plan with these values; the rest of a trial and of a metric is that of CELL and METRIC."""
    ids = {"train_id": "t", "eval_id": "e"}
    trials = [CELL | ids | trial for trial in given.pop("trials", ())]
    metrics = {name: METRIC | about for name, about in given.pop("metrics", {}).items()}
    plain: dict[str, Any] = {
        "name": "study",
        "models": [],
        "tasks": [],
        "fractions": [1.0],
        "both_empty": "exclude",
        "scoring": {"nsd": "surfel", "hd95": "voxel-max", "tolerances": {}},
        "comparisons": [],
    }
    return StudyPlan.model_validate(plain | {"trials": trials, "metrics": metrics} | given)


def commit(**given: Any) -> Commit:
    """A commit marker with these values; parts of `cell`, `cost` and `attempt` may be left out."""
    parts = {
        name: plain | given.pop(name, {})
        for name, plain in (("cell", CELL), ("cost", COST), ("attempt", ATTEMPT))
    }
    plain = {"eval_id": "e", "train_id": "t", "token": "token", "files": {}}
    finished = {"finished": "2026-01-01T00:00:00Z"}
    return Commit.model_validate(plain | finished | parts | given)


def commits(given: Mapping[str, Mapping[str, Any]]) -> dict[str, Commit]:
    """Commit markers by evaluation id."""
    return {name: commit(**{"eval_id": name, **values}) for name, values in given.items()}
