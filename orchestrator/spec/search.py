"""`search:` of a spec: which settings Optuna may choose before the grid, on which cases, with which
budget.

Imports no torch, no Ray and no Optuna; the search itself is `orchestrator.planning.search`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from medvision.settings import NotInIds, Settings, mark
from medvision.training.settings import Training

# Settings that no search may choose: the budget is the same for all, and a block is what the study
# compares.
_FIXED = {
    "training.epochs": "the budget is the same for every trial; see search.epochs and search.steps",
    "training.steps": "the budget is the same for every trial; see search.epochs and search.steps",
    **{
        f"training.{name}": outside.why
        for name, field in Training.model_fields.items()
        if (outside := mark(field, NotInIds))
    },
    "label": "models are compared, not chosen",
    "name": "models are compared, not chosen",
    "params": "it follows from another model",
    "llm": "blocks are compared, not chosen; name a model for each",
}
Choice = bool | int | float | str | None
S = TypeVar("S", bound=BaseModel)


class Range(Settings):
    """Values that one setting may take; exactly one of the four."""

    log: tuple[PositiveFloat, PositiveFloat] | None = Field(
        default=None, description="lowest and highest, log-uniform"
    )
    uniform: tuple[float, float] | None = Field(default=None, description="lowest and highest")
    integers: tuple[int, int] | None = Field(
        default=None, description="lowest and highest whole number, both included"
    )
    choices: list[Choice] | None = Field(
        default=None, min_length=2, description="the values themselves"
    )

    @model_validator(mode="after")
    def _one(self) -> Range:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give one of log, uniform, integers, choices; got {', '.join(given) or 'none'}"
            )
        values = self.ends
        if self.choices is None and not values[0] < values[1]:
            raise ValueError(f"the lowest value must be below the highest, got {values}")
        if len(set(map(str, values))) < len(values):
            raise ValueError(f"choices given twice: {values}")
        return self

    @property
    def ends(self) -> list[Any]:
        """Lowest and highest value, or every choice."""
        return list(
            next(
                value
                for value in (self.log, self.uniform, self.integers, self.choices)
                if value is not None
            )
        )


class SearchSpec(Settings):
    """A search per model and task (`cases: nested`: and fold), each with the same number of trials
    of the same length.
    """

    trials: PositiveInt = Field(default=20, description="per model and task, the same for all")
    space: dict[str, Range] = Field(
        min_length=1,
        description="dotted settings: of `training`, such as training.lr, or of the models, such "
        "as lora.rank, where every model has them",
    )
    cases: Annotated[
        Literal["reserved", "nested"], NotInIds("counted by the cases of each role")
    ] = Field(
        default="reserved",
        description="reserved: a share of each task's cases that is in no fold at all; nested: a "
        "search for every fold, on its training and validation cases",
    )
    reserved_fraction: Annotated[float, NotInIds("counted by the cases of each role")] = Field(
        default=0.15, gt=0, lt=1, description="share of the cases (or patients) reserved"
    )
    seed: int = Field(
        default=0, description="of the suggestions and of the trainings of the search"
    )
    parallel: PositiveInt = Field(
        default=4,
        description="trials of one search that run at once and learn nothing from each other; the "
        "suggestions depend on it, and not on the cluster",
    )
    prune: bool = Field(
        default=True,
        description="end trials whose best validation Dice is below the median of those before",
    )
    epochs: Annotated[
        PositiveInt | None, NotInIds("counted by the training settings of its trials")
    ] = Field(default=None, description="of one trial of the search; by default training's")
    steps: Annotated[
        PositiveInt | None, NotInIds("counted by the training settings of its trials")
    ] = Field(default=None, description="of one trial of the search; by default training's")

    @model_validator(mode="after")
    def _one_budget(self) -> SearchSpec:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give epochs or steps, not both")
        return self

    @property
    def budget(self) -> dict[str, Any]:
        """The settings that give a trial of the search its length."""
        given = self.epochs is not None or self.steps is not None
        return {"training.epochs": self.epochs, "training.steps": self.steps} if given else {}


def tuned(spec: S, model: Any, settings: Mapping[str, Any]) -> tuple[S, Any]:
    """Spec and model with the model's overrides and then dotted settings instead of their own;
    raises as `with_settings`.
    """
    every = {**model.overrides, **settings}
    if not every:
        return spec, model
    data = {key: value for key, value in every.items() if key.startswith("data.")}
    rest = {key: value for key, value in every.items() if key not in data}
    # of a Spec
    training, model = with_settings(spec.training, model, rest)  # type: ignore[attr-defined]
    update: dict[str, Any] = {"training": training}
    if data:
        values = {"data": spec.data.model_dump(mode="json")}  # type: ignore[attr-defined]
        for key, value in data.items():
            _put(values, key, value)
        update["data"] = type(spec.data).model_validate(values["data"])  # type: ignore[attr-defined]
    return spec.model_copy(update=update), model


# What all models of a study have in common, whatever their overrides, and why.
_COMMON = {
    "data.root": "the models of a study see the same cases",
    "data.on_bad_case": "the models of a study see the same cases",
    "data.label_groups": "the models of a study have the same outputs",
    "data.protocol": "the plan checks cases and modality by the study's; make a study of each",
    "data.crop": "the plan checks by the study's which cases can be used; make a study of each",
    "data.image_size": "figures and costs stand on one grid",
    "data.patch_size": "figures and costs stand on one grid",
    "training.batch_size": "a lack of memory is met by the study's",
}


def check_overrides(spec: Any) -> None:
    """The overrides of every model must be settings that a single model can have.

    Raises:
        ValueError: one is not; the message names model and setting.
    """
    windows = [task.name for task in spec.tasks if task.ct_window is not None]
    for model in spec.models:
        where = f"overrides of {model.name or model.label}"
        for key, value in model.overrides.items():
            if key.startswith("data.ct_window") and windows:
                raise ValueError(
                    f"{where}: {key} would change nothing on {', '.join(windows)}, whose own "
                    "ct_window comes first: write the window in one of the two places"
                )
            if key in ("training", "data"):
                names = value if isinstance(value, Mapping) and value else ["NAME"]
                dotted = ", ".join(f"{key}.{name}" for name in names)
                raise ValueError(f"{where}: {key}: write its settings dotted: {dotted}")
            if not key.startswith(("training.", "data.")):
                raise ValueError(f"{where}: {key} is neither of `training` nor of `data`")
            for name, why in _COMMON.items():
                if f"{key}.".startswith(f"{name}."):
                    raise ValueError(f"{where}: {key} cannot be one model's own: {why}")
        try:
            tuned(spec, model, {})
        except ValidationError as error:
            first = error.errors()[0]
            message = first["msg"].removeprefix("Value error, ")
            raise ValueError(f"{where}: {'.'.join(map(str, first['loc']))}: {message}") from error
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error


def with_settings(
    training: Training, model: Any, settings: Mapping[str, Any]
) -> tuple[Training, Any]:
    """Recipe and model with dotted settings instead of their own: `training.lr` of the recipe,
    `lora.rank` of the model.

    Raises:
        ValueError: no such setting, or a value that it cannot take (pydantic.ValidationError).
    """
    values = {"training": training.model_dump(mode="json"), "model": model.model_dump(mode="json")}
    for key, value in settings.items():
        _put(values if key.startswith("training.") else values["model"], key, value)
    return Training.model_validate(values["training"]), type(model).model_validate(values["model"])


def check_space(search: SearchSpec, training: Training, models: Mapping[str, Any]) -> None:
    """Every setting of the space must be there for every model, and take every choice and both ends
    of its range.

    Args:
        models: by name.

    Raises:
        ValueError: all problems at once.
    """
    problems: list[str] = []
    for key, values in search.space.items():
        if fixed := next(
            (why for name, why in _FIXED.items() if f"{key}.".startswith(f"{name}.")), None
        ):
            problems.append(f"{key} cannot be searched: {fixed}")
            continue
        concerned = dict(list(models.items())[:1]) if key.startswith("training.") else models
        found = [
            _problem(training, name, concerned[name], key, value)
            for name in concerned
            for value in values.ends
        ]
        problems += dict.fromkeys(problem for problem in found if problem)
    in_steps = search.steps is not None or (search.epochs is None and training.steps is not None)
    if "training.batch_size" in search.space and not in_steps:
        problems.append(
            "training.batch_size can be searched with a budget in steps only (search.steps): "
            "epochs of other batches are other numbers of steps"
        )
    if problems:
        raise ValueError(f"space: {'; '.join(problems)}")


def _problem(training: Training, name: str, model: Any, key: str, value: Any) -> str:
    where = key if key.startswith("training.") else f"{key} of the model {name}"
    try:
        with_settings(training, model, {key: value})
    except ValidationError as error:
        return f"{where}: {error.errors()[0]['msg'].removeprefix('Value error, ')}, got {value!r}"
    except ValueError as error:
        return f"{where}: {error}"
    return ""


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    first, _, rest = key.partition(".")
    if first not in values:
        raise ValueError(f"unknown setting {first!r}; known: {', '.join(sorted(values))}")
    if rest and not isinstance(values[first], dict):
        raise ValueError(f"{first!r} holds no settings, it is {values[first]!r}")
    if rest:
        _put(values[first], rest, value)
    else:
        values[first] = value
