"""The YAML that a researcher writes, as pydantic models: unknown keys are errors and every default
is visible.

`ablations/schema.json` is the JSON Schema of `Spec`, so that editors complete the YAML. Reading a
file, with line numbers and `--set`, is `orchestrator.spec.yaml_file`. Imports no torch and no Ray.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from medvision.data.settings import CT_WINDOW, LabelGroups, Preparation
from medvision.data.tasks import tolerance_mm
from medvision.settings import NotInIds, Recipe, Settings
from medvision.training.settings import Training
from orchestrator.spec.data import NAME, DataSpec, Fraction, Place, SplitsSpec, Task, TaskSpec
from orchestrator.spec.evaluation import (
    ComparisonSpec,
    EvaluationSpec,
    check_comparisons,
    check_inference,
    once,
)
from orchestrator.spec.limits import LimitsSpec
from orchestrator.spec.models import Model, expanded, spelled
from orchestrator.spec.other_tools import NnUNetV2Settings, OtherTool
from orchestrator.spec.recipe import check_output, in_recipe
from orchestrator.spec.resources import ResourcesSpec
from orchestrator.spec.search import SearchSpec, check_overrides, check_space
from orchestrator.spec.subgroups import check_subgroups
from orchestrator.spec.tracking import TrackingSpec
from record.names import FolderName


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class Spec(Settings):
    """One ablation study: model x task x fraction x fold x seed."""

    name: Annotated[FolderName, NotInIds("what people call the study")] = Field(
        pattern=NAME, max_length=200, description="the study's folder under storage"
    )
    recipe: Annotated[
        Recipe | Literal["strong"], NotInIds("counted by the settings that it stands for")
    ] = Field(
        default="corrected",
        description="official: what is not given is as in the official code, defects of its "
        "networks and training included (docs/claims.md); strong: as nnU-Net trains, on patches; "
        "corrected: our defaults",
    )
    models: list[Model] = Field(
        min_length=1,
        description="a label, or a label with settings; `name` distinguishes two of one label",
    )
    tasks: list[Task] = Field(
        min_length=1, description="names of folders under data.root, or such a name with settings"
    )
    fractions: Annotated[list[Fraction], NotInIds("counted by the cases of each role")] = Field(
        default=[1.0],
        min_length=1,
        description="shares of each fold's training cases, nested; `full` is 1",
    )
    folds: Annotated[int, NotInIds("counted by the cases of each role")] = Field(
        default=5, ge=2, le=1000, description="folds of the cross-validation (splits.scheme: kfold)"
    )
    seeds: list[int] = Field(
        default=[0],
        min_length=1,
        description="of initialisation, batches, dropout and augmentation, drawn anew for every "
        "task, fold and training set; never of the split",
    )
    data: DataSpec = DataSpec()
    splits: Annotated[SplitsSpec, NotInIds("counted by the cases of each role")] = SplitsSpec()
    training: Training = Training()
    evaluation: EvaluationSpec = EvaluationSpec()
    resources: Annotated[
        ResourcesSpec, NotInIds("it changes no number; each attempt records it")
    ] = ResourcesSpec()
    comparisons: Annotated[
        list[ComparisonSpec],
        BeforeValidator(_listed, json_schema_input_type=ComparisonSpec | list[ComparisonSpec]),
        NotInIds("it changes no result, only what is made of results"),
    ] = Field(default=[], description="by default every other model against the first")
    search: Annotated[SearchSpec | None, NotInIds("counted by the settings that it chose")] = Field(
        default=None,
        description="Optuna chooses these settings for every model before the grid; see "
        "docs/search.md",
    )
    storage: Annotated[Place, NotInIds("it changes no number")] = Field(
        default="runs", description="folder or fsspec URI that holds the studies"
    )
    tracking: Annotated[TrackingSpec, NotInIds("it changes no number")] = TrackingSpec()
    limits: Annotated[LimitsSpec, NotInIds("when a run stops, no number")] = LimitsSpec()
    notify: Annotated[Place | None, NotInIds("it changes no number")] = Field(
        default=None,
        description="a command, which gets JSON on its standard input, or a web address, which "
        "gets it by POST: that the study is finished, was stopped, or a trial quarantined",
    )

    @model_validator(mode="before")
    @classmethod
    def _in_recipe(cls, values: Any) -> Any:
        """Fill in what the recipe stands for."""
        return in_recipe(values)

    @field_validator("models", mode="before")
    @classmethod
    def _matched_by_name(cls, models: Any) -> Any:
        """`params: match NAME` becomes the settings of the study's model of that name."""
        if not isinstance(models, list):
            return models
        given = [model for model in models if isinstance(model, dict)]
        known = {str(model.get("name") or spelled(model.get("label"))): model for model in given}

        def resolved(model: Any) -> Any:
            params = model.get("params") if isinstance(model, dict) else None
            if not isinstance(params, str) or not params.startswith("match "):
                return model
            target = known.get(params[6:]) or known.get(spelled(params[6:]))
            if target is None:
                raise ValueError(
                    f"`params: {params}` names no model of this study with a language-model block"
                )
            return model | {"params": {"match": expanded(target)}}

        return [resolved(model) for model in models]

    @field_validator("models")
    @classmethod
    def _unique_models(cls, models: list[Any]) -> list[Any]:
        _unique(
            [model_name(model) for model in models], "models with the same name; give each a `name`"
        )
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
    def _known_models(
        cls, comparisons: list[ComparisonSpec], info: ValidationInfo
    ) -> list[ComparisonSpec]:
        if "models" not in info.data:
            return comparisons  # the models have an error of their own
        names = [model_name(model) for model in info.data["models"]]
        for comparison in comparisons:
            for name in (comparison.baseline, *comparison.candidates):
                if name not in names:
                    raise ValueError(
                        f"{name!r} is no model of this study; its models are {', '.join(names)}"
                    )
            if comparison.baseline in comparison.candidates:
                raise ValueError(f"{comparison.baseline!r} is baseline and candidate at once")
        evaluation = info.data.get("evaluation") or EvaluationSpec()
        check_comparisons(comparisons, info.data.get("evaluation"))
        tests = [
            f"{candidate} against {comparison.baseline} in {metric}"
            for comparison in comparisons
            for candidate in comparison.candidates
            for metric in comparison.metrics or evaluation.metrics
        ]
        once(tests, "comparisons")
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
                    raise ValueError(
                        f"shapes: {name!r} is none of this study's {kind}: {', '.join(names)}"
                    )
        return resources

    @field_validator("search")
    @classmethod
    def _searchable(cls, search: SearchSpec | None, info: ValidationInfo) -> SearchSpec | None:
        if (
            search is not None and {"models", "training"} <= info.data.keys()
        ):  # or they have errors of their own
            check_space(
                search,
                info.data["training"],
                {
                    model_name(model): model
                    for model in info.data["models"]
                    if not isinstance(model, OtherTool)
                },
            )
        return search

    def tolerances(self, task: TaskSpec) -> list[float]:
        """NSD tolerances in mm of one task; the first is the one in the tables."""
        if task.tolerances:
            return list(task.tolerances)
        if self.evaluation.tolerances == "msd":
            return [tolerance_mm(task.name)]
        return list(self.evaluation.tolerances)

    @model_validator(mode="after")  # of the whole, or the message would repeat the value
    def _whole(self) -> Spec:
        if re.search(r"//[^/@]*:[^@]*@", self.storage):
            raise ValueError(
                "storage holds a password, which logs and results would show; give it to fsspec by "
                "environment variables or its configuration file"
            )
        check_overrides(self)
        groups = {task.name: self.groups(task) for task in self.tasks}
        check_output(self.training.output, groups)
        check_inference(self.evaluation.inference, groups.values())
        tested = [(each, each.metrics or self.evaluation.metrics) for each in self.comparisons]
        parts = [(one, of) for each, of in tested for one in each.subgroups]
        check_subgroups(parts, groups.values())
        for model in self.models:
            if isinstance(model, NnUNetV2Settings):
                shapes = [self.resources.shape(model_name(model), task.name) for task in self.tasks]
                if any(shape.workers > 1 for shape in shapes):
                    raise ValueError(
                        f"resources: {model_name(model)} trains in one worker: give it "
                        f"shapes: [{{models: [{model_name(model)}], workers: 1}}]"
                    )
        return self

    def groups(self, task: TaskSpec) -> LabelGroups:
        """Label groups of one task; empty where they are `each` and the task was not read yet
        (`orchestrator.planning.inputs`).
        """
        chosen = self.data.label_groups if task.label_groups is None else task.label_groups
        return {} if chosen == "each" else chosen

    def preparation(self, task: TaskSpec) -> Preparation:
        """What a network sees of the cases of one task.

        Raises:
            pydantic.ValidationError: a task that was not read yet has no label groups or no
                modality.
        """
        unset = self.data.protocol == "patches" and self.data.ct_window == CT_WINDOW
        window = task.ct_window or (None if unset else self.data.ct_window)
        shared = Preparation.model_fields.keys() & DataSpec.model_fields.keys() - {"ct_window"}
        given = self.data.model_dump(include=set(shared))
        modality = tuple(task.modality or ("MRI",))
        if task.channel != "all":
            modality = modality[task.channel : task.channel + 1] or modality[-1:]
        return Preparation(
            groups=self.groups(task),
            channel=task.channel,
            modality=modality,
            ct_window=window,
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
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ValueError(f"{problem}: {', '.join(twice)}")
