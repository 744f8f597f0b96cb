"""Studies whose models segment well, find nothing, or take everything."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medvision.metrics import evaluate_case
from record.schema import Commit, StudyPlan
from record.store import Store
from record.tables import table_bytes
from tests.record.builders import commit, study_plan
from tests.reports.figures.pictures import TASK, drawn, truth

GOOD, NOTHING, EVERYTHING = "good", "nothing", "everything"
AGAIN = "again"  # a second model with the same masks
FINE = {GOOD: [0.3, 0.6, 0.7], NOTHING: [0.0, 0.0, 0.0], EVERYTHING: [0.15, 0.15, 0.15]}


def scored(predicted: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    """A row of scores of one structure, as a trial writes it."""
    values = evaluate_case(predicted, true, (1.0, 1.0, 1.0))
    return {**values, "nsd": values["nsd@1.0"], "diagonal": 40.0}


def plan_of(models: tuple[str, ...] = (GOOD, AGAIN), seeds: int = 1, **changes: Any) -> StudyPlan:
    trials = [
        {"model": model, "task": TASK, "seed": seed}
        | {"train_id": f"t{model}{seed}", "eval_id": f"e{model}{seed}"}
        for model, seed in itertools.product(models, range(seeds))
    ]
    metrics = {
        "dice": {"title": "Dice"},
        "hd95": {"title": "HD95", "unit": "mm", "higher_is_better": False},
    }
    comparison = {
        "baseline": models[0],
        "candidates": list(models[1:]),
        "metrics": list(metrics),
        "family": ["candidate"],
    }
    tolerances = {"nsd": "surfel", "hd95": "voxel-max", "tolerances": {TASK: [1.0]}}
    given = {"models": list(models), "tasks": [TASK], "metrics": metrics, "trials": trials}
    given |= {"scoring": tolerances, "comparisons": [comparison] if len(models) > 1 else []}
    return study_plan(**given | changes)


def commits_of(plan: StudyPlan, **given: Any) -> dict[str, Commit]:
    return {str(trial.eval_id): commit(eval_id=trial.eval_id, **given) for trial in plan.trials}


def history_of(plan: StudyPlan, curve: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {"model": trial.model, "task": trial.task, "fraction": 1.0, "fold": 0, "seed": trial.seed}
        | {"epoch": epoch, "split": "val", "metric": "dice", "value": value}
        for trial in plan.trials
        for epoch, value in enumerate(curve, 1)
    )


def rows_of(predicted: list[list[np.ndarray]], models: tuple[str, ...] = (GOOD,)) -> pd.DataFrame:
    """Rows of cases, each with a predicted mask for every structure of `truth`."""
    place = {"task": TASK, "fraction": 1.0, "fold": 0, "seed": 0}
    return pd.DataFrame(
        {"model": model, **place, "case": f"case{case}", "group": f"part{group}"}
        | scored(mask, truth(len(masks))[group])
        for model in models
        for case, masks in enumerate(predicted)
        for group, mask in enumerate(masks)
    )


def study_of(kind: str, folder: Path) -> Store:
    """A study of two models that predict alike, with the arrays and masks of its pictures."""
    arrays, masks, drawn_rows, _ = drawn()
    plan = plan_of((kind, AGAIN))
    cases = sorted(set(drawn_rows["case"]))
    bits = masks[kind, TASK]["bits/case0"]
    true = truth(1)[0]
    predicted = np.unpackbits(bits, count=true.size).reshape(true.shape).astype(bool)
    store = Store(str(folder / kind))
    store.save("plan.json", plan)
    store.write_json("study.json", {"schema": 1, "spec": {}, "blocks": {}, "data_root": ""})
    for trial in plan.trials:
        place = {"model": trial.model, "task": TASK, "fraction": 1.0, "fold": 0, "seed": 0}
        place |= {"train_id": trial.train_id, "eval_id": trial.eval_id}
        scores = [
            {**place, "case": case, "group": "foreground", **scored(predicted, true)}
            for case in cases
        ]
        curve = history_of(plan, FINE[kind])[["epoch", "split", "metric", "value"]][:3]
        contents = {
            "cases": table_bytes(scores),
            "history": table_bytes(curve.to_dict("records")),
            "arrays": _npz(arrays[kind, TASK]),
            "masks": _npz(masks[kind, TASK]),
        }
        files = {name: f"trials/{trial.train_id}/t/{name}" for name in contents}
        for name, content in contents.items():
            store.write(files[name], content)
        store.write_json(f"claims/{trial.train_id}.json", {"token": "t"})
        ids = {"train_id": trial.train_id, "eval_id": trial.eval_id, "token": "t"}
        store.commit(commit(**ids, files=files, cost={"epochs": 3, "chosen_epoch": 2}))
    return store


def _npz(arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
