"""What planning says about a task's cases as a whole, from what is remembered of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from medvision.data.fingerprints import CaseIndex

_SHOWN = 3  # cases of a doubt that many have


def absent_groups(
    cases: Collection[CaseIndex], groups: Mapping[str, Sequence[int] | str]
) -> list[str]:
    """A line for each label group that no case has, and what the cases have instead.

    Args:
        groups: name to labels, or `all`.
    """
    values = sorted({value for case in cases for value in case.labels if value > 0})
    held = f"the labels of the {len(cases)} cases are {', '.join(map(str, values))}"
    if not values:
        return [f"nothing is labelled in any of its {len(cases)} cases"] if cases else []
    return [
        f"label group {name!r}: no case has label {' or '.join(map(str, labels))}; {held}"
        for name, labels in groups.items()
        if labels != "all" and not set(labels) & set(values)
    ]


def lone_groups(
    cases: Collection[CaseIndex], groups: Mapping[str, Sequence[int] | str]
) -> list[str]:
    """A line for each label group that one case alone has."""
    lines = []
    for name, labels in groups.items():
        wanted = set() if labels == "all" else set(labels)
        holders = [
            case.id
            for case in cases
            if any(value > 0 and (not wanted or value in wanted) for value in case.labels)
        ]
        if len(holders) == 1 < len(cases):
            lines.append(
                f"{holders[0]}: label group {name!r}: no other case has it, so where this one is "
                "tested, nothing of it is trained"
            )
    return lines


def doubts(cases: Collection[CaseIndex], folder: Path) -> list[str]:
    """The warnings of these cases, equal ones once: what is odd, in how many cases, the first of
    them by name.
    """
    places: dict[str, list[str]] = {}
    for case in cases:
        for text in dict.fromkeys(_without_file(warning) for warning in case.warnings):
            places.setdefault(text.replace(f"{folder}/", ""), []).append(case.id)
    lines = []
    for text, ids in places.items():
        rest = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
        lines.append(f"{', '.join(ids[:_SHOWN])}{rest}: {text}")
    return lines


def _without_file(warning: str) -> str:
    """A reason without the path that it begins with (`medvision.data.validate`)."""
    return warning.partition(": ")[2] or warning
