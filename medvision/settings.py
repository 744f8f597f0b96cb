"""The base class of all settings, and what each setting means for the ids of results.

A result is found again by an id, a hash over the settings that decide its numbers. A setting counts
as it is unless its field carries a mark: `Since`, which keeps results that are older than the
setting, or `NotInIds`. Imports no torch.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, TypeAdapter, model_validator
from pydantic.fields import FieldInfo

Precision = Literal["fp32", "bf16", "fp16"]
Output = Literal["sigmoid", "softmax"]  # how logits become probabilities (`medvision.heads`)
Recipe = Literal["corrected", "official"]  # our defaults, or the official code's
Version = tuple[int, ...]
Mark = TypeVar("Mark", "Since", "NotInIds")
_ANY: TypeAdapter[Any] = TypeAdapter(Any)


class Settings(BaseModel):
    """Settings as values: unknown keys are errors, and a truth value is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_values(cls, values: Any) -> Any:
        """`True` counts as 1 in Python; whoever writes it does not mean that number."""
        for name, value in values.items() if isinstance(values, dict) else ():
            field = cls.model_fields.get(name)
            if field and not _takes_truth_values(field.annotation) and _holds_truth_value(value):
                raise ValueError(f"{name}: a truth value is no number: write the number")
        return values


@dataclass(frozen=True)
class Since:
    """Marks a setting that is younger than some results: no part of an id while it is `before`.

    Attributes:
        version: the release that brings the setting, such as "0.2".
        before: the value that means how things were without it. Not simply the default, which
            may change later and must change the ids then.
    """

    version: str
    before: Any

    @property
    def order(self) -> Version:
        """The version as numbers that can be compared."""
        return tuple(map(int, self.version.split(".")))


@dataclass(frozen=True)
class NotInIds:
    """Marks a setting that no id contains.

    Attributes:
        why: that it changes no number, or what is in the ids instead.
    """

    why: str


def counted(settings: Settings) -> dict[str, Any]:
    """What counts in an id of these settings and all settings inside them, as JSON values.

    Settings inside one that is itself marked with a version are counted as they are, unless they
    are younger still: they were there when it came, so no older result lacks them.
    """
    return _counted(settings, settings.model_dump(mode="json"), ())


def filled(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they were given, and where none was given, the defaults; so also inside of
    mappings.
    """
    found = dict(values)
    for name, default in defaults.items():
        given = found.get(name)
        if name not in found:
            found[name] = dict(default) if isinstance(default, Mapping) else default
        elif isinstance(given, Mapping) and isinstance(default, Mapping):
            found[name] = filled(given, default)
    return found


def mark(field: FieldInfo, kind: type[Mark]) -> Mark | None:
    """The mark of this kind that a field carries, None without one."""
    return next((found for found in field.metadata if isinstance(found, kind)), None)


@functools.cache
def _rules(kind: type[BaseModel]) -> Mapping[str, tuple[Version, Any]]:
    """Of every field that can count: its version, () for the first, and `before` as JSON value."""
    rules = {}
    for name, field in kind.model_fields.items():
        if not mark(field, NotInIds):
            since = mark(field, Since)
            rules[name] = (
                (since.order, _ANY.dump_python(since.before, mode="json")) if since else ((), None)
            )
    return rules


def _counted(settings: BaseModel, values: Mapping[str, Any], together: Version) -> dict[str, Any]:
    """`counted` of settings with these JSON values, inside a setting of the version `together`."""
    found = {}
    for name, (version, before) in _rules(type(settings)).items():
        if not (version > together and values[name] == before):
            inner = getattr(settings, name)
            found[name] = _inside(inner, values[name], max(version, together))
    return found


def _takes_truth_values(annotation: Any) -> bool:
    """Whether a bool may occur somewhere in a setting: not among numbers and words only. Settings
    inside it check their own.
    """
    kind, inner = get_origin(annotation), get_args(annotation)
    if kind is Literal:
        return False
    if kind is Annotated:
        return _takes_truth_values(inner[0])
    if inner:
        return any(_takes_truth_values(one) for one in inner if one is not Ellipsis)
    return annotation not in (int, float, str, type(None))


def _holds_truth_value(value: Any) -> bool:
    """Whether a value is a bool, or a list or mapping that holds one."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(map(_holds_truth_value, value))
    return isinstance(value, bool)


def _inside(setting: Any, value: Any, together: Version) -> Any:
    if isinstance(setting, BaseModel):
        return _counted(setting, value, together)
    if isinstance(setting, dict):
        pairs = zip(setting.values(), value.items(), strict=True)
        return {key: _inside(one, inner, together) for one, (key, inner) in pairs}
    if isinstance(setting, list | tuple):
        return [_inside(*pair, together) for pair in zip(setting, value, strict=True)]
    return value
