"""Parts of the test cases that a comparison tests each by itself, as values."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field, PositiveFloat, model_validator

from medvision.settings import Settings
from record.names import Name

SIZE = "size"


class SubgroupSpec(Settings):
    """A division of the test cases: by the volume of what is to be found, or by a column of a
    table. The tests of its parts are a family of their own (`family`), corrected together.
    """

    name: Name = Field(
        default=SIZE, description="in tables; by default the column, or `size`; each name once"
    )
    column: Name | None = Field(
        default=None,
        description="a column of `file`, such as scanner; by default the volume of the label "
        "groups in the truth divides the cases, and a case without any is in no part",
    )
    file: str | None = Field(
        default=None,
        max_length=1000,
        description="CSV with the columns case and `column`, a path or a file in each task's "
        "folder",
    )
    groups: list[Name] | None = Field(
        default=None, min_length=1, description="label groups whose volume counts; by default all"
    )
    borders_ml: list[PositiveFloat] = Field(
        default=[],
        description="volumes in ml that divide the cases, each the least of the next part; by "
        "default the terciles of each task's cases",
    )
    metrics: list[str] | None = Field(
        default=None, min_length=1, description="by default all of the comparison"
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        if isinstance(values, dict) and "name" not in values and values.get("column"):
            return {"name": values["column"], **values}
        return values

    @model_validator(mode="after")
    def _one_way(self) -> SubgroupSpec:
        if (self.column is None) != (self.file is None):
            raise ValueError("subgroups: column and file belong together: give both, or neither")
        if self.column is not None and (self.groups or self.borders_ml):
            raise ValueError("subgroups: groups and borders_ml divide by volume: leave out column")
        if any(low >= high for low, high in itertools.pairwise(self.borders_ml)):
            raise ValueError(f"subgroups: borders_ml must ascend, got {self.borders_ml}")
        return self


def check_subgroups(
    each: Iterable[tuple[SubgroupSpec, Iterable[str]]], groups: Iterable[Iterable[str]]
) -> None:
    """Refuse subgroups that cannot be told apart, or whose metrics or label groups there are not.

    Args:
        each: every declaration with the metrics that its comparison tests.
        groups: label groups of each task, none of one that was not read yet.

    Raises:
        ValueError: with the name and what would be right.
    """
    of_tasks = [list(of_task) for of_task in groups]
    known = {name for of_task in of_tasks for name in of_task}
    declared: dict[str, Mapping[str, Any]] = {}
    for one, metrics in each:
        values = one.model_dump(exclude={"metrics"})
        if declared.setdefault(one.name, values) != values:
            raise ValueError(
                f"subgroups: {one.name!r} is declared in two ways: give one another name"
            )
        if wrong := sorted(set(one.metrics or ()).difference(metrics)):
            raise ValueError(
                f"subgroups: {one.name!r}: {wrong[0]!r} is no metric of the comparison; they are "
                f"{', '.join(metrics)}"
            )
        if all(of_tasks) and (wrong := sorted(set(one.groups or ()).difference(known))):
            raise ValueError(
                f"subgroups: {one.name!r}: {wrong[0]!r} is no label group of any task; they are "
                f"{', '.join(sorted(known))}"
            )
