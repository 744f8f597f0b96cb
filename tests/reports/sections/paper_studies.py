"""Studies as the specs plan them, with scores of our making, for the claims about the paper."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from medvision.data.splits import Roles
from medvision.data.tasks import MSD_TASKS
from orchestrator.planning.identity import train_identity
from orchestrator.spec.study import model_name
from orchestrator.spec.yaml_file import dump, load_spec
from reports.sections.claim_study import Study, study_of
from reports.sections.claims import (
    FOLDER,
    Finding,
    judge,
    read_claims,
)
from tests.record.builders import commits as markers
from tests.record.builders import study_plan

SPECS = FOLDER.parent


PAPER = read_claims(FOLDER / "medvisionllama.yaml")


METRICS = ("dice", "jaccard", "hd95", "specificity", "sensitivity", "nsd")


DECLARED = PAPER["conditions"]["declared"]


RECIPE = [one["text"] for one in DECLARED if "model" not in one]


VIT = ("position_std", "last_norm", "dropout_at", "attention_start")


BLOCK = ("llm.final_norm_weights", "llm.kv_pairing", "lora.alpha", "lora.bias")


def ours(*names: str) -> list[str]:
    """What is declared ours of these settings of models, in the order of the conditions, and of the
    recipe.
    """
    texts = {one["model"]: one["text"] for one in DECLARED if "model" in one}
    return [*(texts[name] for name in names), *RECIPE]


OURS = ours(*VIT, *BLOCK)


OURS_OF = {  # by label, what our defaults do otherwise than the official network
    "ViT_Baseline": VIT,
    "ViT_Depth": VIT,
    "ViT_MLP": (*VIT, "extra_widths", "extra_residual"),
    "MedVisionLlama": (*VIT, *BLOCK),
    "MedVisionLlama_Frozen": (*VIT, *BLOCK[:2]),
    "MedVision_BioBERT": (*VIT, *BLOCK),
    "MedVision_BioGPT": (*VIT, *BLOCK),
    "MedVision_ClinicalBERT": (*VIT, *BLOCK),
}


def planned(spec_file: str = "full.yaml", *overrides: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plan and commits of one of our specs as its finished trials would leave them: one fold and
    one case a trial.
    """
    spec = load_spec(SPECS / spec_file, overrides)
    nobody, commits, trials = Roles((), (), ()), {}, []
    for model, task, fold in itertools.product(spec.models, spec.tasks, range(spec.folds)):
        eval_id = f"{model_name(model)} {task.name} {fold}"
        trials.append(
            {
                "model": model_name(model),
                "task": task.name,
                "fraction": 1.0,
                "fold": fold,
                "eval_id": eval_id,
            }
        )
        identity = train_identity(spec, model, task, 0, 0, nobody, {}, "a block's fingerprint")
        commits[eval_id] = {
            "identity": {"train": identity},
            "cost": {"trained_parameters": len(trials)},
        }
    plan = {
        "models": [model_name(model) for model in spec.models],
        "tasks": [task.name for task in spec.tasks],
        "metrics": {name: {"higher_is_better": name != "hd95", "title": name} for name in METRICS},
        "settings": {model_name(model): dump(model) for model in spec.models},
        "recipe": {"epochs": spec.training.epochs},
        "scoring": {
            "nsd": spec.evaluation.nsd,
            "hd95": spec.evaluation.hd95,
            "tolerances": {task.name: spec.tolerances(task) for task in spec.tasks},
        },
        "both_empty": spec.evaluation.both_empty,
        "trials": trials,
    }
    return plan, commits


def study(
    plan: Mapping[str, Any],
    commits: Mapping[str, Any],
    *,
    gains: Mapping[str, float] | None = None,
    focus: pd.DataFrame | None = None,
    **table: Any,
) -> Study:
    """Every case of every task scored; Dice of a model is 0.7 and its gain, by default 0.15 for
    MedVisionLlama.
    """
    gains = {"MedVisionLlama": 0.15} if gains is None else gains
    noise = np.random.default_rng(0).normal(0, 0.01, (len(plan["models"]), len(plan["tasks"])))
    means = pd.DataFrame(
        {
            "model": model,
            "task": task,
            "fraction": 1.0,
            "dice": 0.7 + gains.get(model, 0.0) + noise[i, j],
        }
        for (i, model), (j, task) in itertools.product(
            enumerate(plan["models"]), enumerate(plan["tasks"])
        )
    )
    scores = pd.DataFrame(
        [
            {"task": task, "case": case}
            for task in plan["tasks"]
            for case in range(MSD_TASKS[task].cases)
        ]
    )
    won = {
        "better": "MedVisionLlama",
        "favours": "MedVisionLlama",
        "favours_cases": "MedVisionLlama",
        "p_cases": 0.01,
        "p_methods": 0.01,
        "p_holm": 0.04,
        "p_bh": 0.02,
    }
    rows = pd.DataFrame(
        {
            "candidate": "MedVisionLlama",
            "baseline": "ViT_Baseline",
            "fraction": 1.0,
            "task": task,
            "metric": metric,
            "verdict": "significant",
        }
        | won
        | table
        for task, metric in itertools.product(plan["tasks"], METRICS)
    )
    nothing = pd.DataFrame()
    return study_of(
        study_plan(**copy.deepcopy(plan)),
        markers(commits),
        rows,
        scores,
        means,
        nothing,
        nothing if focus is None else focus,
    )


def verdict(claim_id: str, of: Study) -> Finding:
    return next(one for one in judge(PAPER, of) if one.id == claim_id)
