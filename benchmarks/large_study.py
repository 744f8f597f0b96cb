"""A study of thousands of finished trials in seconds: a real spec, plan and record; only data and
scores are made up.

The grid is that of ablations/full.yaml (8 models, the ten tasks with as many cases as the Medical
Segmentation Decathlon has, 5 fractions, 5 folds), and seeds up to the number of trials.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from medvision.data.split_files import to_split
from medvision.data.splits import make_folds
from medvision.data.tasks import MSD_TASKS
from orchestrator.planning import study_files
from orchestrator.planning.folds import split_settings
from orchestrator.planning.found import BlockInputs, Inputs, TaskInputs
from orchestrator.planning.study import Study
from orchestrator.planning.study_files import open_store
from orchestrator.spec.study import Spec, model_name
from orchestrator.spec.yaml_file import load_spec
from record import paths
from record.schema import Attempt, Claim, Commit, Cost, Identity, StudyFile
from record.stored import SCHEMA_VERSION
from record.tables import table_bytes

SPEC = Path(__file__).parents[1] / "ablations" / "full.yaml"
PER_SEED = 2_000  # 8 models, 10 tasks, 5 fractions, 5 folds; 900 comparisons in its table
PAPER = (  # the same with one fraction and the paper's 60 comparisons: more seeds
    "fractions=[full]",
    "comparisons=[{baseline: ViT_Baseline, candidates: [MedVisionLlama]}]",
)
EPOCHS = 20
ATTEMPT = "benchmark"


def large_spec(storage: str, trials: int, changes: Sequence[str] = ()) -> Spec:
    """The spec of a study of at least so many trials, a multiple of 2,000.

    Args:
        storage: the folder that its folder lies in.
        trials: how many; with PAPER among the changes, 5 times the seeds make them.
        changes: as of `--set`.
    """
    per_seed = PER_SEED // 5 if PAPER[0] in changes else PER_SEED
    seeds = list(range(max(1, -(-trials // per_seed))))
    grid = ["fractions=[0.1, 0.2, 0.3, 0.5, full]", f"seeds={seeds}"]
    return load_spec(SPEC, [*grid, f"storage={storage}", "tracking.enabled=false", *changes])


def made_up_inputs(spec: Spec) -> Inputs:
    """Folds and fingerprints of cases that nobody has."""
    tasks = {}
    for task in spec.tasks:
        cases = {
            f"{task.name[:6]}_{number:03d}": 1.0 + number for number in range(_cases(task.name))
        }
        folds = make_folds(cases, scheme="kfold", seed=spec.splits.seed, folds=spec.folds)
        prints = {case: hashlib.sha256(case.encode()).hexdigest() for case in cases}
        tasks[task.name] = TaskInputs(tuple(folds), prints)
    size = {"hidden_size": 768, "parameters": 7_000_000}
    blocks = {
        model_name(model): BlockInputs("a" * 64, size) for model in spec.models if model.block
    }
    return Inputs(tasks, blocks)


def _cases(task: str) -> int:
    return MSD_TASKS[task].cases if task in MSD_TASKS else 20


def write_large_study(spec: Spec, finished: float = 1.0) -> Study:
    """Its plan, and the results of its first trials, as driver and workers write them.

    Args:
        finished: the share of the trials that are finished.
    """
    study = Study(spec, open_store(spec), made_up_inputs(spec))
    with _without_waiting_for_the_disk():
        _write_plan(study)
        trials = study.plan.trials[: round(finished * len(study.plan.trials))]
        for number, trial in enumerate(trials):
            _finish(study, trial, np.random.default_rng(number))
    return study.again()


def _write_plan(study: Study) -> None:
    """As `Study.write`, without the folder of the data."""
    spec, inputs = study.spec, study.inputs
    for name, task in inputs.tasks.items():
        split = to_split(task.folds, split_settings(spec), task.fingerprints)
        study.store.save(paths.split(name), split)
    blocks = {name: block.fingerprint for name, block in inputs.blocks.items()}
    values = study_files.public_values(spec)
    settings = StudyFile(schema=SCHEMA_VERSION, spec=values, blocks=blocks, data_root="none")
    study.store.save(paths.STUDY, settings)
    study.store.save(paths.PLAN, study_files.study_plan(spec, inputs, study.plan, {}))


def _finish(study: Study, trial: Any, rng: np.random.Generator) -> None:
    store, cell = study.store, trial.cell
    store.save(paths.claim(trial.train_id), Claim(token=ATTEMPT, eval_id=trial.eval_id))
    attempt = paths.attempt(trial.train_id, ATTEMPT)
    files = {
        paths.CASES: paths.cases(attempt, trial.eval_id),
        paths.HISTORY: paths.attempt_file(attempt, paths.HISTORY),
    }
    test = study.found.tasks[cell.task].folds[cell.fold].test
    store.write(files[paths.CASES], table_bytes(_scores(test, rng)))
    store.write(files[paths.HISTORY], table_bytes(list(_curve(rng))))
    cost = Cost(
        seconds=float(rng.uniform(50, 150)),
        epochs=EPOCHS,
        chosen_epoch=EPOCHS - 3,
        parameters=2_000_000,
        trained_parameters=1_000_000,
        peak_memory_bytes=2**30,
    )
    store.commit(
        Commit(
            eval_id=trial.eval_id,
            train_id=trial.train_id,
            token=ATTEMPT,
            cell=cell,
            identity=Identity(**trial.identity),
            files=files,
            cost=cost,
            attempt=Attempt(world=1, threads=4, device="cuda", host="node"),
            finished="2026-01-01T00:00:00Z",
        )
    )


def _scores(cases: Sequence[str], rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for case in cases:
        dice, truth = float(rng.uniform(0.5, 0.9)), 0.1
        found, right = dice, 1 - 0.1 * (1 - dice)
        ratios = {
            "dice": dice,
            "jaccard": dice / (2 - dice),
            "sensitivity": found,
            "specificity": right,
            "precision": dice,
            "accuracy": found * truth + right * (1 - truth),
            "nsd": dice,
        }
        distances = dict.fromkeys(("hd95", "hd", "assd"), 20 * (1 - dice))
        named = {"case": case, "group": "foreground"}
        rows.append(named | ratios | distances | {"status": "ok", "diagonal": 200.0})
    return rows


def _curve(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    noise = rng.normal(0, 0.01, EPOCHS)
    for epoch in range(1, EPOCHS + 1):
        rise = float(0.7 * (1 - np.exp(-epoch / 5)) + noise[epoch - 1])
        yield {"epoch": epoch, "split": "train", "metric": "loss", "value": 1 - rise}
        yield {"epoch": epoch, "split": "val", "metric": "dice", "value": rise}


@contextmanager
def _without_waiting_for_the_disk() -> Iterator[None]:
    """Four files of 10,000 trials are synced one by one otherwise: minutes."""
    with mock.patch.object(os, "fsync"):
        yield
