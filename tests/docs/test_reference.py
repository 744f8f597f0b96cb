"""docs/spec.md is current, and no key of a spec is missing from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, BeforeValidator

from medvision.metrics.definitions import METRICS
from medvision.models.registry import MODEL_LABELS
from orchestrator.spec.reference import UNITS, reference
from orchestrator.spec.study import Spec


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key of a model's fields, by their annotations: not by the JSON Schema that the
    page is made of.
    """
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        yield path
        if path != "models[].params":  # holds a whole model, by its name
            for suffix, inner in models_in(field.annotation):
                yield from keys_of(inner, f"{path}{suffix}.")


def models_in(annotation: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """The models that a value may be or hold, each with the way to it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield "", annotation
    suffix = {list: "[]", dict: ".NAME"}.get(get_origin(annotation), "")
    if suffix or get_origin(annotation) in (Annotated, Union, UnionType):
        for inner in get_args(annotation):
            if not isinstance(inner, BeforeValidator):
                yield from ((f"{suffix}{more}", model) for more, model in models_in(inner))


@pytest.fixture(scope="module")
def rows(root: Path) -> list[list[str]]:
    """Cells of the page's table rows."""
    lines = (root / "docs" / "spec.md").read_text().splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in lines
        if line.startswith("| `")
    ]


def test_the_page_is_current(root: Path) -> None:
    assert (root / "docs" / "spec.md").read_text() == f"{reference()}\n", "run `make schema`"


def test_every_key_stands_in_the_page(root: Path, rows: list[list[str]]) -> None:
    page, named = (root / "docs" / "spec.md").read_text(), {row[0] for row in rows}
    keys = set(keys_of(Spec))
    assert {
        "models[].llm.source",
        "models[].bridge_depth",
        "search.space.NAME.log",
        "comparisons[].family",
    } <= keys
    headings = {key for key in Spec.model_fields if f"\n## {key}\n" in page}
    assert headings == set(Spec.model_fields)
    assert [key for key in sorted(keys) if f"`{key}`" not in named and key not in headings] == []


def test_every_key_of_the_page_exists(rows: list[list[str]]) -> None:
    keys = set(keys_of(Spec))
    named = [row[0].strip("`") for row in rows]
    assert [name for name in named if name not in keys and name not in METRICS] == []
    assert [path for path in UNITS if path not in keys] == []


def test_every_label_has_an_entry_and_every_metric_a_row(root: Path, rows: list[list[str]]) -> None:
    page = (root / "docs" / "spec.md").read_text()
    assert [label for label in MODEL_LABELS if page.count(f"\n- `{label}`: ") != 1] == []
    assert set(METRICS) <= {row[0].strip("`") for row in rows}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("name", ["text like `^[A-Za-z0-9][A-Za-z0-9_.-]*$`", "**required**"]),
        ("training.dice_weight", ["number ≥ 0", "`1.0`"]),
        ("training.schedule", ["`plateau`, `onecycle`, `cosine`, `poly`, `constant`", "`plateau`"]),
        ("data.image_size", ["list of 3: integer > 0", "`[128, 128, 128]`", "voxels"]),
        ("fractions", ["list: (number or `full`, > 0 and ≤ 1)", "`[1.0]`"]),
        ("comparisons[].candidates", ["list: text", "**required**"]),
        ("resources.hang_seconds", ["number > 0", "`1800`", "s"]),
        ("models[].params", ["text like `^match .+` or mapping or `null`", "`null`"]),
        ("models[].lora", ["mapping", "below"]),
    ],
)
def test_a_row_says_type_default_and_unit(
    rows: list[list[str]], key: str, expected: list[str]
) -> None:
    found = {tuple(row[1 : 1 + len(expected)]) for row in rows if row[0] == f"`{key}`"}
    assert found == {tuple(expected)}  # in each family of models that has it


def test_a_block_is_required_where_a_model_is_nothing_without(rows: list[list[str]]) -> None:
    found = [row[1:3] for row in rows if row[0] == "`models[].llm`"]
    assert found.count(["mapping", "**required**"]) == 1
    assert found.count(["mapping or `null`", "`null`"]) == len(found) - 1 == 4


def test_literals_are_listed_in_full(rows: list[list[str]]) -> None:
    """Every allowed word of a field with fixed words stands in its row."""
    for name, field in Spec.model_fields["training"].annotation.model_fields.items():
        if get_origin(field.annotation) is Literal:
            row = next(row for row in rows if row[0] == f"`training.{name}`")
            assert row[1] == ", ".join(f"`{word}`" for word in get_args(field.annotation))
