"""What decides a claim: all of its rows and cells, the test's direction, intervals over tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from medvision.data.tasks import MSD_TASKS
from reports.sections.claim_study import Study
from reports.sections.claims import (
    judge,
)
from tests.reports.sections.paper_studies import (
    PAPER,
    planned,
    study,
    verdict,
)


def test_k_of_n_needs_its_n_rows(full: tuple[dict[str, Any], dict[str, Any]]) -> None:
    of = study(*full)
    fewer = Study(**{**vars(of), "table": of.table[of.table["metric"] == "dice"]})
    for claim, told in (
        ("better-60", "better in 10 of 10"),
        ("significant-41", "methods with p < 0.05 in 10 of 10 raw"),
    ):
        found = verdict(claim, fewer)
        assert (found.verdict, found.agrees) == ("cannot be tested", None)
        assert found.details == ("it has 10 of the 60 comparisons that the claim counts",)
        assert told in found.evidence
        assert verdict(claim, of).verdict == "confirmed"


def test_a_win_needs_the_tests_direction_and_not_the_means(
    full: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    against = study(
        *full, favours="ViT_Baseline"
    )  # a few large values hold the means against most cases
    assert verdict("better-60", against).verdict == "confirmed"
    assert verdict("significant-41", against).verdict == "contradicted"
    assert "in 0 of 60 raw" in verdict("significant-41", against).evidence


def test_only_models_that_differ_in_rank_alone_are_compared() -> None:
    plan, commits = planned("lora_rank.yaml")
    best_with_projections = {"LoRA-4-qv": 0.15, "LoRA-8": 0.1, "LoRA-4": 0.05}
    found = verdict("lora-rank", study(plan, commits, gains=best_with_projections))
    assert found.verdict == "contradicted"  # rank 8, for LoRA-4-qv is not rank 4 alone
    assert found.evidence.count("rank ") == 4
    for other in ("LoRA-2", "LoRA-8", "LoRA-16"):
        plan["settings"][other]["lora"]["alpha"] = 8.0
    alone = verdict("lora-rank", study(plan, commits, gains={"LoRA-4": 0.1}))
    assert alone.reason == "the study does not compare rank 4 with models of another rank alone"


def test_claims_about_a_modality_need_its_tasks_only() -> None:
    mri = [task for task, facts in MSD_TASKS.items() if facts.modality == "MRI"]
    of = study(*planned("full.yaml", f"tasks=[{', '.join(mri)}]"))
    assert verdict("mri", of).verdict == "confirmed"
    assert verdict("ct", of).reason == "none of the claim's 6 tasks is in the study"
    assert verdict("dice-change", of).details == ("6 of its 10 tasks are not in the study",)


@pytest.mark.parametrize(
    ("shift", "expected"), [(0.5, "confirmed"), (-0.5, "contradicted"), (0.02, "cannot be tested")]
)
def test_focus_is_open_where_its_interval_over_tasks_holds_0(
    full: tuple[dict[str, Any], dict[str, Any]], shift: float, expected: str
) -> None:
    tasks = full[0]["tasks"]
    noise = np.random.default_rng(1).normal(0, 0.1, (len(tasks), 6))
    nothing, gained = np.zeros_like(noise), shift + noise - noise.mean()
    focus = pd.DataFrame(
        {"model": model, "task": task, "case": case, "stage": "decoder", "focus": 1 + added}
        for model, gains in (("ViT_Baseline", nothing), ("MedVisionLlama", gained))
        for task, of_task in zip(tasks, gains, strict=True)
        for case, added in enumerate(of_task)
    )
    found = verdict("attention", study(*full, focus=focus))
    assert found.verdict == expected
    one_task = verdict("attention", study(*full, focus=focus[focus["task"] == tasks[0]]))
    assert (one_task.verdict, one_task.agrees) == ("cannot be tested", None)
    assert one_task.reason == "1 of 10 tasks have activations of both models"
    if expected == "cannot be tested":
        assert "focus 1.020 against 1.000" in found.evidence  # a gain, p too large


def test_unknown_parameters_contradict_nothing(full: tuple[dict[str, Any], dict[str, Any]]) -> None:
    found = verdict("lora-linear", study(full[0], {}))
    assert (
        found.reason
        == "the trained parameters of MedVisionLlama and MedVisionLlama_Frozen are unknown"
    )


def without(full: tuple[dict[str, Any], dict[str, Any]], model: str, task: str) -> Study:
    """The full study, in which a trial of a cell was quarantined: all of the cell is left out."""
    plan, commits = full
    kept = {
        name: marker for name, marker in commits.items() if not name.startswith(f"{model} {task} 0")
    }
    assert len(kept) == len(commits) - 1
    of = study(plan, kept)
    means = of.means[~((of.means["model"] == model) & (of.means["task"] == task))]
    table = of.table.copy()
    if model in ("MedVisionLlama", "ViT_Baseline"):
        table.loc[table["task"] == task, "verdict"] = "incomplete: 1 of 10 trials missing"
    return Study(**{**vars(of), "means": means, "table": table})


@pytest.mark.parametrize("model", ["MedVisionLlama", "ViT_Baseline"])
def test_with_a_cell_quarantined_no_claim_about_its_models_is_decided(
    full: tuple[dict[str, Any], dict[str, Any]], model: str
) -> None:
    plan, _ = full
    focus = pd.DataFrame(
        {"model": name, "task": task, "case": case, "stage": "decoder", "focus": value + case / 9}
        for name, value in (("ViT_Baseline", 1.0), ("MedVisionLlama", 2.0))
        for task in plan["tasks"]
        for case in range(6)
    )
    of = without(full, model, plan["tasks"][3])
    of = Study(**{**vars(of), "focus": focus})
    for claim in PAPER["claims"]:
        if model not in (claim["candidate"], claim.get("baseline")):
            continue
        found = next(one for one in judge(PAPER, of) if one.id == claim["id"])
        modality = claim.get("modality")
        if modality and MSD_TASKS[plan["tasks"][3]].modality != modality:
            continue
        assert (found.verdict, found.agrees) == ("cannot be tested", None), found.id


def test_a_metric_that_a_task_does_not_have_decides_nothing(
    full: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    of = study(*full)
    means = of.means.copy()
    means.loc[means["task"] == full[0]["tasks"][0], "dice"] = np.nan
    for claim in ("dice-change", "mri", "baseline-dice", "candidate-dice", "family-biogpt"):
        found = verdict(claim, Study(**{**vars(of), "means": means}))
        if claim == "mri" or found.reason.startswith("no "):
            continue
        assert found.agrees is None, claim
        assert found.verdict == "cannot be tested"


def test_a_tenth_of_the_data_has_curves_where_the_fold_validates() -> None:
    """Of 10 % of Heart no case is left to validate on, unless the fold's do, and that is told."""
    plan, commits = planned("official.yaml")
    models = ("MedVisionLlama", "ViT_Baseline")
    history = pd.DataFrame(
        {
            "model": model,
            "task": task,
            "fraction": 0.1,
            "fold": 0,
            "seed": 0,
            "epoch": epoch,
            "split": "val",
            "metric": "dice",
            "value": 0.5 + 0.1 * epoch + 0.06 * (model == models[0]) + 0.001 * place,
        }
        for model in models
        for place, task in enumerate(plan["tasks"])
        for epoch in (1, 2)
    )
    complete = {(model, task, 0.1) for model in models for task in plan["tasks"]}
    for validation, told in (("fold", True), ("fraction", False)):
        plan["recipe"]["validation"] = validation
        of = study(plan, commits)
        seen = Study(**{**vars(of), "history": history, "complete": complete})
        found = verdict("few-shot-10", seen)
        assert found.agrees is True
        assert found.verdict == "confirmed"
        assert ("cases of the fold that this share does not shrink" in found.evidence) is told
