"""The table of the block's controls."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from reports.sections.controls import KEEPS, control_of, controls_section
from tests.reports.studies import commits, plan, rows, table

LLM = {"source": "x", "layer": 3}
BLOCKS: dict[str, Any] = {
    "Llama": LLM,
    "Random": LLM | {"weights": "random"},
    "Permuted": LLM | {"control": "permuted"},
    "Other": LLM | {"layer": 1},
}
SETTINGS = {"ViT": {"label": "ViT_Baseline"}} | {
    name: {"label": "MedVisionLlama", "mapper": "lora", "lora": {"rank": 4}, "llm": llm}
    for name, llm in BLOCKS.items()
}


def study(scores: dict[str, float], **changes: Any) -> tuple[pd.DataFrame, Any]:
    models = tuple(scores)
    of = plan(models, settings={name: SETTINGS[name] for name in models}, **changes)
    means = pd.DataFrame(
        {"model": model, "task": "T_1", "fraction": 1.0, "dice": dice}
        for model, dice in scores.items()
    )
    return means, of


def test_what_of_the_gain_survives() -> None:
    scores = {"ViT": 0.6, "Llama": 0.8, "Other": 0.8, "Permuted": 0.55, "Random": 0.7}
    means, of = study(scores)
    found = controls_section(means, pd.DataFrame(), of, commits(of))
    assert found is not None
    data = found.data.set_index("control")
    assert list(data.index) == ["random", "permuted", "another layer"]  # most removed first
    assert data["share"].tolist() == pytest.approx([0.5, -0.25, 1.0])
    assert data["over_baseline"].tolist() == pytest.approx([0.1, -0.05, 0.2])
    assert set(data["tests"]) == {"not tested"}
    said = "gain of Llama over ViT is +0.200 Dice over 1 task(s) (ViT against Llama: not tested)"
    assert said in found.opening[0]
    assert [cell.text for cell in found.tables[0].rows[0]][3:6] == ["0.700", "+0.100", "50%"]


def test_controls_of_one_kind_stand_in_the_order_of_the_study(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = {f"Of {name}": LLM | {"source": name} for name in "wzvyut"}
    for name, llm in others.items():
        monkeypatch.setitem(SETTINGS, name, SETTINGS["Llama"] | {"llm": llm | {"layer": 9}})
    means, of = study(dict.fromkeys(["ViT", "Llama", *others], 0.5))
    found = controls_section(means, pd.DataFrame(), of, commits(of))
    assert found is not None
    assert found.data["model"].tolist() == list(others)


def test_without_a_gain_nothing_survives() -> None:
    means, of = study({"ViT": 0.8, "Llama": 0.7, "Random": 0.9})
    found = controls_section(means, pd.DataFrame(), of, commits(of))
    assert found is not None
    assert found.data["share"].isna().all()
    assert "There is no gain" in found.opening[0]


def test_without_a_common_task_the_gain_is_not_known() -> None:
    means, of = study({"ViT": 0.6, "Llama": 0.8, "Random": 0.7})
    means.loc[means["model"] == "Random", "task"] = "T_2"
    found = controls_section(means, pd.DataFrame(), of, commits(of))
    assert found is not None
    assert found.opening == [
        "What of the gain of Llama over ViT survives is not known: no task is finished by all of "
        "Llama, ViT, Random."
    ]
    assert [cell.text for cell in found.tables[0].rows[0]][3:6] == ["", "", "-"]


@pytest.mark.parametrize("models", [("ViT", "Llama"), ("Llama", "Random")])
def test_no_table_without_a_control_or_a_baseline(models: tuple[str, ...]) -> None:
    means, of = study(dict.fromkeys(models, 0.5))
    assert controls_section(means, pd.DataFrame(), of, commits(of)) is None


def test_the_tests_are_those_of_the_significance_table() -> None:
    models = ("Llama", "Random", "ViT")
    comparison = {
        "baseline": "Llama",
        "candidates": ["Random", "ViT"],
        "metrics": ["dice"],
        "family": ["candidate"],
    }
    of = plan(models, settings={m: SETTINGS[m] for m in models}, comparisons=[comparison])
    frame = rows(gain=-0.2, models=models)
    means = frame.groupby(["model", "task", "fraction"], sort=False)["dice"].mean().reset_index()
    found = controls_section(means, table(frame, of), of, commits(of))
    assert found is not None
    assert found.data["tests"].tolist() == ["better in 0, worse in 1, not told apart in 0"]
    assert 0.4 < found.data["share"].item() < 0.6


def test_a_control_changes_one_thing() -> None:
    assert control_of(LLM, LLM) is None
    assert control_of(LLM | {"layer": 1, "weights": "random"}, LLM) is None
    assert control_of(LLM | {"source": "y", "layer": 1}, LLM) == "another model"
    named = {"permuted", "spectrum", "linear", "mlp"}
    assert {control_of(LLM | {"control": one}, LLM) for one in named} == named <= KEEPS.keys()


@pytest.mark.parametrize(
    ("more", "reference", "found"),
    [
        ({"weights": "random"}, {"kv_pairing": "tiled"}, None),
        ({"weights": "random", "kv_pairing": "tiled"}, {"kv_pairing": "tiled"}, "random"),
        ({"weights": "random", "rope": True}, {}, None),
        ({"weights": "random"}, {"trainable": True}, None),
        ({"control": "mlp"}, {"kv_pairing": "tiled", "final_norm_weights": "ones"}, "mlp"),
        ({"block": "identity"}, {"final_norm_weights": "ones"}, "identity"),
        ({"kv_pairing": "tiled"}, {}, "other head pairs"),
        ({"kv_pairing": "grouped"}, {"kv_pairing": "tiled"}, None),
        ({"trainable": True}, {"trainable": False}, "trainable"),
        ({"rope": True}, {}, None),
    ],
)
def test_what_the_reference_has_as_well_is_no_control(
    more: dict[str, Any], reference: dict[str, Any], found: str | None
) -> None:
    assert control_of(LLM | more, LLM | reference) == found
