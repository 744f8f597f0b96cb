"""The parts of a spec that say what is scored, and what is tested against what."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveFloat, ValidationInfo, field_validator

from medvision.metrics.definitions import METRICS
from medvision.metrics.settings import Scoring
from medvision.settings import NotInIds, Settings


def _metric(value: str) -> str:
    if value not in METRICS:
        raise ValueError(f"unknown metric {value!r}; known metrics: {', '.join(METRICS)}")
    return value


def once(names: list[Any], what: str) -> list[Any]:
    """Refuse a list that names something twice.

    Raises:
        ValueError: with `what` the names are, and the names.
    """
    if twice := [str(name) for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{what} named twice: {', '.join(sorted(twice))}; name each once")
    return names


Metric = Annotated[
    str, AfterValidator(_metric), Field(json_schema_extra={"enum": list(METRICS)})
]  # the definitions are evaluation's


class EvaluationSpec(Scoring):
    """What is scored for every test case, on the case's own grid in mm, and what the tables show of
    it.
    """

    metrics: Annotated[list[Metric], NotInIds("it changes no score")] = Field(
        default=["dice", "jaccard", "hd95", "specificity", "sensitivity", "nsd"],
        min_length=1,
        description="the tables' metrics, the paper's six by default; every metric is stored, "
        "whatever stands here",
    )
    both_empty: Annotated[Literal["exclude", "perfect"], NotInIds("it changes no score")] = Field(
        default="exclude",
        description="a case without structure in the truth: left out whatever is predicted, or "
        "scored, as perfect where nothing is; specificity, accuracy and false-positive volume "
        "always count it",
    )

    @field_validator("metrics")
    @classmethod
    def _each_once(cls, names: list[str]) -> list[str]:
        """They are what a comparison tests by default."""
        return once(names, "metrics")


class ComparisonSpec(Settings):
    """Paired tests of candidates against a baseline."""

    baseline: str = Field(description="name of a model")
    candidates: list[str] = Field(
        min_length=1, description="names of models, each tested against the baseline"
    )
    metrics: list[Metric] | None = Field(
        default=None, min_length=1, description="by default all of evaluation.metrics"
    )
    family: list[Literal["candidate", "task", "fraction", "metric"]] = Field(
        default=["candidate", "fraction"],
        description="comparisons that agree in these columns are one family, corrected together by "
        "Holm and BH",
    )
    equivalence: dict[Metric, PositiveFloat] = Field(
        default={},
        description="per metric, the largest difference without practical importance, such as "
        "dice: 0.01; the table then says where the 95 % interval of the difference lies against it",
    )

    @field_validator("candidates", "metrics", "family")
    @classmethod
    def _each_once(cls, names: list[str] | None, info: ValidationInfo) -> list[str] | None:
        """A test that stands twice in its family would double Holm's p of the others."""
        return names if names is None else once(names, str(info.field_name))
