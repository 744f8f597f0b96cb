"""Reads a spec from YAML: overrides, then every mistake at once, each with its file, line and
key.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from orchestrator.spec.study import Spec

MAX_NODES = 100_000


class SpecError(ValueError):
    """All mistakes of a spec; `str()` has one line each."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        self.mistakes = [_printable(mistake) for mistake in mistakes]
        super().__init__("\n".join(self.mistakes))


def load_spec(path: str | Path, overrides: Sequence[str] = ()) -> Spec:
    """The validated spec of a YAML file with `KEY=VALUE` overrides applied (`training.epochs=5`,
    `models.0.depth=4`).

    Raises:
        SpecError: the file is missing or not YAML, or any number of keys and values are wrong; all
            are reported.
    """
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError([f"{source}: cannot be read: {error}"]) from error
    try:
        root, values = _parsed(text)
    except ValueError as error:
        raise SpecError([f"{source}: not valid YAML: {error}"]) from error
    if not isinstance(values, dict):
        raise SpecError(
            [
                f"{source}:1: a spec is a mapping of keys such as name, models, tasks; got "
                f"{values!r:.80}"
            ]
        )

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
    else:
        huge = {"type": "huge", "msg": "whole numbers end at 2^63 - 1"}
        places = _huge_numbers(spec.model_dump(mode="json"))
        mistakes += [_mistake(source, root, overridden, huge | {"loc": place}) for place in places]
    if mistakes:
        raise SpecError(mistakes)
    return spec


def _printable(text: str) -> str:
    """The text in one line; what cannot be printed as its escape."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _parsed(text: str) -> tuple[yaml.Node | None, Any]:
    """A YAML document as nodes with their lines, and as values.

    Raises:
        ValueError: it is none, or holds what cannot even be told of: numbers of thousands of
            digits, endless nesting.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _check_size(root)
        values = yaml.safe_load(text)
        repr(values)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    return root, values


def _huge_numbers(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _huge_numbers(inner, (*place, key))
    elif isinstance(value, int) and abs(value) >= 2**63:
        yield place


def _check_size(root: yaml.Node | None) -> None:
    """Refuse a document whose aliases contain themselves, or multiply to more nodes than any spec
    has.
    """
    waiting, count = [root], 0
    while waiting:
        node, count = waiting.pop(), count + 1
        if count > MAX_NODES:
            raise ValueError(f"with its aliases written out it has more than {MAX_NODES} nodes")
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _mistake(source: Path, root: yaml.Node | None, overridden: Sequence[str], detail: Any) -> str:
    """One line: `file:line: key: problem`."""
    location, line = _locate(root, detail["loc"])
    key = ".".join(str(part) for part in location) or "the spec"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        message = (
            f"unknown key; did you mean {close[0]}?"
            if close
            else f"unknown key; known: {', '.join(known)}"
        )
    elif detail["type"] == "missing":
        message = "this key is required"
    elif "input" in detail and not isinstance(detail["input"], dict | list):
        message = f"{message}, got {detail['input']!r}"
    where = f"{source}:{line}"
    if any(
        f"{key}.".startswith(f"{name}.") or f"{name}.".startswith(f"{key}.") for name in overridden
    ):
        where = "--set"
    return f"{where}: {key}: {message}"


def _locate(root: yaml.Node | None, loc: Sequence[str | int]) -> tuple[tuple[str | int, ...], int]:
    """The keys of `loc` that a reader sees in the file (pydantic adds union tags), and the nearest
    line.
    """
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
    from medvision.models.registry import MODEL_LABELS

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


def _step(
    schema: dict[str, Any], node: dict[str, Any], part: str | int
) -> Iterator[dict[str, Any]]:
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
        _, value = _parsed(text)
    except ValueError as error:
        raise ValueError(f"the value is not YAML: {error}") from error
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
