"""How a case is scored, as values. Imports no torch."""

from __future__ import annotations

import importlib
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, ValidationInfo, model_validator

from medvision.inference import Choice, Inference
from medvision.metrics.definitions import METRICS, Further, MetricInfo
from medvision.own_code import NAME, OwnCode
from medvision.settings import NotInIds, Settings, Since
from record.names import Name, NameOrNothing
from record.schema import CELL

_SHOWN = NotInIds("how the number is read, not the number")
# Columns beside the metrics in cases.parquet, and those that reports put beside its metrics.
COLUMNS = frozenset(
    [
        *(*CELL, "train_id", "eval_id", "case", "group", "status", "diagonal", "patient", "repeat"),
        *("nsd_tolerance", "nsd_definition", "hd95_definition"),
        *("scan", "set", "training", "trainings"),
    ]
)


class OwnMetric(OwnCode):
    """A metric of one's own: a function in a Python file next to the spec (docs/adding.md), called
    with prediction and truth, bool [X, Y, Z], and spacing in mm for every case and label group. It
    returns a number, NaN where there is none.
    """

    names_code = "function"
    name: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$", max_length=60, description="what `metrics` calls it"
    )
    function: str = Field(pattern=NAME, description="`file:function`; the file's name without .py")
    title: Annotated[Name | None, _SHOWN] = Field(
        default=None, description="shown in tables; by default the name"
    )
    unit: Annotated[NameOrNothing, _SHOWN] = Field(
        default="", description="shown in tables, such as ml"
    )
    higher_is_better: Annotated[bool, _SHOWN] = Field(
        default=True, description="which way is better"
    )
    digits: Annotated[NonNegativeInt, _SHOWN] = Field(default=3, description="decimals in tables")
    perfect: Annotated[float, _SHOWN] = Field(
        default=1.0, description="value of a perfect prediction"
    )
    empty: Annotated[Literal["by-spec", "undefined", "defined"], _SHOWN] = Field(
        default="defined",
        description="cases without structure in the truth: as both_empty says, never a value, or "
        "the function's",
    )

    @model_validator(mode="after")
    def _can_be_called(self, info: ValidationInfo) -> OwnMetric:
        if self.name in METRICS:
            raise ValueError(f"{self.name} is a metric already: choose another name")
        if self.name in COLUMNS:
            raise ValueError(
                f"{self.name} is a column of cases.parquet or of the report already, which "
                "this one would overwrite: choose another name"
            )
        if info.context and "folder" in info.context:  # a spec is read
            importlib.import_module("medvision.metrics.own").check(self)
        return self

    @property
    def deciding(self) -> dict[str, Any]:
        """What its numbers and their tests come from; title, unit and digits are looks."""
        names = {"function", "sha256", "higher_is_better", "perfect", "empty"}
        return self.model_dump(mode="json", include=names)

    @property
    def info(self) -> MetricInfo:
        """How it is read."""
        return MetricInfo(
            self.title or self.name,
            self.unit,
            self.higher_is_better,
            self.digits,
            self.perfect,
            self.empty,
        )


class Scoring(Settings):
    """Definitions of the metrics and the cut of the probabilities (`medvision.metrics`)."""

    nsd: Literal["surfel", "voxel-max", "voxel-pooled"] = Field(
        default="surfel", description="definition of the NSD"
    )
    hd95: Literal["surfel", "voxel-max", "voxel-pooled"] = Field(
        default="voxel-max", description="definition of HD95, HD and ASSD"
    )
    tolerances: Annotated[
        Literal["msd"] | list[PositiveFloat], NotInIds("counted by the tolerances of each task")
    ] = Field(
        default="msd",
        description="NSD tolerances in mm, the first one is the tables'; msd: the challenge's per "
        "task",
    )
    strict_tolerance: bool = Field(
        default=False, description="d <= tolerance without the 1e-6 for float32 spacings"
    )
    own: Annotated[list[OwnMetric], Since("0.2", before=[])] = Field(
        default=[], description="metrics of one's own, in files next to the spec"
    )
    further: Annotated[list[Further], Since("0.2", before=[])] = Field(
        default=[],
        description="metrics that cost more and are computed on demand: lesions (connected "
        "components), centrelines (clDice), volumes; those that `metrics` names are added",
    )
    inference: Annotated[Inference, Since("0.2", before=Inference())] = Field(
        default=Inference(), description="how a trained network segments a case"
    )
    choose: Annotated[list[Choice], Since("0.2", before=[])] = Field(
        default=[],
        description="what of `inference` is used only where it raises the mean Dice of the "
        "validation cases: mirror for all label groups, largest and least_ml for each by itself",
    )
