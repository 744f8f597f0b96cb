"""Reads a spec from YAML: overrides, then every mistake at once, each with its file, line and
key.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from medvision.data.text import read_text
from medvision.errors import DataError
from medvision.models.sizes import Sizes
from orchestrator.spec.data import DataSpec
from orchestrator.spec.messages import Mistake, in_words
from orchestrator.spec.places import Place, dotted, line_of, place_of, repeated_keys
from orchestrator.spec.recipe import in_recipe
from orchestrator.spec.study import Spec
from orchestrator.spec.yaml_traps import traps

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
        text = read_text(source)
    except DataError as error:
        raise SpecError([str(error)]) from error
    except FileNotFoundError as error:
        near = difflib.get_close_matches(
            source.name, [one.name for one in source.parent.glob("*.y*ml")], n=1
        )
        hint = f"; did you mean {source.with_name(near[0])}?" if near else ""
        raise SpecError([f"{source}: there is no such file{hint}"]) from error
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

    mistakes = [
        f"{source}:{line}: {dotted(place)}: given twice" for place, line in repeated_keys(root)
    ]
    overridden: dict[Place, yaml.Node | None] = {}
    for override in overrides:
        try:
            key, node = _apply(values, override)
        except ValueError as error:
            mistakes.append(f"--set {override}: {error}")
        else:
            overridden[place_of(key)] = node
    found = [trap for trap in traps(root) if not _is_among(trap.place, overridden)]
    found += [trap for place, node in overridden.items() for trap in traps(node, place)]
    misread = [trap.place for trap in found]
    try:
        spec = Spec.model_validate(values, context=_surroundings(source, values))
    except ValidationError as error:
        wrong = in_words(error.errors(), values)
        # What YAML misread is wrong, too, and about the places above it nothing else can be said.
        found += [
            mistake
            for mistake in wrong
            if not any(place[: len(mistake.place)] == mistake.place for place in misread)
        ]
    else:
        places = _huge_numbers(spec.model_dump(mode="json"))
        found += [Mistake(place, "whole numbers end at 2^63 - 1") for place in places]
    for mistake in found:
        given = _is_among(mistake.place, overridden)
        where = "--set" if given else f"{source}:{line_of(root, mistake.place)}"
        mistakes.append(f"{where}: {dotted(mistake.place)}: {mistake.message}")
    if mistakes:
        raise SpecError(mistakes)
    return spec


def _surroundings(source: Path, values: dict[str, Any]) -> dict[str, Any]:
    """What code of one's own is found and tried with: the spec's folder, and the images' sizes with
    several channels and label groups, so that a network which ignores them is seen.
    """
    try:
        data = in_recipe(values).get("data", {})
        given = DataSpec.model_validate(data)
        sizes = Sizes(given.image_size, given.patch_size, 3, 4)
    except (ValueError, TypeError, AttributeError):  # which have errors of their own
        sizes = Sizes((32, 32, 32), (8, 8, 8), 3, 4)
    return {"folder": source.parent, "sizes": sizes}


def _is_among(place: Place, overridden: Iterable[Place]) -> bool:
    """Whether an override decides the value at a place, or a part of it."""
    return any(place[: len(given)] == given or given[: len(place)] == place for given in overridden)


def _printable(text: str) -> str:
    """The text in one line; what cannot be printed as its escape."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _parsed(text: str) -> tuple[yaml.Node | None, Any]:
    """A YAML document as nodes with their lines, and as values.

    Raises:
        ValueError: it is no YAML, or holds what cannot even be shown: numbers of thousands of
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


def _apply(values: dict[str, Any], override: str) -> tuple[str, yaml.Node | None]:
    """Set one `a.b.0.c=VALUE` in place; returns the dotted key, and the value's node."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ValueError("must be KEY=VALUE, for example training.epochs=5")
    try:
        root, value = _parsed(text)
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
    return key, root


def _index(items: list[Any], part: str) -> int:
    if not part.isdigit() or int(part) >= len(items):
        raise ValueError(f"{part!r} is no index of a list of {len(items)}")
    return int(part)


def dump(model: BaseModel) -> dict[str, Any]:
    """Plain JSON values of a model, with every default."""
    return model.model_dump(mode="json")
