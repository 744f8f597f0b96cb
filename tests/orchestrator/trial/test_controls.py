"""The controls of the language-model block: none may be taken for another, in the ids and in the
report.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from medvision.data.splits import Roles
from medvision.models.registry import resolve_settings
from orchestrator.planning.blocks import block_size
from orchestrator.planning.identity import digest, train_identity
from orchestrator.spec.study import Spec
from reports.sections.details import _varies

CONTROLS: dict[str, dict[str, Any]] = {
    "plain": {},
    "identity": {"block": "identity"},
    "random": {"weights": "random"},
    "another random": {"weights": "random", "random_seed": 1},
    "trainable": {"trainable": True},
    "trainable from random": {"weights": "random", "trainable": True},
    "permuted": {"control": "permuted"},
    "spectrum": {"control": "spectrum"},
    "linear": {"control": "linear"},
    "mlp": {"control": "mlp"},
    "tiled": {"kv_pairing": "tiled"},
    "final norm of ones": {"final_norm_weights": "ones"},
}
ROLES = Roles(train=("a",), validation=("b",), test=("c",))


def model_identity(model: dict[str, Any]) -> dict[str, Any]:
    spec = Spec.model_validate({"name": "s", "models": [model], "tasks": ["T"]})
    contents = dict.fromkeys("abc", "f")
    identity = train_identity(
        spec, spec.models[0], spec.tasks[0], 0, 0, ROLES, contents, "block's fingerprint"
    )
    return dict(identity["model"])


def with_llm(control: dict[str, Any], *, matched: bool) -> dict[str, Any]:
    llama = {"label": "MedVisionLlama", "llm": {"source": "x"} | control}
    return {"label": "ViT_MLP", "params": {"match": llama}} if matched else llama


@pytest.mark.parametrize("name", ["random", "identity", "trainable"])
def test_one_word_for_a_control_is_the_same_control(name: str) -> None:
    word = model_identity(with_llm({"control": name}, matched=False))
    assert word == model_identity(with_llm(CONTROLS[name], matched=False))


@pytest.mark.parametrize("matched", [False, True])
def test_no_control_has_the_id_of_another(matched: bool) -> None:
    ids = {
        name: digest(model_identity(with_llm(llm, matched=matched)))
        for name, llm in CONTROLS.items()
    }
    assert [pair for pair in combinations(ids, 2) if ids[pair[0]] == ids[pair[1]]] == []


def test_what_was_trained_before_keeps_its_id() -> None:
    block = {
        "layer": -1,
        "rope": False,
        "causal": False,
        "final_norm": True,
        "block": "block's fingerprint",
    }
    assert model_identity(with_llm({}, matched=False))["llm"] == block
    written_out = {
        "block": "layer",
        "weights": "pretrained",
        "random_seed": None,
        "trainable": False,
    }
    matched = model_identity(with_llm({}, matched=True))["params"]["match"]["llm"]
    assert matched == written_out | block
    swin = {
        "label": "Swin-UNet",
        "feature_size": 48,
        "depths": [2, 2, 2, 2],
        "window": 7,
        "dropout": 0.0,
    }
    assert model_identity({"label": "Swin-UNet"}) == swin
    assert model_identity({"label": "Swin-UNet", "heads": [3, 3, 6, 6]}) == swin | {
        "heads": [3, 3, 6, 6]
    }


@pytest.mark.parametrize("name", [name for name in CONTROLS if name != "plain"])
def test_the_report_calls_a_control_a_control(name: str) -> None:
    models = [
        with_llm(CONTROLS[key], matched=False) | {"lora": {"rank": 4}} for key in ("plain", name)
    ]
    plain, control = (resolve_settings(**model).model_dump(mode="json") for model in models)
    assert _varies(control, plain) == "control"
    other = plain | {"llm": {"source": "another family"}}
    assert _varies(other, plain) == "LLM family"
    assert (
        _varies(*map(model_identity, reversed(models))) == "control"
    )  # older studies have an id's settings alone


@pytest.mark.parametrize(
    ("family", "config", "parameters"),
    [
        ("llama", {"num_key_value_heads": 2}, 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96),
        (
            "qwen3",
            {"num_key_value_heads": 2, "head_dim": 24},
            2 * 64 * 96 + 2 * 64 * 48 + 3 * 64 * 96,
        ),
        ("bert", {}, 4 * 64 * 64 + 2 * 64 * 96),
        ("biogpt", {}, 4 * 64 * 64 + 2 * 64 * 96),
    ],
)
def test_the_estimate_counts_the_matrices_that_a_layer_has(
    family: str, config: dict[str, Any], parameters: int, tmp_path: Path, isolated_cache: Path
) -> None:
    import transformers

    from medvision.llm.shapes import empty_block
    from medvision.models.language.settings import LlmSettings

    title = {"llama": "Llama", "qwen3": "Qwen3", "bert": "Bert", "biogpt": "BioGpt"}[family]
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
    }
    getattr(transformers, f"{title}Config")(**sizes, **config).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert block_size(LlmSettings(source=str(tmp_path))) == {
        "hidden_size": 64,
        "parameters": parameters,
    }
    matrices = [
        weight.numel() for weight in empty_block(str(tmp_path)).parameters() if weight.ndim == 2
    ]
    assert sum(matrices) == parameters
