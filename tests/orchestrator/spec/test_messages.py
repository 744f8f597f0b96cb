"""A wrong spec is told as a person would tell it: one mistake a place, without pydantic's words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.spec.yaml_file import SpecError, load_spec

GOOD: dict[str, Any] = {"name": "x", "models": ["ViT_Baseline", "ViT_MLP"], "tasks": ["T"]}
LLAMA = {"label": "MedVisionLlama", "llm": {"source": "a"}}


def mistakes(folder: Path, values: dict[str, Any]) -> list[str]:
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(GOOD | values, sort_keys=False))
    try:
        load_spec(path)
    except SpecError as error:
        return [re.sub(r"^.*spec.yaml:\d+: ", "", line) for line in error.mistakes]
    return []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"training": {"epochs": "1e3"}},
            "training.epochs: expected a whole number, got '1e3': write 1000",
        ),
        (
            {"training": {"epochs": "0o10"}},
            "training.epochs: expected a whole number, got '0o10': write 8",
        ),
        ({"training": {"epochs": "1.5"}}, "training.epochs: expected a whole number, got '1.5'"),
        ({"folds": None}, "folds: expected a whole number, got nothing"),
        ({"training": {"lr": float("inf")}}, "training.lr: must be a finite number, got inf"),
        ({"fractions": 0.1}, "fractions: expected a list, got 0.1: write [0.1]"),
        (
            {"tasks": [{"name": "T", "modality": "CT"}]},
            "tasks.0.modality: expected a list, got 'CT': write [CT]",
        ),
        (
            {"models": [{"label": "UNet++", "features": [32, "a"]}]},
            "models.0.features.1: expected a whole number, got 'a'",
        ),
        (
            {"models": [{"label": "UNet++", "features": [32, 32]}]},
            "models.0.features: needs 6 or more values, has 2",
        ),
        ({"seeds": []}, "seeds: needs 1 or more values, has 0"),
        (
            {"data": {"label_groups": {"a": "x"}}},
            "data.label_groups.a: expected a list of whole numbers or `all`, got 'x'",
        ),
        (
            {"data": {"label_groups": {"a": ["x"]}}},
            "data.label_groups.a.0: expected a whole number, got 'x'",
        ),
        (
            {"data": {"label_groups": "all"}},
            "data.label_groups: expected keys with values or `each`, got 'all'",
        ),
        (
            {"data": {"label_groups": {"a": [0]}}},
            "data.label_groups.a.0: must be above 0, got 0",
        ),
        (
            {"data": {"label_groups": {1: [1]}}},
            "data.label_groups: the name 1 is no text: put it in quotes",
        ),
        (
            {"evaluation": {"tolerances": "mds"}},
            "evaluation.tolerances: expected `msd` or a list of numbers, got 'mds'",
        ),
        (
            {"tasks": [{"name": "T", "channel": "x"}]},
            "tasks.0.channel: expected a whole number or `all`, got 'x'",
        ),
        (
            {"tasks": [{"name": "T", "channel": -1}]},
            "tasks.0.channel: must be 0 or more, got -1",
        ),
        (
            {"models": [{**LLAMA, "llm": {"source": "a", "layer": "x"}}]},
            "models.0.llm.layer: expected a whole number or a list of whole numbers, got 'x'",
        ),
        ({"models": [{"depth": 3}]}, "models.0: give a `label`: which model it is"),
        ({"models": [5]}, "models.0: expected keys with values, got 5"),
        ({"data": {"image_size": [8, 8]}}, "data.image_size: 2 values are too few"),
        ({"comparisons": 5}, "comparisons: expected keys with values, got 5"),
        (
            {"comparisons": {"baseline": "ViT_Baseline", "candidates": "ViT_MLP"}},
            "comparisons.candidates: expected a list, got 'ViT_MLP': write [ViT_MLP]",
        ),
        (
            {"search": {"space": {"dropout": {"choices": [[1], 0.5]}}}},
            "search.space.dropout.choices.0: expected true or false, a whole number, a number or "
            "text, got [1]",
        ),
        ({"folds": "five"}, "folds: expected a whole number, got 'five'"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key_and_what_belongs_there(
    tmp_path: Path, values: dict[str, Any], expected: str
) -> None:
    assert mistakes(tmp_path, values) == [expected]


PLACES = [
    ("data", "label_groups"),
    ("data", "label_groups", "a"),
    ("data", "spacing"),
    ("data", "image_size"),
    ("evaluation", "tolerances"),
    ("evaluation", "metrics"),
    ("comparisons",),
    ("search",),
    ("search", "space", "dropout"),
    ("search", "space", "dropout", "choices"),
    ("training", "augmentation"),
    ("resources", "shapes"),
    ("models",),
    ("tasks",),
    ("fractions",),
    ("seeds",),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.sampled_from("ab"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "label", "name", "log"]), inner, max_size=2)
    ),
    max_leaves=5,
)
JARGON = re.compile(
    r"literal\[|constrained|(dict|list|tuple|union|function)[\[-]|instance of"
    r"|valid (dict|list|tuple)|discriminator|\[key\]|object to extract"
)


@given(st.sampled_from(PLACES), VALUES)
@settings(deadline=None, max_examples=200)
def test_whatever_stands_there_no_place_is_told_twice_and_none_in_pydantics_words(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[str, ...], value: Any
) -> None:
    values: Any = value
    for part in reversed(place):
        values = {part: values}
    lines = mistakes(tmp_path_factory.mktemp("wrong"), values)
    assert not [line for line in lines if JARGON.search(line)]
    places = [line.partition(": ")[0] for line in lines if not line.startswith("the spec")]
    assert len(places) == len(set(places))
