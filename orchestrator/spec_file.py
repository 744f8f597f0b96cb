"""Reads a spec from YAML: overrides, then every mistake at once, each with its file, line and key."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from orchestrator.spec import Spec


class SpecError(ValueError):
    """All mistakes of a spec; `str()` has one line each."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        self.mistakes = list(mistakes)
        super().__init__("\n".join(self.mistakes))


def load_spec(path: str | Path, overrides: Sequence[str] = ()) -> Spec:
    """The validated spec of a YAML file with `KEY=VALUE` overrides applied (`training.epochs=5`, `models.0.depth=4`).

    Raises:
        SpecError: the file is missing or not YAML, or any number of keys and values are wrong; all are reported.
    """
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError([f"{source}: cannot be read: {error}"]) from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError([f"{source}: not valid YAML: {' '.join(str(error).split())}"]) from error
    if not isinstance(values, dict):
        raise SpecError([f"{source}:1: a spec is a mapping of keys such as name, models, tasks; got {values!r}"])

    mistakes = [f"{source}:{line}: {key}: given twice" for key, line in _repeated_keys(root)]
    overridden: list[str] = []
    for override in overrides:
        try:
            overridden.append(_apply(values, override))
        except ValueError as error:
            mistakes.append(f"--set {override}: {error}")
    try:
        spec = Spec.model_validate(values)
    except ValidationError as error:
        mistakes += [_mistake(source, root, overridden, detail) for detail in error.errors()]
    if mistakes:
        raise SpecError(mistakes)
    return spec


def _mistake(source: Path, root: yaml.Node | None, overridden: Sequence[str], detail: Any) -> str:
    """One line: `file:line: key: problem`."""
    location, line = _locate(root, detail["loc"])
    key = ".".join(str(part) for part in location) or "the spec"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        message = f"unknown key; did you mean {close[0]}?" if close else f"unknown key; known: {', '.join(known)}"
    elif detail["type"] == "missing":
        message = "this key is required"
    elif "input" in detail and not isinstance(detail["input"], dict | list):
        message = f"{message}, got {detail['input']!r}"
    where = f"{source}:{line}"
    if any(f"{key}.".startswith(f"{name}.") or f"{name}.".startswith(f"{key}.") for name in overridden):
        where = "--set"
    return f"{where}: {key}: {message}"


def _locate(root: yaml.Node | None, loc: Sequence[str | int]) -> tuple[tuple[str | int, ...], int]:
    """The keys of `loc` that a reader sees in the file (pydantic adds union tags), and the nearest line."""
    node: yaml.Node | None = root
    line = 1
    seen: list[str | int] = []
    for index, part in enumerate(loc):
        last = index == len(loc) - 1
        found = _child(node, part)
        if found is None:
            if last or not _is_tag(part):
                seen.append(part)
            node = node if _is_tag(part) and not last else None
            continue
        key_node, node = found
        line = key_node.start_mark.line + 1
        seen.append(part)
    return tuple(seen), line


def _is_tag(part: str | int) -> bool:
    from medvision.models.labels import MODEL_LABELS

    return isinstance(part, str) and (part in MODEL_LABELS or "[" in part or "(" in part)


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _repeated_keys(root: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(root, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in root.value:
            name = f"{prefix}{key.value}"
            if key.value in seen:
                yield name, key.start_mark.line + 1
            seen.add(str(key.value))
            yield from _repeated_keys(value, f"{name}.")
    elif isinstance(root, yaml.SequenceNode):
        for index, value in enumerate(root.value):
            yield from _repeated_keys(value, f"{prefix}{index}.")


@functools.cache
def _properties() -> dict[str, Any]:
    return Spec.model_json_schema()


def _known_keys(location: Sequence[str | int]) -> list[str]:
    """The keys allowed at a place of the spec, out of the JSON Schema."""
    schema = _properties()
    nodes = [schema]
    for part in location:
        nodes = [child for node in nodes for child in _step(schema, node, part)]
    return sorted({key for node in nodes for key in _resolve(schema, node, "properties")})


def _step(schema: dict[str, Any], node: dict[str, Any], part: str | int) -> Iterator[dict[str, Any]]:
    if isinstance(part, int):
        for items in _variants(schema, node):
            if "items" in items:
                yield items["items"]
    else:
        for variant in _variants(schema, node):
            if part in variant.get("properties", {}):
                yield variant["properties"][part]


def _resolve(schema: dict[str, Any], node: dict[str, Any], key: str) -> set[str]:
    return {name for variant in _variants(schema, node) for name in variant.get(key, {})}


def _variants(schema: dict[str, Any], node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    yield node
    for alternative in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        yield from _variants(schema, alternative)


def _apply(values: dict[str, Any], override: str) -> str:
    """Set one `a.b.0.c=VALUE` in place; returns the dotted key."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ValueError("must be KEY=VALUE, for example training.epochs=5")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"the value is not YAML: {' '.join(str(error).split())}") from error
    node: Any = values
    *parents, last = key.split(".")
    for part in parents:
        if isinstance(node, list):
            node = node[_index(node, part)]
        else:
            if node.get(part) is None:
                node[part] = {}
            node = node[part]
        if not isinstance(node, dict | list):
            raise ValueError(f"{part!r} holds the value {node!r}, which has no keys")
    if isinstance(node, list):
        node[_index(node, last)] = value
    else:
        node[last] = value
    return key


def _index(items: list[Any], part: str) -> int:
    if not part.isdigit() or int(part) >= len(items):
        raise ValueError(f"{part!r} is no index of a list of {len(items)}")
    return int(part)


def dump(model: BaseModel) -> dict[str, Any]:
    """Plain JSON values of a model, with every default."""
    return model.model_dump(mode="json")
