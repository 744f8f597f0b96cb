"""The YAML that a researcher writes, as pydantic models: unknown keys are errors and every default is visible.

`ablations/schema.json` is the JSON Schema of `Spec`, so that editors complete the YAML. Reading a file, with line
numbers and `--set`, is `orchestrator.spec_file`. Imports no torch and no Ray.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from medvision.data.tasks import tolerance_mm
from medvision.metrics.definitions import METRICS
from medvision.models.labels import MODEL_LABELS, canonical_label
from medvision.models.settings import ModelSettings
from medvision.recipe import Intensity, Scoring, Training

Size = tuple[PositiveInt, PositiveInt, PositiveInt]
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _expand_model(value: Any) -> Any:
    if isinstance(value, str):
        return {"label": canonical_label(value)}
    if isinstance(value, dict) and isinstance(value.get("label"), str):
        return value | {"label": canonical_label(value["label"])}
    return value


def _expand_task(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _fraction(value: Any) -> Any:
    return 1.0 if value == "full" else value


def _metric(value: str) -> str:
    if value not in METRICS:
        raise ValueError(f"unknown metric {value!r}; known metrics: {', '.join(METRICS)}")
    return value


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class TaskSpec(_Model):
    name: str = Field(pattern=NAME, description="the task's folder under data.root")
    channel: int = Field(default=0, ge=0, description="which channel of a 4D image is the input")
    tolerances: list[PositiveFloat] | None = Field(
        default=None,
        min_length=1,
        description="NSD tolerances in mm of this task, instead of evaluation.tolerances",
    )


Model = Annotated[
    ModelSettings,
    BeforeValidator(_expand_model, json_schema_input_type=Literal[MODEL_LABELS] | ModelSettings),
]
Task = Annotated[TaskSpec, BeforeValidator(_expand_task, json_schema_input_type=str | TaskSpec)]
Fraction = Annotated[
    float,
    BeforeValidator(_fraction, json_schema_input_type=float | Literal["full"]),
    Field(gt=0, le=1),
]
Metric = Annotated[
    str, AfterValidator(_metric), Field(json_schema_extra={"enum": list(METRICS)})
]  # the definitions are evaluation's


class DataSpec(_Model):
    """Where the images are and what a network gets to see of them."""

    root: str | None = Field(
        default=None,
        description="folder of MSD tasks; `embedded` is the quickstart's; by default the variable MEDVISION_DATA",
    )
    protocol: Literal["paper"] = Field(
        default="paper",
        description="paper: whole volume resized to image_size, then scaled as `intensity` says",
    )
    intensity: Intensity = Field(
        default="min-max", description="min-max: scaled to [0, 1], as the paper; z-score: mean 0, standard deviation 1"
    )
    image_size: Size = (128, 128, 128)
    patch_size: Size = (8, 8, 8)
    label_groups: dict[str, list[PositiveInt] | Literal["all"]] = Field(
        default={"foreground": "all"},
        min_length=1,
        description="output channels: a name and its labels; all = every label above 0, as in the paper",
    )

    @model_validator(mode="after")
    def _whole_patches(self) -> DataSpec:
        if any(size % patch for size, patch in zip(self.image_size, self.patch_size, strict=True)):
            raise ValueError(
                f"image_size {list(self.image_size)} must be a multiple of patch_size {list(self.patch_size)}"
            )
        return self


class SplitsSpec(_Model):
    """Which cases train, validate and test: decided once per task, the same for every model."""

    scheme: Literal["kfold", "holdout", "fixed"] = Field(
        default="kfold",
        description="kfold: every case is tested once; holdout: one test set; fixed: the task's imagesTs/labelsTs",
    )
    seed: int = Field(default=0, description="decides the folds and the one order that fractions are prefixes of")
    test_fraction: float = Field(default=0.1, gt=0, lt=1, description="share of the test cases, for holdout")
    group_pattern: str | None = Field(
        default=None,
        description="regular expression with one group that gives the patient of a case id; cases of one patient stay "
        "together",
    )

    @field_validator("group_pattern")
    @classmethod
    def _one_group(cls, value: str | None) -> str | None:
        import re

        if value is not None:
            try:
                groups = re.compile(value).groups
            except re.error as error:
                raise ValueError(f"{value!r} is not a regular expression: {error}") from error
            if groups != 1:
                raise ValueError(f"{value!r} must have exactly one (group), it has {groups}")
        return value


class EvaluationSpec(Scoring):
    """What is scored for every test case, on the case's own grid in mm, and what the tables show of it."""

    metrics: list[Metric] = Field(
        default=["dice", "jaccard", "hd95", "specificity", "sensitivity", "nsd"], min_length=1
    )
    both_empty: Literal["exclude", "perfect"] = Field(
        default="exclude",
        description="a case without structure and without prediction: left out, or a perfect score",
    )


class ResourcesSpec(_Model):
    """What one trial gets. Never part of a trial's identity."""

    workers: PositiveInt = Field(default=1, description="processes of one trial; more than one trains with DDP")
    cpus_per_worker: PositiveInt = 1
    gpus_per_worker: float = Field(default=0.0, ge=0, description="a fraction shares one GPU between trials")
    max_lanes: PositiveInt | None = Field(
        default=None, description="trials at once; by default what the cluster holds now"
    )
    max_attempts: PositiveInt = Field(default=3, description="failed attempts until a trial is quarantined")


class ComparisonSpec(_Model):
    """Paired tests of candidates against a baseline."""

    baseline: str
    candidates: list[str] = Field(min_length=1)
    metrics: list[Metric] | None = Field(default=None, min_length=1, description="by default all of evaluation.metrics")
    family: list[Literal["candidate", "task", "fraction", "metric", "group"]] = Field(
        default=["candidate", "fraction"],
        description="comparisons that agree in these columns are one family, corrected together by Holm and BH",
    )


class TrackingSpec(_Model):
    """MLflow, a view of the results. `uri: null` is MLFLOW_TRACKING_URI, or SQLite beside the studies."""

    enabled: bool = True
    uri: str | None = None


class Spec(_Model):
    """One ablation study: model x task x fraction x fold x seed."""

    name: str = Field(pattern=NAME, description="the study's folder under storage")
    models: list[Model] = Field(min_length=1)
    tasks: list[Task] = Field(min_length=1)
    fractions: list[Fraction] = Field(default=[1.0], min_length=1)
    folds: int = Field(default=5, ge=2, description="folds of the cross-validation (splits.scheme: kfold)")
    seeds: list[int] = Field(default=[0], min_length=1)
    data: DataSpec = DataSpec()
    splits: SplitsSpec = SplitsSpec()
    training: Training = Training()
    evaluation: EvaluationSpec = EvaluationSpec()
    resources: ResourcesSpec = ResourcesSpec()
    comparisons: Annotated[
        list[ComparisonSpec],
        BeforeValidator(_listed, json_schema_input_type=ComparisonSpec | list[ComparisonSpec]),
    ] = Field(default=[], description="by default every other model against the first")
    search: None = Field(default=None, description="reserved for the search of hyperparameters")
    storage: str = Field(default="runs", description="folder or fsspec URI that holds the studies")
    tracking: TrackingSpec = TrackingSpec()

    @field_validator("models", mode="before")
    @classmethod
    def _matched_by_name(cls, models: Any) -> Any:
        """`params: match NAME` becomes the settings of the study's model of that name."""
        if not isinstance(models, list):
            return models
        known = {str(model.get("name") or model.get("label")): model for model in models if isinstance(model, dict)}
        for model in models:
            params = model.get("params") if isinstance(model, dict) else None
            if isinstance(params, str) and params.startswith("match ") and params[6:] not in known:
                raise ValueError(f"`params: {params}` names no model of this study with a language-model block")
        return [
            model | {"params": {"match": _expand_model(known[model["params"][6:]])}}
            if isinstance(model, dict) and str(model.get("params")).startswith("match ")
            else model
            for model in models
        ]

    @field_validator("models")
    @classmethod
    def _unique_models(cls, models: list[Any]) -> list[Any]:
        _unique([model_name(model) for model in models], "models with the same name; give each a `name`")
        return models

    @field_validator("tasks")
    @classmethod
    def _unique_tasks(cls, tasks: list[Any]) -> list[Any]:
        _unique([task.name for task in tasks], "tasks named twice")
        return tasks

    @field_validator("fractions", "seeds")
    @classmethod
    def _unique_values(cls, values: list[Any]) -> list[Any]:
        _unique([str(value) for value in values], "values given twice")
        return values

    @field_validator("comparisons")
    @classmethod
    def _known_models(cls, comparisons: list[ComparisonSpec], info: ValidationInfo) -> list[ComparisonSpec]:
        if "models" not in info.data:
            return comparisons  # the models have an error of their own
        names = [model_name(model) for model in info.data["models"]]
        for comparison in comparisons:
            for name in (comparison.baseline, *comparison.candidates):
                if name not in names:
                    raise ValueError(f"{name!r} is no model of this study; its models are {', '.join(names)}")
            if comparison.baseline in comparison.candidates:
                raise ValueError(f"{comparison.baseline!r} is baseline and candidate at once")
        return comparisons

    def tolerances(self, task: TaskSpec) -> list[float]:
        """NSD tolerances in mm of one task; the first is the one in the tables."""
        if task.tolerances:
            return list(task.tolerances)
        if self.evaluation.tolerances == "msd":
            return [tolerance_mm(task.name)]
        return list(self.evaluation.tolerances)

    def all_comparisons(self) -> list[ComparisonSpec]:
        """The declared comparisons, or every other model against the first."""
        names = [model_name(model) for model in self.models]
        if self.comparisons or len(names) < 2:
            return self.comparisons
        return [ComparisonSpec(baseline=names[0], candidates=names[1:])]


def model_name(model: Any) -> str:
    """The name that tables show."""
    return str(model.name or model.label)


def _unique(names: list[str], problem: str) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{problem}: {', '.join(twice)}")
