"""A model of a spec: one of our networks, or a method of another tool. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from medvision.models.labels import find_label
from medvision.models.registry import MODEL_LABELS, ModelSettings, canonical_label
from orchestrator.spec.other_tools import OTHER_LABELS, ExternalSettings, NnUNetV2Settings


def expanded(value: Any) -> Any:
    """A model as a mapping with its label as it is spelled; what is none is left as it is."""
    if isinstance(value, str):
        return {"label": _label(value)}
    if isinstance(value, dict) and isinstance(value.get("label"), str):
        return value | {"label": _label(value["label"])}
    return value


def _label(label: str) -> str:
    """The label of a network or of another tool.

    Raises:
        ValueError: no such label; the message names the closest and all known ones.
    """
    if known := find_label(label, OTHER_LABELS):
        return known
    try:
        return canonical_label(label)
    except ValueError as error:
        raise ValueError(f"{error}, {', '.join(OTHER_LABELS)}") from error


def spelled(name: Any) -> str:
    """A label as the paper spells it; any other name as it is."""
    try:
        return _label(str(name))
    except ValueError:
        return str(name)


AnyModel = Annotated[
    ModelSettings | ExternalSettings | NnUNetV2Settings, Field(discriminator="label")
]
Model = Annotated[
    AnyModel,
    BeforeValidator(expanded, json_schema_input_type=Literal[MODEL_LABELS] | AnyModel),
]
