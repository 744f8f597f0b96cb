"""Whose claims are judged: the paper's models, settings and recipe, by labels and conditions."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from medvision.data.tasks import MSD_TASKS
from reports.sections.claims import (
    FOLDER,
    ClaimsError,
    claims_section,
    judge,
    read_claims,
)
from tests.reports.sections.paper_studies import (
    DECLARED,
    OURS,
    OURS_OF,
    PAPER,
    VIT,
    ours,
    planned,
    study,
    verdict,
)


def test_the_full_study_is_the_papers_under_our_recipe(
    full: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    found = verdict("better-60", study(*full))
    assert found.verdict == "confirmed"
    assert found.details == tuple(OURS)
    assert found.reason.startswith("claimed: 60 of 60; under our recipe: positions start with")
    told = claims_section([("P", [found])])
    numbers = ", ".join(str(number) for number in range(1, len(OURS) + 1))
    assert told.tables[0].rows[0][-1].text.endswith(f"under our recipe ({numbers})")
    clipped = "gradients are clipped at norm 1 (training.clip_norm)"
    assert f"({OURS.index(clipped) + 1}) {clipped}." in str(told.tables[0].footer)
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
        ("placement", "elsewhere", "placement is elsewhere, not encoder-decoder"),
        ("lora.alpha", 2.0, "lora.alpha is 2.0, not 1.0"),
        ("llm.kv_pairing", "shuffled", "llm.kv_pairing is shuffled, not tiled"),
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
    other = verdict("baseline-dice", study(plan, commits))  # a claim about another model
    assert other.details == tuple(ours(*VIT))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("training.lr=0.001", "training.lr is 0.001, not 0.002"),
        ("training.optimizer=adamw", "training.optimizer is adamw, not adam"),
        ("training.schedule=onecycle", "training.schedule is onecycle, not plateau"),
        ("training.batch_size=8", "training.batch_size is 8, not 4"),
        ("training.bce_weight=0", "training.bce_weight is 0.0, not 0.5"),
        ("training.select=last", "training.select is last, not training-loss"),
        ("training.augmentation.contrast=0.3", "training.augmentation.contrast is 0.3, not 0.1"),
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


def test_the_claims_facts_are_those_of_the_tasks() -> None:
    tasks = PAPER["conditions"]["tasks"]
    assert {name: tuple(facts.values()) for name, facts in tasks.items()} == {
        name: (facts.cases, facts.modality, facts.tolerance_mm) for name, facts in MSD_TASKS.items()
    }


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
        assert found.details == tuple(ours(*OURS_OF.get(found.id, ()))), found.id


def test_a_condition_without_a_list_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("{claims: [], conditions: {recipe: {training.lr: 0.1}}}")
    with pytest.raises(ClaimsError, match=r"conditions of recipe: training.lr needs a list"):
        read_claims(wrong)


OFFICIAL = ("recipe=official", "splits.scheme=kfold", "training.precision=fp32")


def test_the_official_recipe_is_the_papers_and_declares_next_to_nothing() -> None:
    """But for folds instead of a hold-out, without which not every case has a score."""
    of = study(*planned("full.yaml", *OFFICIAL))
    found = verdict("better-60", of)
    assert found.verdict == "confirmed"
    always = [one["text"] for one in DECLARED if not {"setting", "model"} & set(one)]
    assert set(found.details) == {"cross-validation instead of a hold-out of 10 %", *always}
    assert "paper" not in verdict("capacity-mlp", of).why


def test_a_difference_that_is_switched_back_alone_is_named_alone() -> None:
    of = study(*planned("full.yaml", *OFFICIAL, "training.dice=soft"))
    told = verdict("better-60", of)
    assert told.verdict == "confirmed"
    assert "the Dice loss is each sample's and has a gradient (training.dice)" in told.details


def test_of_two_models_with_a_label_the_official_one_is_the_papers() -> None:
    plan, commits = copy.deepcopy(planned("full.yaml"))
    official = planned("full.yaml", *OFFICIAL)[0]["settings"]["MedVisionLlama"]
    plan["settings"]["official"] = official | {"name": "official"}
    plan["models"].append("official")
    found = verdict("candidate-dice", study(plan, commits, gains={"official": 0.15}))
    assert found.evidence.endswith("; MedVisionLlama: official")


def test_the_first_versions_conditions_are_its_own() -> None:
    content = read_claims(FOLDER / "medvisionllama_v1.yaml")
    conditions = content["conditions"]
    assert conditions["tasks"] == PAPER["conditions"]["tasks"]
    assert set(conditions["models"]) == {"ViT_Baseline", "MedVisionLlama_Hybrid"}
    assert "training.lr" not in conditions["recipe"]
    plan, commits = planned("first_version.yaml", "training.lr=0.001", "training.epochs=7")
    of = study(plan, commits, gains={"MedVisionLlama_Hybrid": 0.05})
    found = next(one for one in judge(content, of) if one.id == "v1-dice-change")
    assert found.verdict in ("confirmed", "contradicted")
    assert any("our reading of the first version" in one for one in found.details)
