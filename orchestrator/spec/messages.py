"""pydantic's messages about a wrong spec, in plain words: one mistake a place.

Of a value that may be one of several things (a list, or the word `each`) pydantic lists what is
wrong with it as each of them. Here it is what is wrong with it as the one that it comes nearest to,
or, where it is none of them, what they are.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from orchestrator.spec.places import Place, is_label, known_keys

_SIMPLE = {
    "int": "a whole number",
    "constrained-int": "a whole number",
    "float": "a number",
    "constrained-float": "a number",
    "str": "text",
    "constrained-str": "text",
    "bool": "true or false",
}
_LISTS = {"int": "a list of whole numbers", "float": "a list of numbers", "str": "a list of names"}
# Errors which say that a value is not of a kind at all, with the kind.
_OTHER_KIND = {
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "keys with values"),
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    "string_type": "text",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(
        ("literal_error", "enum"), ""
    ),  # pydantic lists the words that are allowed there
}
_WORDS = {
    "missing": "this key is required",
    "union_tag_not_found": "give a `label`: which model it is",
    **{kind: f"expected {words}" for kind, words in _OTHER_KIND.items() if words},
}
# Limits, with pydantic's names of them in braces.
_LIMITS = {
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be {ge:g} or more",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be {le:g} or less",
    "finite_number": "must be a finite number",
    "literal_error": "must be {expected}",
    "string_pattern_mismatch": "must match `{pattern}`",
    "string_too_long": "must have {max_length} characters or fewer",
    "string_too_short": "must have {min_length} characters or more",
}
_LENGTHS = {"too_short": "{min_length} or more", "too_long": "{max_length} or fewer"}
_OTHERS_CALL_IT = {  # elsewhere: here
    "learning_rate": "lr",
    "iterations": "steps",
    "max_steps": "steps",
    "max_epochs": "epochs",
    "num_epochs": "epochs",
    "n_folds": "folds",
    "num_folds": "folds",
    "bs": "batch_size",
    "crop_size": "image_size",
    "num_workers": "workers",
    "gpus": "gpus_per_worker",
    "datasets": "tasks",
    "seed": "seeds",
    "type": "label",
}
_SHOWN = 60  # characters of a wrong value


@dataclass(frozen=True)
class Mistake:
    """What is wrong, and at which place of the spec."""

    place: Place
    message: str


@dataclass(frozen=True)
class _Error:
    """An error of pydantic: its place, the alternatives (`tag`) among its parts still marked."""

    parts: tuple[tuple[str | int, bool], ...]
    detail: Mapping[str, Any]

    @property
    def place(self) -> Place:
        return tuple(part for part, _ in self.parts)

    @property
    def first_tag(self) -> int | None:
        return next((index for index, (_, tag) in enumerate(self.parts) if tag), None)


def in_words(errors: Iterable[Mapping[str, Any]], values: Any) -> list[Mistake]:
    """The mistakes of a spec.

    Args:
        errors: of `pydantic.ValidationError.errors()`.
        values: what was validated.
    """
    every = [_Error(_parts(error["loc"], values), error) for error in errors]
    # the length of a list is that of its right entries: of one with wrong ones it says nothing
    counted = [one for one in every if not (_is_length(one) and _wrong_inside(one, every))]
    found = _merged(counted)
    return list(dict.fromkeys(found))  # a list that is too short lacks several values


def _is_length(error: _Error) -> bool:
    return error.detail["type"] in _LENGTHS


def _wrong_inside(error: _Error, every: Sequence[_Error]) -> bool:
    at = len(error.parts)
    return any(len(one.parts) > at and one.parts[:at] == error.parts for one in every)


def _parts(loc: Sequence[str | int], values: Any) -> tuple[tuple[str | int, bool], ...]:
    """The parts of pydantic's place, each with whether it names an alternative and no key; labels
    of models are left out.
    """
    parts: list[tuple[str | int, bool]] = []
    node = values
    for part in loc:
        if isinstance(node, list) and isinstance(part, int):
            node = node[part] if part < len(node) else None
        elif isinstance(node, Mapping) and part in node:
            node = node[part]
        elif is_label(part) or isinstance(part, int):
            continue  # the file has no such part: a model's kind, a single entry without its list
        elif isinstance(part, str) and (part in _SIMPLE or re.match(r"[\w-]+[\[(]", part)):
            parts.append((part, True))
            continue
        parts.append((part, False))
    return tuple(parts)


def _merged(errors: Sequence[_Error]) -> list[Mistake]:
    """One mistake for each place with alternatives, and each other error by itself, in order."""
    found: list[Mistake] = []
    done: set[Place] = set()
    for error in errors:
        tag = error.first_tag
        if tag is None:
            found.append(_mistake(error))
            continue
        place = error.place[:tag]
        if place not in done:
            done.add(place)
            found += _of_alternatives(place, [one for one in errors if _is_at(one, place)])
    return found


def _is_at(error: _Error, place: Place) -> bool:
    return error.first_tag == len(place) and error.place[: len(place)] == place


def _of_alternatives(place: Place, errors: Sequence[_Error]) -> list[Mistake]:
    """What is wrong with a value that could be several things."""
    at = len(place)
    by_tag: dict[str | int, list[_Error]] = {}
    for error in errors:
        inside = _Error(error.parts[:at] + error.parts[at + 1 :], error.detail)
        by_tag.setdefault(error.parts[at][0], []).append(inside)
    for alternative in by_tag.values():
        if any(one.parts[at:] or one.detail["type"] not in _OTHER_KIND for one in alternative):
            return _merged(alternative)  # it is meant to be this one
    expected = list(dict.fromkeys(_alternative(str(tag)) for tag in by_tag))
    words = " or ".join([", ".join(expected[:-1]), expected[-1]] if expected[1:] else expected)
    value = next(iter(by_tag.values()))[0].detail.get("input")
    return [Mistake(place, f"expected {words}, got {_shown(value)}")]


def _alternative(tag: str) -> str:
    """An alternative of pydantic's in words: `list[constrained-int]` is a list of whole numbers."""
    if tag in _SIMPLE:
        return _SIMPLE[tag]
    kind, _, inside = tag.partition("[")
    if kind == "literal":
        return " or ".join(f"`{word}`" for word in re.findall(r"'([^']*)'", inside))
    if kind in ("list", "tuple", "set"):
        simple = inside.rstrip("]").split(",")[0].removeprefix("constrained-")
        return _LISTS.get(simple, "a list")
    return "keys with values"


def _mistake(error: _Error) -> Mistake:
    place, detail = error.place, error.detail
    kind, value = detail["type"], detail.get("input")
    if place[-1:] == ("[key]",):
        return Mistake(place[:-2], f"the name {value!r} is no text: put it in quotes")
    if kind == "extra_forbidden":
        known = known_keys(place[:-1])
        other = _OTHERS_CALL_IT.get(str(place[-1]).lower().replace("-", "_"))
        close = [other] if other in known else difflib.get_close_matches(str(place[-1]), known, n=1)
        message = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
        return Mistake(place, f"unknown key; {message}")
    if kind == "missing" and isinstance(place[-1], int):
        return Mistake(place[:-1], f"{len(value or ())} values are too few")
    message = _words(kind, detail)
    if "input" in detail and kind not in ("missing", "union_tag_not_found"):
        is_said = isinstance(value, str) and repr(value) in message
        if not is_said and (kind in _OTHER_KIND or not isinstance(value, dict | list)):
            message = f"{message}, got {_shown(value)}"
    return Mistake(place, message + _remedy(kind, value))


def _words(kind: str, detail: Mapping[str, Any]) -> str:
    about = detail.get("ctx", {})
    if kind in _LIMITS:
        return _LIMITS[kind].format(**about)
    if kind in _LENGTHS:
        return f"needs {_LENGTHS[kind].format(**about)} values, has {len(detail['input'])}"
    return _WORDS.get(kind, str(detail["msg"]).removeprefix("Value error, "))


def _remedy(kind: str, value: Any) -> str:
    """How to write what is meant, where that is known."""
    if kind == "string_type" and isinstance(value, int | float):
        return ": put it in quotes"
    if kind == "list_type" and isinstance(value, str | int | float):
        return f": write [{_plain(value)}]"
    if kind == "int_parsing" and (meant := _whole(str(value))) is not None:
        return f": write {meant}"
    return ""


def _whole(text: str) -> int | None:
    """The whole number that a text means to a person (`1e3`, `0o10`), which YAML takes for text."""
    try:
        value = Decimal(int(text, 8)) if text.lower().startswith("0o") else Decimal(text)
        known = abs(value) < 2**63 and value == value.to_integral_value()
    except (ValueError, ArithmeticError):
        return None
    return int(value) if known else None


def _plain(value: Any) -> str:
    """A value as YAML has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = _plain(value) if isinstance(value, bool) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
