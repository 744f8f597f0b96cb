"""What YAML 1.1 reads differently from what people mean: `010` is 8, `1:30` is 90, `no` is false.

Such a value is refused with what it was read as and how to write what is meant, instead of silently
becoming a wrong number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from orchestrator.spec.messages import Mistake
from orchestrator.spec.places import Place, kinds

_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
_OCTAL = re.compile(r"[-+]?0[0-7_]+")
_TAG = "tag:yaml.org,2002:"


def traps(root: yaml.Node | None, place: Place = ()) -> Iterator[Mistake]:
    """Every value and name that YAML reads differently, in the order of the file.

    Args:
        root: a document, or the value at `place`.
    """
    if isinstance(root, yaml.MappingNode):
        for key, value in root.value:
            yield from _of_name(key, place)
            yield from traps(value, (*place, str(key.value)))
    elif isinstance(root, yaml.SequenceNode):
        for index, value in enumerate(root.value):
            yield from traps(value, (*place, index))
    elif isinstance(root, yaml.ScalarNode) and root.style is None:
        allowed = kinds(place)
        if message := _number(root) or _other(root, allowed):
            yield Mistake(place, message)


def _of_name(key: yaml.Node, place: Place) -> Iterator[Mistake]:
    if not isinstance(key, yaml.ScalarNode) or key.style is not None:
        return
    if message := _number(key) or _other(key, {"string"}):
        yield Mistake((*place, str(key.value)), message)


def _number(node: yaml.ScalarNode) -> str | None:
    """What is wrong with a number that YAML reads as text, or as another number."""
    text = str(node.value)
    kind = node.tag.removeprefix(_TAG)
    if kind in ("int", "float") and ":" in text:
        value = yaml.safe_load(text)
        return (
            f"`{text}` is {value} in YAML (base 60): write {value} if that is meant, or '{text}' "
            "in quotes if it is text"
        )
    if not _LEADING_ZERO.fullmatch(text):
        return None
    meant = int(text.replace("_", ""))
    if kind == "int" and _OCTAL.fullmatch(text):
        value = int(text.replace("_", ""), 8)
        if value != meant:
            return (
                f"`{text}` is {value} in YAML (octal): write {meant}, or {value} if that is meant, "
                f"or '{text}' in quotes if it is text"
            )
    return (
        f"`{text}` has a leading zero, which makes a number octal in YAML: write {meant}, or "
        f"'{text}' in quotes if it is text"
    )


def _other(node: yaml.ScalarNode, allowed: set[str]) -> str | None:
    """What is wrong with a truth value or a date where neither is allowed."""
    text = str(node.value)
    kind = node.tag.removeprefix(_TAG)
    if kind == "timestamp":
        return f"`{text}` is a date in YAML: put it in quotes, '{text}'"
    if kind != "bool" or not allowed or "boolean" in allowed:
        return None
    value = str(yaml.safe_load(text)).lower()
    read = f"`{text}` is {value} in YAML" if text.lower() != value else f"`{text}` is a truth value"
    if allowed & {"integer", "number"}:
        return f"{read}, and a number is expected: write the number"
    if "string" in allowed:
        return f"{read}: put it in quotes, '{text}', if it is text"
    if "object" in allowed:
        return f"{read}, and keys with values are expected"
    return f"{read}, which is not expected here"
