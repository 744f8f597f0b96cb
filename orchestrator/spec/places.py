"""Places in a spec: where a reader finds them in the file, and what the schema allows there."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from medvision.models.registry import LABELS
from orchestrator.spec.other_tools import OTHER_LABELS
from orchestrator.spec.study import Spec

Place = tuple[str | int, ...]


def place_of(dotted: str) -> Place:
    """`models.0.depth` as a place."""
    return tuple(int(part) if part.isdecimal() else part for part in dotted.split("."))


def dotted(place: Place) -> str:
    """A place as a reader writes it."""
    return ".".join(map(str, place)) or "the spec"


def line_of(root: yaml.Node | None, place: Place) -> int:
    """The line of the place, or of the nearest one above it that the file has."""
    node, line = root, 1
    for part in place:
        found = _child(node, part)
        if found is None:
            return line
        key_node, node = found
        line = key_node.start_mark.line + 1
    return line


def repeated_keys(root: yaml.Node | None, place: Place = ()) -> Iterator[tuple[Place, int]]:
    """Every key that its mapping has already, with its line."""
    if isinstance(root, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in root.value:
            if key.value in seen:
                yield (*place, key.value), key.start_mark.line + 1
            seen.add(str(key.value))
            yield from repeated_keys(value, (*place, str(key.value)))
    elif isinstance(root, yaml.SequenceNode):
        for index, value in enumerate(root.value):
            yield from repeated_keys(value, (*place, index))


def known_keys(place: Place) -> list[str]:
    """The keys allowed at a place, in alphabetical order."""
    return sorted(
        {
            key
            for node in _schemas(place)
            for variant in _variants(node)
            for key in variant.get("properties", {})
        }
    )


def kinds(place: Place) -> set[str]:
    """What is allowed at a place, in the terms of JSON Schema (`integer`, `string`, ...); empty for
    places that the schema does not know.
    """
    found: set[str] = set()
    for node in _schemas(place):
        for variant in _variants(node):
            values = [*variant.get("enum", ()), *([variant["const"]] if "const" in variant else ())]
            found |= {"string" for value in values if isinstance(value, str)}
            found |= {variant["type"]} if "type" in variant else set()
    return found


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """Key and value of a part of a place; of an entry of a list, the entry twice."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


@functools.cache
def _schema() -> dict[str, Any]:
    return Spec.model_json_schema()


def _schemas(place: Sequence[str | int]) -> list[dict[str, Any]]:
    nodes = [_schema()]
    for part in place:
        nodes = [child for node in nodes for child in _step(node, part)]
    return nodes


def _step(node: dict[str, Any], part: str | int) -> Iterator[dict[str, Any]]:
    for variant in _variants(node):
        if isinstance(part, int):
            if part < len(first := variant.get("prefixItems", ())):
                yield first[part]
            elif "items" in variant:
                yield variant["items"]
        elif part in variant.get("properties", {}):
            yield variant["properties"][part]
        elif isinstance(more := variant.get("additionalProperties"), dict):
            yield more


def _variants(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in node:
        node = _schema()["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    yield node
    for alternative in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        yield from _variants(alternative)


def is_label(part: str | int) -> bool:
    """Whether pydantic put this part into a place to say which model it is about."""
    return part in LABELS or part in OTHER_LABELS
