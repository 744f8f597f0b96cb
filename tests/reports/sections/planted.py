"""A synthetic study in which an effect of known size is planted, and its claims."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd

from record.schema import Commit, StudyPlan
from reports.sections.claim_study import Study, study_of
from reports.sections.claims import judge
from reports.sections.significance import significance_table
from reports.statistics.scores import case_scores, task_means
from tests.record.builders import commit, study_plan

MODELS = ("ViT_Baseline", "MedVisionLlama", "MedVision_BioGPT")


TASKS = tuple(f"T{index}" for index in range(6))


CASES, FOLDS = 8, 4


LLAMA = {
    "label": "MedVisionLlama",
    "llm": {"source": "meta-llama/Llama-3.1-8B", "layer": 31},
    "mapper": "lora",
    "lora": {"rank": 4},
}


METRICS = {
    "dice": {"higher_is_better": True, "unit": "", "title": "Dice"},
    "nsd": {"higher_is_better": True, "unit": "", "title": "NSD"},
    "hd95": {"higher_is_better": False, "unit": "mm", "title": "HD95"},
}


CLAIMS = {
    "conditions": {
        "tasks": {task: {"cases": CASES} for task in TASKS},
        "recipe": {"training.epochs": [3]},
        "models": {"MedVisionLlama": {"llm.source": ["meta-llama/Llama-3.1-8B"]}},
    },
    "claims": [
        {"id": "better", "rule": "better", "metrics": ["dice", "hd95"], "least": 12, "of": 12},
        {
            "id": "significant",
            "rule": "significant",
            "metrics": ["dice", "hd95"],
            "least": 8,
            "of": 12,
        },
        {"id": "change", "rule": "change", "metric": "dice", "percent": 10.0},
        {"id": "hd95", "rule": "change", "metric": "hd95", "percent": -10.0},
        {"id": "mean", "rule": "better-mean", "metric": "dice"},
        {"id": "few-shot", "rule": "few-shot", "fraction": 0.1, "gap": 0.05},
        {"id": "convergence", "rule": "convergence", "fraction": 0.1},
        {"id": "focus", "rule": "focus", "stage": "decoder"},
        {"id": "family", "rule": "no-difference", "metric": "dice", "baseline": "MedVision_BioGPT"},
    ],
}


for claim in CLAIMS["claims"]:  # type: ignore[union-attr]
    claim |= {
        "text": claim["id"],
        "candidate": "MedVisionLlama",
        "baseline": claim.get("baseline", "ViT_Baseline"),
    }


def plan(tasks: tuple[str, ...] = TASKS, **changes: Any) -> StudyPlan:
    trials = [
        {
            "model": m,
            "task": t,
            "fraction": f,
            "fold": fold,
            "seed": 0,
            "train_id": f"t{m}{t}{f}{fold}",
            "eval_id": f"e{m}{t}{f}{fold}",
        }
        for m, t, f, fold in itertools.product(MODELS, tasks, (0.1, 1.0), range(FOLDS))
    ]
    comparison = {
        "baseline": "ViT_Baseline",
        "candidates": list(MODELS[1:]),
        "metrics": ["dice", "hd95"],
        "family": ["candidate", "fraction"],
    }
    settings = {"ViT_Baseline": {"label": "ViT_Baseline"}, "MedVisionLlama": LLAMA}
    settings["MedVision_BioGPT"] = LLAMA | {
        "label": "MedVision_BioGPT",
        "llm": {"source": "microsoft/biogpt", "layer": 23},
    }
    values = {
        "models": list(MODELS),
        "tasks": list(tasks),
        "fractions": [0.1, 1.0],
        "metrics": METRICS,
        "scoring": {"nsd": "surfel", "hd95": "voxel-max", "tolerances": {t: [1.0] for t in tasks}},
        "comparisons": [comparison],
        "settings": settings,
        "recipe": {"epochs": 3},
        "trials": trials,
    }
    return study_plan(**values | changes)


def commits(of: StudyPlan) -> dict[str, Commit]:
    cost = {
        "seconds": 60.0,
        "chosen_epoch": 2,
        "peak_memory_bytes": 2**30,
        "trained_parameters": 10,
        "parameters": 100,
    }
    return {str(trial.eval_id): commit(eval_id=trial.eval_id, cost=cost) for trial in of.trials}


def results(
    gain: float, tasks: tuple[str, ...] = TASKS, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows and histories; every model with a block gains `gain` in Dice over the baseline, up to
    noise.
    """
    rng = np.random.default_rng(seed)
    rows, curves = [], []
    for task in tasks:
        hardness = rng.uniform(0.4, 0.7, CASES)
        for model, fraction in itertools.product(MODELS, (0.1, 1.0)):
            raised = gain if model != "ViT_Baseline" else 0.0
            dice = hardness + raised + rng.normal(0, 0.01, CASES)
            cell = {"model": model, "task": task, "fraction": fraction, "seed": 0}
            rows += [
                cell
                | {
                    "fold": n % FOLDS,
                    "case": f"c{n}",
                    "group": "foreground",
                    "status": "ok",
                    "diagonal": 50.0,
                    "dice": value,
                    "nsd": value,
                    "hd95": 20 * (1 - value),
                }
                for n, value in enumerate(dice)
            ]
            for epoch, level in enumerate((0.3, 0.5, 0.6), start=1):
                value = level + raised + rng.normal(0, 0.01)
                curve = {"epoch": epoch, "split": "val", "metric": "dice", "value": value}
                curves += [cell | curve | {"fold": fold} for fold in range(FOLDS)]
    return pd.DataFrame(rows), pd.DataFrame(curves)


def study(gain: float, of: StudyPlan | None = None) -> Study:
    of = of or plan()
    rows, history = results(gain)
    scores = case_scores(rows, of, commits(of))
    focus = pd.DataFrame(
        [
            {
                "model": m,
                "task": task,
                "case": f"c{n}",
                "stage": "decoder",
                "focus": 1 + n / 100 + gain * (m == MODELS[1]),
            }
            for m, task, n in itertools.product(MODELS[:2], TASKS, range(CASES))
        ]
    )
    table = significance_table(rows, of, commits(of))
    return study_of(of, commits(of), table, scores, task_means(scores), history, focus)


def verdicts(of: Study) -> dict[str, str]:
    return {finding.id: finding.verdict for finding in judge(CLAIMS, of)}
