"""Random small studies, as a strategy of hypothesis: their plan, and what is stored of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from record.metric import Metric
from record.schema import Claim, PlannedTrial, StudyPlan
from record.store import Store
from record.tables import table_bytes
from tests.record.builders import commit, study_plan

NAMES = ("ViT", "llama 2", "a|b", "=1+1", "$x_1$", "<b>", "naïve", "50 %", "\\input{x}", "-", "0")
METRICS = ("dice", "nsd", "hd95")
STATUSES = ("ok", "missed", "spurious", "both-empty")


@dataclass(frozen=True)
class AnyStudy:
    """A plan, and the rows and curve of every finished trial by its evaluation."""

    plan: StudyPlan
    rows: Mapping[str, list[dict[str, Any]]]
    curves: Mapping[str, list[dict[str, Any]]]

    def write(self, folder: Path) -> Store:
        """As driver and workers write it."""
        store = Store(str(folder / "study"))
        store.save("plan.json", self.plan)
        for trial in self.plan.trials:
            if trial.eval_id in self.rows:
                self._finish(store, trial)
        return store

    def _finish(self, store: Store, trial: PlannedTrial) -> None:
        eval_id, train_id = str(trial.eval_id), str(trial.train_id)
        kinds = {"cases": self.rows[eval_id], "history": self.curves[eval_id]}
        files = {kind: f"trials/{train_id}/t/{kind}.parquet" for kind in kinds}
        for kind, content in kinds.items():
            store.write(files[kind], table_bytes(content))
        store.save(f"claims/{train_id}.json", Claim(token="t"))
        ids = {"train_id": train_id, "eval_id": eval_id, "token": "t"}
        store.commit(commit(**ids, files=files))

    def rows_of(self, model: str, task: str, fraction: float) -> Iterator[dict[str, Any]]:
        """The finished trials' rows of a place, with their folds and seeds."""
        for trial in self.plan.trials:
            if (trial.model, trial.task, trial.fraction) == (model, task, fraction):
                for row in self.rows.get(str(trial.eval_id), ()):
                    yield row | {"fold": trial.fold, "seed": trial.seed}


@st.composite
def studies(draw: st.DrawFn) -> AnyStudy:
    """Few models, tasks, shares, folds and seeds, some trials missing, some scores not there."""
    models = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    tasks = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True))
    fractions = draw(st.sampled_from([[1.0], [0.1, 1.0], [0.25]]))
    folds, seeds = draw(st.integers(1, 3)), draw(st.sampled_from([[0], [0, 3], [1, 2, 5]]))
    groups = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True))
    cases, epochs = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    missing = draw(st.sampled_from([0.0, 0.0, 0.2, 1.0]))
    empty, unknown = draw(st.sampled_from([0.0, 0.3, 1.0])), draw(st.sampled_from([0.0, 0.0, 0.2]))
    gain = draw(st.sampled_from([0.0, 0.02, 0.3]))
    comparison = {
        "baseline": models[0],
        "candidates": models[1:],
        "metrics": list(METRICS[: draw(st.integers(1, 3))]),
        "family": draw(st.sampled_from([[], ["candidate"], ["fraction", "metric"]])),
        "variance": draw(st.sampled_from(["independent", "nadeau-bengio"])),
        "equivalence": draw(st.sampled_from([{}, {"dice": 0.01}])),
    }
    plan = study_plan(
        models=models,
        tasks=tasks,
        fractions=fractions,
        both_empty=draw(st.sampled_from(["exclude", "perfect"])),
        metrics={name: Metric.known(name).model_dump() for name in METRICS},
        comparisons=[comparison] if models[1:] else [],
        trials=[
            {"model": model, "task": task, "fraction": fraction, "fold": fold, "seed": seed}
            | {"train_id": f"t{number}", "eval_id": f"e{number}"}
            for number, (model, task, fraction, fold, seed) in enumerate(
                itertools.product(models, tasks, fractions, range(folds), seeds)
            )
        ],
    )
    truths = {  # whether a label group has a structure in a case, the same for every model
        key: rng.uniform() >= empty * 0.5
        for key in itertools.product(tasks, range(folds * cases), groups)
    }
    rows, curves = {}, {}
    for trial in plan.trials:
        if rng.uniform() < missing:
            continue
        name, place = str(trial.eval_id), models.index(trial.model)
        rows[name] = [
            _row(f"c{case}", group, truths[trial.task, case, group], gain * place, unknown, rng)
            for case in range(trial.fold, folds * cases, folds)
            for group in groups
        ]
        curves[name] = [
            {"epoch": epoch, "split": split, "metric": metric, "value": float(rng.uniform())}
            for epoch in range(1, epochs + 1)
            for split, metric in (("train", "loss"), ("val", "dice"))
        ] or [{"epoch": 1, "split": "train", "metric": "loss", "value": float("nan")}]
    return AnyStudy(plan, rows, curves)


def _row(
    case: str, group: str, there: bool, gain: float, unknown: float, rng: np.random.Generator
) -> dict[str, Any]:
    """A case's scores: NaN where nothing is to be found, infinite distances where all was missed,
    and, with a probability of `unknown`, a surface metric that nobody measured.
    """
    found = rng.uniform() < 0.9
    status = STATUSES[(0 if found else 1) if there else (2 if found else 3)]
    dice = {"ok": min(float(rng.uniform(0.3, 0.7)) + gain, 1.0), "both-empty": float("nan")}
    distance = {"ok": float(rng.uniform(1, 9)), "both-empty": float("nan")}
    scores = {"dice": dice.get(status, 0.0), "nsd": dice.get(status, 0.0)}
    scores["hd95"] = distance.get(status, float("inf"))
    if rng.uniform() < unknown:
        scores["nsd"] = float("nan")
    named = {"case": case, "group": group, "status": status, "diagonal": 50.0}
    return named | scores
