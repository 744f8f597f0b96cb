"""What a study compares, as its plan holds it: pairs of models, and the parts of the test cases
that are tested by themselves, too.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from record.stored import Stored


class Subgroups(Stored):
    """A division of the test cases whose parts a comparison tests each by itself. `name`: of the
    plan's `Division`; `column` of the table `file`, or without it the volume of the label groups
    `groups` (all where it is None), divided at `borders_ml`, or into terciles; `metrics`: None for
    all of the comparison's.
    """

    name: str
    column: str | None = None
    file: str | None = None
    groups: list[str] | None = None
    borders_ml: list[float] = []
    metrics: list[str] | None = None


class Division(Stored):
    """How the cases of a study fall into parts. `parts`: their names, in order; `cases`: task ->
    case -> part; `borders_ml`: task -> where sizes are divided; `files`: task -> sha256 of the
    table that says it.
    """

    parts: list[str]
    cases: dict[str, dict[str, str]]
    borders_ml: dict[str, list[float]] = {}
    files: dict[str, str] = {}


class Comparison(Stored):
    """Paired tests of candidates against a baseline; `family`: the columns that share a correction;
    `equivalence`: per metric, the largest difference without practical importance; `variance`: what
    the methods' test takes for independent (`reports.statistics.method_difference`); `subgroups`
    are stored where there are some.
    """

    baseline: str
    candidates: list[str]
    metrics: list[str]
    family: list[str]
    equivalence: dict[str, float] = {}
    variance: Literal["independent", "nadeau-bengio"] = "independent"
    subgroups: list[Subgroups] = []

    @model_serializer(mode="wrap")
    def _without_empty(self, stored: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = stored(self)
        return {name: value for name, value in values.items() if name != "subgroups" or value}
