"""Small studies with scores of our making: their plan, rows, committed trials and store."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from record.schema import Claim, Commit, StudyPlan
from record.store import Store
from record.tables import table_bytes
from reports.sections.significance import significance_table
from tests.record.builders import commit, study_plan

FOLDS = 5


METRICS = {
    "dice": {"higher_is_better": True, "unit": "", "title": "Dice"},
    "hd95": {"higher_is_better": False, "unit": "mm", "title": "HD95"},
}


def plan(
    models: tuple[str, ...] = ("base", "cand"), folds: int = FOLDS, **changes: Any
) -> StudyPlan:
    trials = [
        {
            "model": m,
            "task": "T_1",
            "fraction": 1.0,
            "fold": f,
            "seed": 0,
            "train_id": f"t{m}{f}",
            "eval_id": f"e{m}{f}",
        }
        for m, f in itertools.product(models, range(folds))
    ]
    comparison = {
        "baseline": "base",
        "candidates": list(models[1:]),
        "metrics": ["dice", "hd95"],
        "family": ["candidate"],
    }
    values = {
        "models": list(models),
        "tasks": ["T_1"],
        "metrics": METRICS,
        "scoring": {"nsd": "surfel", "hd95": "voxel-max", "tolerances": {"T_1": [1.0]}},
        "comparisons": [comparison],
        "descriptions": {"T_1": "a 100 % synthetic_task"},
        "trials": trials,
    }
    return study_plan(**values | changes)


def rows(
    gain: float = 0.05, models: tuple[str, ...] = ("base", "cand"), n: int = 20, seed: int = 0
) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    base = rng.uniform(0.4, 0.8, n)
    made = []
    for number, model in enumerate(models):
        dice = base + number * gain + rng.normal(0, 0.02, n) * (number > 0)
        for index in range(n):
            made.append(
                {
                    "model": model,
                    "task": "T_1",
                    "fraction": 1.0,
                    "fold": index % FOLDS,
                    "seed": 0,
                    "case": f"c{index:02d}",
                    "group": "foreground",
                    "status": "ok",
                    "diagonal": 50.0,
                    "dice": dice[index],
                    "hd95": 10 * (1 - dice[index]),
                }
            )
    return pd.DataFrame(made)


def commits(of: StudyPlan) -> dict[str, Commit]:
    return {str(trial.eval_id): commit(eval_id=trial.eval_id) for trial in of.trials}


def table(frame: pd.DataFrame, of: StudyPlan | None = None) -> pd.DataFrame:
    of = of or plan()
    return significance_table(frame, of, commits(of))


def study(tmp_path: Path, frame: pd.DataFrame, of: StudyPlan) -> Store:
    store = Store(str(tmp_path / "study"))
    store.save("plan.json", of)
    for trial in of.trials:
        here = frame[
            (frame["model"] == trial.model)
            & (frame["fold"] == trial.fold)
            & (frame["seed"] == trial.seed)
        ]
        folder = f"trials/{trial.train_id}/t"
        files = {"cases": f"{folder}/cases.parquet", "history": f"{folder}/history.parquet"}
        store.write(files["cases"], table_bytes(here.to_dict("records")))
        curve = [
            {"epoch": e, "split": "val", "metric": "dice", "value": 0.1 * e} for e in range(1, 4)
        ]
        store.write(files["history"], table_bytes(curve))
        store.save(f"claims/{trial.train_id}.json", Claim(token="t"))
        names = {"train_id": trial.train_id, "eval_id": trial.eval_id, "token": "t"}
        store.commit(commit(**names, files=files, attempt={"threads": 1 + trial.fold}))
    return store
