"""Who and what a claim is judged by: the paper's models and recipe, all of its rows, its tasks, the
test's direction.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medvision.data.splits import Roles
from medvision.data.tasks import MSD_TASKS
from orchestrator.planning.identity import train_identity
from orchestrator.spec.study import model_name
from orchestrator.spec.yaml_file import dump, load_spec
from reports.sections.claim_study import Study, study_of
from reports.sections.claims import (
    FOLDER,
    ClaimsError,
    Finding,
    claims_section,
    judge,
    read_claims,
)
from tests.record.builders import commits as markers
from tests.record.builders import study_plan

SPECS = FOLDER.parent
PAPER = read_claims(FOLDER / "medvisionllama.yaml")
METRICS = ("dice", "jaccard", "hd95", "specificity", "sensitivity", "nsd")
OURS = [one["text"] for one in PAPER["conditions"]["declared"]]


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


@pytest.fixture(scope="module")
def full() -> tuple[dict[str, Any], dict[str, Any]]:
    return planned()


def test_the_full_study_is_the_papers_under_our_recipe(
    full: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    found = verdict("better-60", study(*full))
    assert found.verdict == "confirmed"
    assert found.details == tuple(OURS)
    assert found.reason.startswith(
        "claimed: 60 of 60; under our recipe: the output starts at the share of foreground"
    )
    told = claims_section([("P", [found])])
    assert (
        told.tables[0].rows[0][-1].text.endswith("under our recipe (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)")
    )
    assert "(2) gradients are clipped at norm 1 (training.clip_norm)." in str(told.tables[0].footer)
    assert told.data["reason"].iloc[0] == found.reason


def test_a_deviation_that_is_declared_ours_is_named_only_where_it_holds() -> None:
    plain = study(*planned("full.yaml", "training.prior_bias=false", "training.precision=fp32"))
    told = verdict("better-60", plain).reason
    assert "gradients are clipped" in told
    assert "share of foreground" not in told
    assert "bf16" not in told


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("llm.weights", "random", "llm.weights is random, not pretrained"),
        ("llm.block", "identity", "llm.block is identity, not layer"),
        ("llm.trainable", True, "llm.trainable is true, not false"),
        ("llm.layer", 3, "llm.layer is 3, not -1"),
        ("llm.rope", True, "llm.rope is true, not false"),
        ("llm.causal", True, "llm.causal is true, not false"),
        ("llm.source", "smollm2-135m", "llm.source is smollm2-135m, not meta-llama/Llama-3.1-8B"),
        ("mapper", "linear", "mapper is linear, not lora"),
        ("lora.rank", 2, "lora.rank is 2, not 4"),
        ("lora.targets", ["mappers", "q"], "lora.targets is ['mappers', 'q'], not ['mappers']"),
        ("placement", "after-embedding", "placement is after-embedding, not encoder-decoder"),
        ("embed_dim", 128, "embed_dim is 128, not 64"),
    ],
)
def test_a_model_with_another_setting_is_not_the_papers(
    full: tuple[dict[str, Any], dict[str, Any]], setting: str, value: Any, named: str
) -> None:
    plan, commits = copy.deepcopy(full[0]), full[1]
    inside = plan["settings"]["MedVisionLlama"]
    *parts, last = setting.split(".")
    for part in parts:
        inside = inside[part]
    inside[last] = value
    found = verdict("better-60", study(plan, commits))
    assert (found.verdict, found.agrees) == ("cannot be tested", True)
    assert found.details == (f"MedVisionLlama: {named}",)
    assert verdict("baseline-dice", study(plan, commits)).details == tuple(
        OURS
    )  # a claim about another model


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("training.lr=0.001", "training.lr is 0.001, not 0.002"),
        ("training.optimizer=adamw", "training.optimizer is adamw, not adam"),
        ("training.schedule=onecycle", "training.schedule is onecycle, not plateau"),
        ("training.batch_size=8", "training.batch_size is 8, not 4"),
        ("training.bce_weight=0", "training.bce_weight is 0.0, not 1.0"),
        (
            "training.augmentation.flip=[0.5, 0, 0]",
            "training.augmentation.flip is [0.5, 0.0, 0.0], not off",
        ),
        ("training.clip_norm=5", "training.clip_norm is 5.0, not off"),
        ("training.epochs=50", "training.epochs is 50, not 100"),
        ("data.protocol=corrected", "data.protocol is corrected, not paper"),
        ("evaluation.hd95=surfel", "scoring.hd95 is surfel, not voxel-max"),
        ("folds=2", "study.folds is 2, not 1"),
    ],
)
def test_another_recipe_refuses_the_study(change: str, named: str) -> None:
    found = verdict("better-60", study(*planned("full.yaml", change)))
    assert (found.verdict, found.details) == ("cannot be tested", (named,))


def test_the_recipe_is_that_of_the_planned_trials(
    full: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    plan, commits = full
    outdated = {"of an earlier spec": {"identity": {"train": {"training": {"lr": 0.5}}}}}
    assert verdict("better-60", study(plan, outdated | commits)).verdict == "confirmed"
    searched = verdict("better-60", study({**plan, "searches": ["s"]}, commits))
    assert (searched.verdict, searched.details) == (
        "cannot be tested",
        ("study.search is true, not off",),
    )
    unknown = verdict("better-60", study(plan, {}))
    assert "training.optimizer is absent, not adam" in unknown.details
    odd = copy.deepcopy(commits)
    odd[plan["trials"][-1]["eval_id"]]["identity"]["train"]["training"]["lr"] = 0.1
    assert verdict("better-60", study(plan, odd)).details == ("training.lr is 0.1, not 0.002",)


def test_a_tolerance_counts_for_claims_about_the_nsd_only() -> None:
    of = study(*planned("full.yaml", "evaluation.tolerances=[20.0]"))
    assert (
        "the NSD's tolerance of Task04_Hippocampus is 20.0 mm, not 1.0"
        in verdict("better-60", of).details
    )
    assert verdict("dice-change", of).details == tuple(OURS)


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


def test_a_label_is_the_model_with_the_claims_settings() -> None:
    plan, commits = planned("lora_rank.yaml")
    of = study(plan, commits, gains={"LoRA-4": 0.15, "LoRA-2": 0.05})
    found = verdict("candidate-dice", of)
    assert found.evidence.endswith("; MedVisionLlama: LoRA-4")
    assert found.details == tuple(OURS)
    assert found.evidence.startswith("mean 0.8")
    assert verdict("better-60", of).why == "no ViT_Baseline in the study"
    del plan["settings"]["LoRA-4"]
    plan["models"].remove("LoRA-4")
    ambiguous = verdict("candidate-dice", study(plan, commits))
    assert ambiguous.verdict == "cannot be tested"
    assert ambiguous.reason.startswith("MedVisionLlama is ambiguous")
    assert "LoRA-2 (lora.rank is 2, not 4), LoRA-8 (lora.rank is 8, not 4)" in ambiguous.reason


def test_another_models_name_is_no_label(full: tuple[dict[str, Any], dict[str, Any]]) -> None:
    plan, commits = copy.deepcopy(full)
    plan["settings"]["MedVisionLlama"] = plan["settings"]["ViT_Baseline"] | {
        "name": "MedVisionLlama"
    }
    assert (
        verdict("candidate-dice", study(plan, commits)).reason == "no MedVisionLlama in the study"
    )


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


def test_the_claims_facts_are_those_of_the_tasks() -> None:
    tasks = PAPER["conditions"]["tasks"]
    assert {name: tuple(facts.values()) for name, facts in tasks.items()} == {
        name: (facts.cases, facts.modality, facts.tolerance_mm) for name, facts in MSD_TASKS.items()
    }
    assert read_claims(FOLDER / "medvisionllama_v1.yaml")["conditions"] == PAPER["conditions"]


@pytest.mark.parametrize("file", ["full", "capacity", "llm_family", "lora_rank", "comparison"])
def test_every_label_of_our_specs_finds_the_papers_model(file: str) -> None:
    of = study(*planned(f"{file}.yaml"))
    labels = {settings["label"] for settings in of.settings.values()}
    claims = [
        {
            "id": label,
            "text": label,
            "rule": "level",
            "candidate": label,
            "metric": "dice",
            "value": 0,
        }
        for label in labels
    ]
    for found in judge(PAPER | {"claims": claims}, of):
        assert found.details == tuple(OURS), found.id


def test_a_condition_without_a_list_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("{claims: [], conditions: {recipe: {training.lr: 0.1}}}")
    with pytest.raises(ClaimsError, match=r"conditions of recipe: training.lr needs a list"):
        read_claims(wrong)
