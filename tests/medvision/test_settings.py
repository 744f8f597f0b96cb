"""Which settings count in an id: marks at any depth, and what is younger than what it stands in."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import Field

from medvision.settings import NotInIds, Settings, Since, counted


class Part(Settings):
    first: int = 1
    together: Annotated[int, Since("0.9", before=1)] = 1
    younger: Annotated[int, Since("0.10", before=1)] = 1
    path: Annotated[str, NotInIds("it changes no number")] = "here"


class Whole(Settings):
    part: Part = Part()
    late: Annotated[Part | None, Since("0.9", before=None)] = None
    sizes: Annotated[tuple[int, int], Since("0.2", before=(3, 4))] = (3, 4)
    named: dict[str, Part] = Field(default={})
    listed: list[Part] = Field(default=[])


OLD: dict[str, Any] = {"part": {"first": 1}, "named": {}, "listed": []}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"part": {"first": 2}}, {"part": {"first": 2}}),
        ({"part": {"path": "there", "younger": 2}}, {"part": {"first": 1, "younger": 2}}),
        ({"sizes": [3, 4]}, {}),
        ({"sizes": [3, 5]}, {"sizes": [3, 5]}),
        ({"named": {"a": {"together": 2}}}, {"named": {"a": {"first": 1, "together": 2}}}),
        ({"listed": [{}, {"path": "there"}]}, {"listed": [{"first": 1}, {"first": 1}]}),
        # What came together with `late` always counts in it; what is younger only once it is set.
        ({"late": {}}, {"late": {"first": 1, "together": 1}}),
        ({"late": {"younger": 3}}, {"late": {"first": 1, "together": 1, "younger": 3}}),
    ],
)
def test_a_setting_counts_as_its_mark_says(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert counted(Whole.model_validate(given)) == OLD | expected


def test_a_default_that_changes_later_changes_the_ids() -> None:
    class Changed(Whole):
        sizes: Annotated[tuple[int, int], Since("0.2", before=(3, 4))] = (5, 5)

    assert counted(Changed()) == OLD | {"sizes": [5, 5]}
    assert counted(Changed(sizes=(3, 4))) == OLD
