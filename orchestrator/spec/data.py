"""The parts of a spec that say which images there are, what a network sees of them, and who trains
and tests.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveFloat,
    field_validator,
    model_validator,
)

from medvision.data.settings import (
    CT_WINDOW,
    PROTOCOL_SETTINGS,
    Channel,
    Intensity,
    LabelGroups,
    MaskVoxel,
    Modality,
    Protocol,
    Resampling,
    Scaled,
    Size,
    Spacing,
    Window,
)
from medvision.settings import NotInIds, Settings, Since
from record.names import FolderName

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


def _place(value: str) -> str:
    """Refuse what no file system takes, before anything is opened."""
    if (
        not value.isprintable()
        or len(value.encode()) > 1000
        or any(len(part) > 200 for part in value.split("/"))
    ):
        raise ValueError("no path or address: a character that cannot be printed, or too long")
    if os.path.expanduser(value).startswith("~"):
        raise ValueError(f"this machine has no such home folder: {value.split('/')[0]}")
    return value


Place = Annotated[str, AfterValidator(_place)]


def _expand_task(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _fraction(value: Any) -> Any:
    return 1.0 if value == "full" else value


Fraction = Annotated[
    float,
    BeforeValidator(_fraction, json_schema_input_type=float | Literal["full"]),
    Field(gt=0, le=1),
]


class TaskSpec(Settings):
    """A task, with its own settings; without any, its name alone will do."""

    name: FolderName = Field(
        pattern=NAME, max_length=200, description="the task's folder under data.root"
    )
    channel: Channel = Field(
        default=0, description="which channel of a 4D image is the input; all: every channel"
    )
    label_groups: Annotated[LabelGroups | Literal["each"] | None, Since("0.1", before=None)] = (
        Field(default=None, description="of this task, instead of data.label_groups")
    )
    modality: Annotated[list[Modality] | None, Since("0.1", before=None)] = Field(
        default=None,
        min_length=1,
        description="of each channel, the last one for all that follow; by default as dataset.json "
        "says. CT is clipped to ct_window, everything else to percentiles (protocol: corrected)",
    )
    ct_window: Annotated[Window | None, Since("0.1", before=None)] = Field(
        default=None, description="of this task, instead of data.ct_window"
    )
    tolerances: Annotated[
        list[PositiveFloat] | None, NotInIds("counted with the scores, not with the training")
    ] = Field(
        default=None,
        min_length=1,
        description="NSD tolerances in mm of this task, instead of evaluation.tolerances",
    )


Task = Annotated[TaskSpec, BeforeValidator(_expand_task, json_schema_input_type=str | TaskSpec)]


class DataSpec(Settings):
    """Where the images are and what a network sees of them."""

    root: Annotated[Place | None, NotInIds("counted by the contents of the cases")] = Field(
        default=None,
        description="folder of MSD tasks; `embedded` is the quickstart's; by default the variable "
        "MEDVISION_DATA",
    )
    protocol: Protocol = Field(
        default="paper",
        description="paper: whole volume resized to image_size, then scaled as `intensity` says; "
        "corrected: turned to RAS, shown in its true proportions, clipped to ct_window (CT) or to "
        "the 0.5th and 99.5th percentile, then scaled; patches: turned to RAS at one spacing, and "
        "networks see patches of image_size; a CT is clipped to ct_window, or to the 0.5th and "
        "99.5th percentile of the training cases' structures, and scaled by them, other images by "
        "their own values",
    )
    intensity: Intensity = Field(
        default="min-max",
        description="min-max: scaled to [0, 1], as the paper; z-score: mean 0, standard deviation "
        "1",
    )
    ct_window: Annotated[Window, Since("0.1", before=CT_WINDOW)] = Field(
        default=CT_WINDOW,
        description="HU that a CT is clipped to. Protocol patches: the default stands for what the "
        "training cases' structures hold; a task's own ct_window is used whatever it is",
    )
    spacing: Annotated[Spacing | None, Since("0.1", before=None)] = Field(
        default=None,
        description="mm per voxel of the network's grid along right, anterior, superior. Protocol "
        "corrected: larger by one factor where a case would not fit; by default the smallest cubes "
        "with which a case fits. Protocol patches: by default the median of the training cases",
    )
    crop: Annotated[bool, Since("0.1", before=False)] = Field(
        default=False,
        description="show only the box around what is no air in the image (protocol: corrected)",
    )
    scaled: Annotated[Scaled, Since("0.2", before="resized")] = Field(
        default="resized",
        description="what `intensity` scales: each channel once it is resized, or the file as it "
        "is, all its channels together, before (official code; protocol: paper)",
    )
    resampling: Annotated[Resampling, Since("0.2", before="centres")] = Field(
        default="centres",
        description="centres: both grids have one field of view; corners: their first and last "
        "voxels lie on each other (official code; protocol: paper)",
    )
    mask_voxel: Annotated[MaskVoxel, Since("0.2", before="half")] = Field(
        default="half",
        description="a voxel of a resized mask: filled by at least half, or at any part, which "
        "widens structures (official code; protocol: paper)",
    )
    foreground: Annotated[float, Since("0.2", before=0.33)] = Field(
        default=0.33,
        ge=0,
        le=1,
        description="share of the patches of a training that are centred on a voxel of a structure "
        "(protocol: patches)",
    )
    image_size: Size = Field(
        default=(128, 128, 128),
        description="voxels of the network's grid, or of a patch (protocol: patches); a multiple "
        "of patch_size",
    )
    patch_size: Size = Field(
        default=(8, 8, 8), description="voxels of one token of the transformers"
    )
    label_groups: LabelGroups | Literal["each"] = Field(
        default={"foreground": "all"},
        description="output channels: a name and its labels; all = every label above 0, as in the "
        "paper; `each` in place of names: every label that the task's dataset.json declares, one "
        "group each",
    )
    on_bad_case: Annotated[
        Literal["stop", "exclude"], NotInIds("counted by the cases of each role")
    ] = Field(
        default="stop",
        description="a case that is broken (`python -m medvision.data check`): stop before any "
        "training, or leave it out for all models and say so in the report",
    )

    @model_validator(mode="after")
    def _whole_patches(self) -> DataSpec:
        if any(size % patch for size, patch in zip(self.image_size, self.patch_size, strict=True)):
            raise ValueError(
                f"image_size {list(self.image_size)} must be a multiple of patch_size "
                f"{list(self.patch_size)}"
            )
        return self

    @model_validator(mode="after")
    def _used(self) -> DataSpec:
        readers: dict[str, str] = {}
        for protocol, names in PROTOCOL_SETTINGS.items():
            for name in names:
                readers.setdefault(name, protocol)
        unused = [
            name
            for name in readers
            if name not in PROTOCOL_SETTINGS[self.protocol]
            and (field := type(self).model_fields.get(name)) is not None
            and getattr(self, name) != field.default
        ]
        if unused:
            raise ValueError(
                f"{', '.join(unused)}: no part of protocol `{self.protocol}`; set protocol: "
                f"{readers[unused[0]]}"
            )
        return self


class SplitsSpec(Settings):
    """Which cases train, validate and test: decided once per task, the same for every model."""

    scheme: Literal["kfold", "holdout", "fixed"] = Field(
        default="kfold",
        description="kfold: every case is tested once; holdout: one test set; fixed: the task's "
        "imagesTs/labelsTs",
    )
    seed: int = Field(
        default=0, description="decides the folds and the one order that fractions are prefixes of"
    )
    repeats: int = Field(
        default=1,
        ge=1,
        le=100,
        description="cross-validations of the same cases, each shuffled anew (scheme: kfold); "
        "folds are numbered on, so that a later one changes no trial that there is",
    )
    test_fraction: float = Field(
        default=0.1, gt=0, lt=1, description="share of the test cases, for holdout"
    )
    rounding: Literal["nearest", "down"] = Field(
        default="nearest",
        description="of the number of test cases of a holdout, and of the cases of a fraction; "
        "down: as int() in the official code; never to no case",
    )
    validation: Literal["fraction", "fold"] = Field(
        default="fraction",
        description="which cases validate at a fraction: every fifth of its own, or every fifth of "
        "the fold's, however small the fraction; the training cases are the same",
    )
    group_file: Place | None = Field(
        default=None,
        description="CSV with the columns case and patient, a path or a file in each task's "
        "folder; cases of one patient stay together",
    )
    group_pattern: str | None = Field(
        default=None,
        description="regular expression with one group that gives the patient of a case id; cases "
        "of one patient stay together",
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
            if re.search(value, ""):
                raise ValueError(
                    f"{value!r} matches empty text, so that cases without a patient in their name "
                    "would all be of one: say what a patient's name is made of, with + and not *"
                )
        return value

    @model_validator(mode="after")
    def _repeated(self) -> SplitsSpec:
        if self.repeats > 1 and self.scheme != "kfold":
            raise ValueError(
                f"repeats: {self.repeats}: only a cross-validation is repeated, and the scheme is "
                f"{self.scheme}: set scheme: kfold, or leave repeats out"
            )
        return self

    @model_validator(mode="after")
    def _one_grouping(self) -> SplitsSpec:
        if self.group_file is not None and self.group_pattern is not None:
            raise ValueError("give group_file or group_pattern, not both")
        return self
