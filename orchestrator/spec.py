"""The YAML that a researcher writes, as pydantic models: unknown keys are errors and every default is visible.

`ablations/schema.json` is the JSON Schema of `Spec`, so that editors complete the YAML. Reading a file, with line
numbers and `--set`, is `orchestrator.spec_file`. Imports no torch and no Ray.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
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
from medvision.recipe import (
    Channel,
    Intensity,
    LabelGroups,
    Modality,
    Preparation,
    Protocol,
    Scoring,
    Size,
    Spacing,
    Training,
    Window,
)
from orchestrator.packing import Shape
from orchestrator.search_spec import SearchSpec, check_space

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _place(value: str) -> str:
    """Refuse what no file system takes, before anything is opened."""
    if not value.isprintable() or len(value.encode()) > 1000 or any(len(part) > 200 for part in value.split("/")):
        raise ValueError("no path or address: a character that cannot be printed, or too long")
    if os.path.expanduser(value).startswith("~"):
        raise ValueError(f"this machine has no such home folder: {value.split('/')[0]}")
    return value


Place = Annotated[str, AfterValidator(_place)]


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
    name: str = Field(pattern=NAME, max_length=200, description="the task's folder under data.root")
    channel: Channel = Field(default=0, description="which channel of a 4D image is the input; all: every channel")
    label_groups: LabelGroups | None = Field(default=None, description="of this task, instead of data.label_groups")
    modality: list[Modality] | None = Field(
        default=None,
        min_length=1,
        description="of each channel, the last one for all that follow; by default as dataset.json says. CT is clipped to "
        "ct_window, everything else to percentiles (protocol: corrected)",
    )
    ct_window: Window | None = Field(default=None, description="of this task, instead of data.ct_window")
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

    root: Place | None = Field(
        default=None,
        description="folder of MSD tasks; `embedded` is the quickstart's; by default the variable MEDVISION_DATA",
    )
    protocol: Protocol = Field(
        default="paper",
        description="paper: whole volume resized to image_size, then scaled as `intensity` says; corrected: turned to RAS, "
        "shown in its true proportions, clipped to ct_window (CT) or to the 0.5th and 99.5th percentile, then scaled",
    )
    intensity: Intensity = Field(
        default="min-max", description="min-max: scaled to [0, 1], as the paper; z-score: mean 0, standard deviation 1"
    )
    ct_window: Window = Field(default=(-1000.0, 1000.0), description="HU that a CT is clipped to (protocol: corrected)")
    spacing: Spacing | None = Field(
        default=None,
        description="mm per voxel of the network's grid along right, anterior, superior, larger by one factor where a case "
        "would not fit; by default the smallest cubes with which a case fits (protocol: corrected)",
    )
    crop: bool = Field(
        default=False, description="show only the box around what is no air in the image (protocol: corrected)"
    )
    image_size: Size = (128, 128, 128)
    patch_size: Size = (8, 8, 8)
    label_groups: LabelGroups | Literal["each"] = Field(
        default={"foreground": "all"},
        description="output channels: a name and its labels; all = every label above 0, as in the paper; `each` in place of "
        "names: every label that the task's dataset.json declares, one group each",
    )
    on_bad_case: Literal["stop", "exclude"] = Field(
        default="stop",
        description="a case that is broken (`python -m medvision.data check`): stop before any training, or leave it out for "
        "all models and say so in the report",
    )

    @model_validator(mode="after")
    def _whole_patches(self) -> DataSpec:
        if any(size % patch for size, patch in zip(self.image_size, self.patch_size, strict=True)):
            raise ValueError(
                f"image_size {list(self.image_size)} must be a multiple of patch_size {list(self.patch_size)}"
            )
        return self

    @model_validator(mode="after")
    def _used(self) -> DataSpec:
        defaults = {name: type(self).model_fields[name].default for name in ("ct_window", "spacing", "crop")}
        unused = [name for name, value in defaults.items() if getattr(self, name) != value]
        if unused and self.protocol == "paper":
            raise ValueError(f"{', '.join(unused)}: no part of protocol `paper`; set protocol: corrected")
        return self


class SplitsSpec(_Model):
    """Which cases train, validate and test: decided once per task, the same for every model."""

    scheme: Literal["kfold", "holdout", "fixed"] = Field(
        default="kfold",
        description="kfold: every case is tested once; holdout: one test set; fixed: the task's imagesTs/labelsTs",
    )
    seed: int = Field(default=0, description="decides the folds and the one order that fractions are prefixes of")
    test_fraction: float = Field(default=0.1, gt=0, lt=1, description="share of the test cases, for holdout")
    group_file: Place | None = Field(
        default=None,
        description="CSV with the columns case and patient, a path or a file in each task's folder; cases of one patient stay "
        "together",
    )
    group_pattern: str | None = Field(
        default=None,
        description="regular expression with one group that gives the patient of a case id; cases of one patient stay "
        "together",
    )

    @field_validator("group_pattern")
    @classmethod
    def _one_group(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                groups = re.compile(value).groups
            except re.error as error:
                raise ValueError(f"{value!r} is not a regular expression: {error}") from error
            if groups != 1:
                raise ValueError(f"{value!r} must have exactly one (group), it has {groups}")
        return value

    @model_validator(mode="after")
    def _one_grouping(self) -> SplitsSpec:
        if self.group_file is not None and self.group_pattern is not None:
            raise ValueError("give group_file or group_pattern, not both")
        return self


class EvaluationSpec(Scoring):
    """What is scored for every test case, on the case's own grid in mm, and what the tables show of it."""

    metrics: list[Metric] = Field(
        default=["dice", "jaccard", "hd95", "specificity", "sensitivity", "nsd"], min_length=1
    )
    both_empty: Literal["exclude", "perfect"] = Field(
        default="exclude",
        description="a case without structure and without prediction: left out, or a perfect score",
    )


class ShapeSpec(_Model):
    """Other workers for some trials; what is not given stays as in `resources`."""

    models: list[str] | None = Field(default=None, min_length=1, description="names of models; by default all")
    tasks: list[str] | None = Field(default=None, min_length=1, description="names of tasks; by default all")
    workers: PositiveInt | None = None
    cpus_per_worker: PositiveInt | None = None
    gpus_per_worker: float | None = Field(default=None, ge=0)


class ResourcesSpec(_Model):
    """What one trial gets. Never part of a trial's identity."""

    workers: PositiveInt = Field(default=1, description="processes of one trial; more than one trains with DDP")
    cpus_per_worker: PositiveInt = 1
    gpus_per_worker: float = Field(default=0.0, ge=0, description="a fraction shares one GPU between trials")
    shapes: list[ShapeSpec] = Field(
        default=[], description="other workers for some models or tasks; of several that fit, the last decides"
    )
    max_lanes: PositiveInt | None = Field(
        default=None,
        description="trials at once, also of a cluster that has yet to grow; by default what the cluster holds",
    )
    lane_trials: PositiveInt = Field(default=500, description="trials after which a lane's processes are renewed")
    max_attempts: PositiveInt = Field(default=3, description="failed attempts until a trial is quarantined")
    hang_seconds: PositiveFloat = Field(
        default=1800, description="a trial that finishes no batch and no case for so long is ended and tried again"
    )

    def shape(self, model: str, task: str) -> Shape:
        """The workers of one trial."""
        shape = Shape(self.workers, self.cpus_per_worker, self.gpus_per_worker)
        for other in self.shapes:
            if model in (other.models or [model]) and task in (other.tasks or [task]):
                values = other.model_dump(exclude={"models", "tasks"}, exclude_none=True)
                shape = replace(shape, **values)
        return shape


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
    uri: Place | None = None
    log_model: bool = Field(default=False, description="also log every trial's weights, as an MLflow model")


class Spec(_Model):
    """One ablation study: model x task x fraction x fold x seed."""

    name: str = Field(pattern=NAME, max_length=200, description="the study's folder under storage")
    models: list[Model] = Field(min_length=1)
    tasks: list[Task] = Field(min_length=1)
    fractions: list[Fraction] = Field(default=[1.0], min_length=1)
    folds: int = Field(default=5, ge=2, le=1000, description="folds of the cross-validation (splits.scheme: kfold)")
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
    search: SearchSpec | None = Field(
        default=None, description="Optuna chooses these settings for every model before the grid; see docs/search.md"
    )
    storage: Place = Field(default="runs", description="folder or fsspec URI that holds the studies")
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

    @field_validator("resources")
    @classmethod
    def _known_shapes(cls, resources: ResourcesSpec, info: ValidationInfo) -> ResourcesSpec:
        known = {
            "models": [model_name(model) for model in info.data.get("models", [])],
            "tasks": [task.name for task in info.data.get("tasks", [])],
        }
        for kind, names in known.items():
            for name in (name for shape in resources.shapes for name in getattr(shape, kind) or ()):
                if names and name not in names:
                    raise ValueError(f"shapes: {name!r} is none of this study's {kind}: {', '.join(names)}")
        return resources

    @field_validator("search")
    @classmethod
    def _searchable(cls, search: SearchSpec | None, info: ValidationInfo) -> SearchSpec | None:
        if search is not None and {"models", "training"} <= info.data.keys():  # or they have errors of their own
            check_space(search, info.data["training"], {model_name(model): model for model in info.data["models"]})
        return search

    def tolerances(self, task: TaskSpec) -> list[float]:
        """NSD tolerances in mm of one task; the first is the one in the tables."""
        if task.tolerances:
            return list(task.tolerances)
        if self.evaluation.tolerances == "msd":
            return [tolerance_mm(task.name)]
        return list(self.evaluation.tolerances)

    @model_validator(mode="after")  # of the whole, or the message would repeat the value
    def _no_password(self) -> Spec:
        if re.search(r"//[^/]*:[^/]*@", self.storage):
            raise ValueError(
                "storage holds a password, which logs and results would show; give it to fsspec by environment variables or "
                "its configuration file"
            )
        return self

    def groups(self, task: TaskSpec) -> LabelGroups:
        """Label groups of one task; empty where they are `each` and the task was not read yet (`orchestrator.inputs`)."""
        if task.label_groups is not None:
            return task.label_groups
        return {} if self.data.label_groups == "each" else self.data.label_groups

    def preparation(self, task: TaskSpec) -> Preparation:
        """What a network gets to see of the cases of one task.

        Raises:
            pydantic.ValidationError: a task that was not read yet has no label groups or no modality.
        """
        given = self.data.model_dump(include={"image_size", "intensity", "protocol", "spacing", "crop"})
        modality = tuple(task.modality or ("MRI",))
        if task.channel != "all":
            modality = modality[task.channel : task.channel + 1] or modality[-1:]
        return Preparation(
            groups=self.groups(task),
            channel=task.channel,
            modality=modality,
            ct_window=task.ct_window or self.data.ct_window,
            **given,
        )

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
