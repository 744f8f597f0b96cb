"""Methods of a study that are not our networks: masks that another tool made, and nnU-Net itself.
Imports no torch.
"""

from __future__ import annotations

import importlib.util
import string
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from medvision.data.settings import Labels
from medvision.settings import NotInIds, Settings, Since
from orchestrator.spec.data import Place
from record.names import Name

PLACES = ("task", "fraction", "fold", "seed")
PLACES_OF_FOLDS = ("task", "fraction")


class OtherTool(Settings):
    """What a method has in common with our networks: a label and a name. It has no language-model
    block, and no settings of `training` and `data` of its own.
    """

    block: ClassVar[None] = None
    overrides: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    name: Annotated[Name | None, NotInIds("what tables call the method")] = Field(
        default=None, description="shown in tables; by default the label"
    )

    @classmethod
    def known_as(cls) -> tuple[str, ...]:
        """The labels of this kind."""
        return get_args(cls.model_fields["label"].annotation)

    def drawn(self, seed: int) -> Self:
        """As `medvision.models.family.NetworkSettings.drawn`: nothing is left to chance here."""
        del seed
        return self


class ExternalSettings(OtherTool):
    """Masks that another tool made, as `medvision score` takes them: trials of the grid that are
    scored and never trained, of unknown cost (docs/other-tools.md).
    """

    label: Literal["external"]
    masks: Annotated[Place, NotInIds("counted by the contents of the masks")] = Field(
        description="folder of the masks, named as the cases; `{task}`, `{fraction}`, `{fold}` and "
        "`{seed}` stand where folders differ; without `{seed}` the masks count for every seed, "
        "without `{fold}` a folder has those of all folds, without `{fraction}` they are of the "
        "largest",
    )
    folds: Annotated[Place, NotInIds("it refuses masks, and changes no score")] = Field(
        default="",
        description="the tool's own folds, such as nnU-Net's splits_final.json, with `{task}` and "
        "`{fraction}` where files differ: a case that the tool trained on in the fold that tests "
        "it is refused",
    )
    labels: dict[Name, Labels | Literal["all"]] = Field(
        default={},
        description="the structures' values in the masks, where they are others than the truth's",
    )
    allow_empty: Annotated[bool, NotInIds("it refuses masks, and changes no score")] = Field(
        default=False,
        description="count an empty mask as a miss where the truth is not empty; else it is "
        "refused",
    )

    probabilities: Annotated[bool, Since("0.2", before=False)] = Field(
        default=False,
        description="the files hold probabilities, a channel a label group in the alphabetical "
        "order of their names: above 0.5 counts; with a channel of the background first, the "
        "likeliest",
    )

    @field_validator("masks", "folds")
    @classmethod
    def _known_places(cls, pattern: str, info: Any) -> str:
        known = PLACES if info.field_name == "masks" else PLACES_OF_FOLDS
        if problem := wrong_places(pattern, known):
            raise ValueError(problem)
        return pattern

    def is_of(self, fraction: float, fractions: Sequence[float]) -> bool:
        """Whether there are masks of a fraction: without `{fraction}`, of the largest alone."""
        return "{fraction}" in self.masks or fraction == max(fractions)


class NnUNetV2Settings(OtherTool):
    """nnU-Net itself (Isensee et al. 2021): planned, trained and predicted by nnunetv2's own code
    on the study's cases, folds, fractions and seeds, and scored as our networks are. Of `training`
    it takes `checkpoint_epochs`, of `data` the label groups alone (docs/other-tools.md). Needs
    `pip install '.[nnunet]'`.
    """

    label: Literal["nnUNetv2"]
    configuration: Literal["2d", "3d_fullres", "3d_lowres"] = Field(
        default="3d_fullres", description="one that nnU-Net plans for the cases; no cascade"
    )
    trainer: str = Field(
        default="nnUNetTrainer",
        pattern=r"^[A-Za-z_]\w*$",
        description="class of the trainer, of nnunetv2 or below nnU-Net's nnUNet_extTrainer",
    )
    plans: Literal[
        "nnUNetPlans", "nnUNetResEncUNetMPlans", "nnUNetResEncUNetLPlans", "nnUNetResEncUNetXLPlans"
    ] = Field(default="nnUNetPlans", description="whose planner plans")
    epochs: PositiveInt | None = Field(
        default=None, description="by default the trainer's, nnU-Net's are 1000"
    )
    iterations: PositiveInt | None = Field(
        default=None, description="of an epoch; by default the trainer's, nnU-Net's are 250"
    )
    validation_iterations: PositiveInt | None = Field(
        default=None, description="of an epoch; by default the trainer's, nnU-Net's are 50"
    )
    batch_size: Annotated[PositiveInt | None, Since("0.2", before=None)] = Field(
        default=None, description="patches of a step; by default as many as nnU-Net plans"
    )
    processes: NonNegativeInt = Field(
        default=0,
        description="that load and augment cases beside the training; 0: the training does so "
        "itself and gives the same numbers again on a CPU, which with more nobody promises",
    )

    @property
    def planner(self) -> str:
        """The class of nnunetv2 that makes the plans of this name."""
        size = self.plans.removeprefix("nnUNetResEncUNet").removesuffix("Plans")
        return "ExperimentPlanner" if self.plans == "nnUNetPlans" else f"nnUNetPlannerResEnc{size}"

    @property
    def folder(self) -> str:
        """What nnU-Net calls the folder of such trainings."""
        return f"{self.trainer}__{self.plans}__{self.configuration}"

    @property
    def budget(self) -> dict[str, int]:
        """Those attributes of the trainer that are not its own."""
        values = {
            "num_epochs": self.epochs,
            "num_iterations_per_epoch": self.iterations,
            "num_val_iterations_per_epoch": self.validation_iterations,
        }
        return {name: value for name, value in values.items() if value is not None}

    @property
    def steps(self) -> int:
        """Of a training; of a trainer's own, nnU-Net's are assumed."""
        return (self.epochs or 1000) * (self.iterations or 250)


def nnunetv2_missing() -> str:
    """What to do where nnunetv2 is not installed; empty where it is."""
    if importlib.util.find_spec("nnunetv2") is not None:
        return ""
    return "label nnUNetv2: nnunetv2 is not installed here; pip install '.[nnunet]'"


OTHER_TOOLS: tuple[type[OtherTool], ...] = (ExternalSettings, NnUNetV2Settings)
OTHER_LABELS = tuple(label for kind in OTHER_TOOLS for label in kind.known_as())


def wrong_places(pattern: str, known: Sequence[str]) -> str:
    """What stands in the braces of a pattern and should not, also what `str.format` alone takes
    (`{fold:02d}`); empty where nothing is wrong.
    """
    try:
        parts = list(string.Formatter().parse(pattern))
    except ValueError as error:
        return str(error)
    if any(
        name is not None and (name not in known or form or conversion)
        for _, name, form, conversion in parts
    ):
        return f"knows {', '.join(f'{{{n}}}' for n in known)} only"
    return ""
