"""The parts of a spec that say what is scored, and what is tested against what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PositiveFloat,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from medvision.inference import Inference
from medvision.metrics.definitions import FURTHER, METRICS, USUAL, MetricInfo
from medvision.metrics.settings import OwnMetric, Scoring
from medvision.settings import NotInIds, Settings
from orchestrator.spec.subgroups import SubgroupSpec


def check_metrics(names: Iterable[str], own: Iterable[OwnMetric]) -> None:
    """Refuse metrics that are neither in the table nor among one's own.

    Raises:
        ValueError: with the first such name, and the known ones.
    """
    known = [*METRICS, *(metric.name for metric in own)]
    for name in names:
        if name not in known:
            raise ValueError(f"unknown metric {name!r}; known metrics: {', '.join(known)}")


def once(names: list[Any], what: str) -> list[Any]:
    """Refuse a list that names something twice.

    Raises:
        ValueError: with `what` the names are, and the names.
    """
    if twice := [str(name) for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{what} named twice: {', '.join(sorted(twice))}; name each once")
    return names


Metric = Annotated[  # of the table, or the name of one's own
    str, WithJsonSchema({"anyOf": [{"enum": list(METRICS)}, {"type": "string"}]})
]


class EvaluationSpec(Scoring):
    """What is scored for every test case, on the case's own grid in mm, and what the tables show of
    it.
    """

    metrics: Annotated[list[Metric], NotInIds("it changes no score")] = Field(
        default=["dice", "jaccard", "hd95", "specificity", "sensitivity", "nsd"],
        min_length=1,
        description="the tables' metrics, the paper's six by default; every metric is stored, "
        "whatever is given here",
    )
    both_empty: Annotated[Literal["exclude", "perfect"], NotInIds("it changes no score")] = Field(
        default="exclude",
        description="a case without structure in the truth: left out whatever is predicted, or "
        "scored, as perfect where nothing is; specificity, accuracy and false-positive volume "
        "always count it",
    )

    @property
    def infos(self) -> dict[str, MetricInfo]:
        """How every metric that is computed is read, one's own last."""
        further = {name: METRICS[name] for kind in self.further for name in FURTHER[kind]}
        return USUAL | further | {metric.name: metric.info for metric in self.own}

    @model_validator(mode="before")
    @classmethod
    def _with_those_shown(cls, values: Any) -> Any:
        """What the tables show is computed."""
        if not isinstance(values, dict) or not isinstance(values.get("metrics"), list):
            return values
        given = values.get("further", [])
        needed = [
            kind
            for kind, names in FURTHER.items()
            if isinstance(given, list)
            and kind not in given
            and {*names} & {*map(str, values["metrics"])}
        ]
        return {**values, "further": [*given, *needed]} if needed else values

    @field_validator("further")
    @classmethod
    def _further_once(cls, further: list[Any]) -> list[Any]:
        """In one order, so that it changes no id."""
        return [kind for kind in FURTHER if kind in once(further, "further")]

    @model_validator(mode="after")
    def _something_to_choose(self) -> EvaluationSpec:
        once(list(self.choose), "choose")
        for name in (name for name in self.choose if not getattr(self.inference, name)):
            raise ValueError(
                f"choose: {name}: evaluation.inference.{name} is not set, so that there is nothing "
                "to choose from: set it, or leave it out"
            )
        return self

    @field_validator("own")
    @classmethod
    def _own_once(cls, own: list[OwnMetric]) -> list[OwnMetric]:
        once([metric.name for metric in own], "own")
        return own

    @field_validator("metrics")
    @classmethod
    def _each_once(cls, names: list[str], info: ValidationInfo) -> list[str]:
        """They are what a comparison tests by default."""
        if "own" in info.data:  # or those have errors of their own
            check_metrics(names, info.data["own"])
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

    subgroups: list[SubgroupSpec] = Field(
        default=[],
        description="divisions of the test cases, by size or by a column of a table, whose parts "
        "are tested each by itself, too, in families of their own",
    )
    variance: Literal["independent", "nadeau-bengio"] = Field(
        default="independent",
        description="of the methods' test: independent takes the folds' training sets for "
        "independent ones; nadeau-bengio allows for the cases that they share, at the price of "
        "about half of the power (docs/statistics.md, section 8.4)",
    )

    @field_validator("candidates", "metrics", "family")
    @classmethod
    def _each_once(cls, names: list[str] | None, info: ValidationInfo) -> list[str] | None:
        """A test listed twice in its family would double Holm's p of the others."""
        return names if names is None else once(names, str(info.field_name))


def check_inference(inference: Inference, groups: Iterable[Iterable[str]]) -> None:
    """Refuse label groups that no task has.

    Args:
        groups: of each task, none of one that was not read yet.

    Raises:
        ValueError: with the first such name, and the known ones.
    """
    every = [list(of_task) for of_task in groups]
    known = sorted({name for of_task in every for name in of_task})
    for name in sorted(inference.named.difference(known)) if all(every) else ():
        raise ValueError(
            f"evaluation.inference: {name!r} is no label group of any task; they are "
            f"{', '.join(known)}"
        )


def check_comparisons(
    comparisons: Iterable[ComparisonSpec], evaluation: EvaluationSpec | None
) -> None:
    """Refuse comparisons in unknown metrics.

    Args:
        comparisons: of a study.
        evaluation: the study's; None where it has errors of its own.

    Raises:
        ValueError: as `check_metrics`.
    """
    if evaluation is None:
        return
    for one in comparisons:
        names = [*(one.metrics or ()), *one.equivalence]
        check_metrics(names, evaluation.own)
        for name in (name for name in names if name not in evaluation.infos):
            raise ValueError(
                f"{name!r} is computed on demand: name it in evaluation.metrics, or its kind in "
                "evaluation.further"
            )
