"""`ablations/llm_family.yaml` on the quickstart's task, with small checkpoints of six families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from orchestrator.run import main as run
from record import paths
from record.store import Store
from record.study import StoredStudy
from tests.medvision.llm.checkpoint_files import WRITERS

ABLATIONS = Path(__file__).parents[2] / "ablations"
SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
# Model of the study -> class, its settings and the files that its checkpoint comes in.
CHECKPOINTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "MedVisionLlama": ("LlamaForCausalLM", GROUPED, "sharded safetensors"),
    "MedVision_BioBERT": ("BertForMaskedLM", SIZES, "legacy bin"),
    "MedVision_BioGPT": ("BioGptForCausalLM", SIZES, "bin"),
    "MedVision_ClinicalBERT": ("RobertaForMaskedLM", SIZES, "safetensors"),
    "Gemma-2-9B": ("Gemma2ForCausalLM", {**GROUPED, "head_dim": 16}, "safetensors"),
    "Llama-random": ("OlmoForCausalLM", GROUPED, "base model"),
}
FAMILIES = {"llama", "bert", "biogpt", "roberta", "gemma2", "olmo"}


def checkpoints(folder: Path) -> dict[str, Path]:
    """The checkpoints on disk, by the model that takes them."""
    import torch
    import transformers

    found = {}
    for number, (model, (title, sizes, files)) in enumerate(CHECKPOINTS.items()):
        torch.manual_seed(number)
        made = getattr(transformers, title)
        found[model] = folder / model
        WRITERS[files](made(made.config_class(**sizes)).eval(), found[model])
    return found


@pytest.mark.slow
def test_the_shipped_study_runs_with_six_families(tmp_path: Path, isolated_cache: Path) -> None:
    spec = yaml.safe_load((ABLATIONS / "llm_family.yaml").read_text())
    quickstart = yaml.safe_load((ABLATIONS / "quickstart.yaml").read_text())
    sources = checkpoints(tmp_path / "checkpoints")
    small = {"embed_dim": 16, "depth": 2, "heads": 2}
    models = []
    for model in spec["models"]:
        model = dict(model) if isinstance(model, dict) else {"label": model}
        if llm := model.get("llm"):
            name = model.get("name", model["label"])
            source = sources.get(name, sources["MedVisionLlama"])
            model["llm"] = {**llm, "source": str(source)} | ({"layer": 1} if "layer" in llm else {})
        models.append(model | small)
    spec |= {
        "models": models,
        "tasks": quickstart["tasks"],
        "data": quickstart["data"],
        "folds": 2,
        "training": {"steps": 4, "batch_size": 2, "lr": 1e-3},
        "resources": {"max_lanes": 1},
        "tracking": {"enabled": False},
        "storage": str(tmp_path / "runs"),
    }
    path = tmp_path / "llm_family.yaml"
    path.write_text(yaml.safe_dump(spec))
    assert run([str(path), "--in-process"]) == 0

    study = StoredStudy.opened(Store(str(tmp_path / "runs" / "llm_family")))
    assert not study.missing
    assert len(study.plan.models) == 9
    fingerprints = study.settings.blocks
    families = {name: fingerprints[name] for name in CHECKPOINTS}
    assert len(set(families.values())) == len(FAMILIES)
    history = study.rows(paths.HISTORY)
    noted = set(history[history["split"] == "block"]["model"])
    assert noted == set(study.plan.models) - {"ViT_Baseline"}
    table = pd.read_csv(tmp_path / "runs" / "llm_family" / "report" / "significance.csv")
    assert set(table["candidate"]) == set(study.plan.models) - {"MedVisionLlama"}
    assert not table["verdict"].str.startswith("incomplete").any()
