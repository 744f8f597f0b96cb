"""How a model is trained, as values. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from medvision.data.changes import Probability, StrongAugmentation
from medvision.settings import NotInIds, Output, Precision, Settings, Since


class Augmentation(Settings):
    """Random changes of training samples, drawn from the training's own seed, epoch and case."""

    rotation_degrees: float = Field(
        default=5.0, ge=0, le=180, description="in-plane, uniform in +- this"
    )
    intensity: float = Field(default=0.1, ge=0, lt=1, description="factor uniform in 1 +- this")
    flip: Annotated[
        tuple[Probability, Probability, Probability], Since("0.1", before=(0.0, 0.0, 0.0))
    ] = Field(default=(0.0, 0.0, 0.0), description="probability of a mirror image along X, Y and Z")
    elastic: Annotated[float, Since("0.1", before=0.0)] = Field(
        default=0.0,
        ge=0,
        le=0.4,
        description="smooth deformation: control points, four distances along each axis, move by "
        "up to this share of their distance along each axis; nothing folds below 0.4",
    )
    gamma: Annotated[float, Since("0.1", before=0.0)] = Field(
        default=0.0,
        ge=0,
        description="exponent between 1 / (1 + this) and 1 + this, on the sample's own range",
    )
    noise: Annotated[float, Since("0.1", before=0.0)] = Field(
        default=0.0,
        ge=0,
        description="Gaussian noise, its standard deviation uniform between 0 and this",
    )

    contrast: Annotated[float, Since("0.2", before=0.0)] = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="distance from the sample's mean times a factor uniform in 1 +- this; the "
        "official code's is 0.1",
    )
    copies: Annotated[bool, Since("0.2", before=False)] = Field(
        default=False,
        description="an epoch has each case three times, as the official code: as it is, moved "
        "(rotation, flip, elastic), and with changed intensities; otherwise once, changed in every "
        "way",
    )
    rotation: Annotated[Literal["linear", "cubic"], Since("0.2", before="linear")] = Field(
        default="linear",
        description="interpolation; cubic: splines, and zeros outside of the image (official code)",
    )
    rotation_planes: Annotated[Literal["same", "official"], Since("0.2", before="same")] = Field(
        default="same",
        description="official: images turn in the plane of Y and Z, masks in that of X and Y, a "
        "defect of the official code",
    )

    @property
    def changes(self) -> dict[str, Any]:
        """All settings but `copies`, as `medvision.data.augment.augment` takes them."""
        return self.model_dump(exclude={"copies"})

    @model_validator(mode="after")
    def _one_interpolation(self) -> Augmentation:
        if self.elastic and (self.rotation == "cubic" or self.rotation_planes == "official"):
            raise ValueError(
                "elastic interpolates once for deformation and rotation, linearly and in one "
                "plane: leave rotation at linear and rotation_planes at same"
            )
        return self


class Training(Settings):
    """One recipe for every model. Give epochs or steps, not both; 100 epochs where neither is
    given.
    """

    epochs: PositiveInt | None = Field(
        default=None, description="passes over the training cases; 100 without steps"
    )
    steps: PositiveInt | None = Field(
        default=None, description="optimizer steps, whatever the number of cases"
    )
    batch_size: PositiveInt = Field(
        default=4, description="cases per step over all workers together"
    )
    optimizer: Literal["adam", "adamw", "sgd"] = Field(
        default="adam",
        description="adam is the paper's; sgd has Nesterov's momentum of 0.99, as nnU-Net",
    )
    lr: float = Field(
        default=2e-3, gt=0, description="learning rate; the highest one of a schedule"
    )
    weight_decay: float = Field(default=0.0, ge=0, description="of the optimizer")
    schedule: Literal["plateau", "onecycle", "cosine", "poly", "constant"] = Field(
        default="plateau",
        description="plateau halves the rate after 10 epochs without a better loss; poly: the rate "
        "times (1 - step / steps)^0.9, as nnU-Net",
    )
    plateau_on: Annotated[Literal["validation", "training"], Since("0.2", before="validation")] = (
        Field(
            default="validation",
            description="whose loss plateau follows; the official code's follows the training's",
        )
    )
    dice: Annotated[Literal["soft", "batch", "cut"], Since("0.2", before="soft")] = Field(
        default="soft",
        description="soft: of each sample's probabilities; batch: of all samples of a step as one, "
        "as nnU-Net; cut: of the whole batch's output cut at one half, which has no gradient, as "
        "in the official code",
    )
    output: Annotated[Output, Since("0.2", before="sigmoid")] = Field(
        default="sigmoid",
        description="sigmoid: each label group by itself; softmax: one group or background for "
        "every voxel, for groups that share no label",
    )
    dice_weight: float = Field(default=1.0, ge=0, description="of the Dice loss")
    bce_weight: float = Field(default=1.0, ge=0, description="of the cross-entropy")
    prior_bias: bool = Field(
        default=True,
        description="start the output at the share of foreground in the training cases (Lin et al. "
        "2017); without it, a small structure can leave a transformer at an empty prediction for "
        "good",
    )
    clip_norm: PositiveFloat | None = Field(
        default=1.0,
        description="largest norm of the gradient; without it, long transformers can fall back to "
        "nothing learnt",
    )
    precision: Precision = Field(
        default="fp32",
        description="autocast to bf16, or to fp16 with a scaled loss; parameters stay fp32",
    )
    compile: Annotated[bool, Since("0.1", before=False)] = Field(
        default=False, description="torch.compile; the last bits of the numbers may differ"
    )
    cuda_graphs: Annotated[
        Literal["never", "auto"],
        NotInIds("it changes no number: a graph that gives another one is not used"),
    ] = Field(
        default="never",
        description="auto: on one GPU, whole batches are computed by a CUDA graph, which saves the "
        "time that Python needs to launch a small network's kernels; a graph is compared bit by "
        "bit before it is used, and the log says where it is not. It holds the memory of a step",
    )
    channels_last: Annotated[bool, Since("0.2", before=False)] = Field(
        default=False,
        description="3D convolutions with the channels of a voxel side by side in memory, often "
        "faster in 16 bits on a GPU; the last bits of the numbers may differ",
    )
    gradient_checkpointing: Annotated[bool, NotInIds("it changes no number")] = Field(
        default=False,
        description="compute activations again in backward instead of keeping them: less memory, "
        "about a third more time, the same numbers",
    )
    augmentation: Augmentation | None = Field(
        default=Augmentation(), description="random changes of the training samples; null for none"
    )
    strong_augmentation: Annotated[StrongAugmentation | None, Since("0.2", before=None)] = Field(
        default=None, description="nnU-Net's random changes, with augmentation: null"
    )
    select: Literal["best", "smoothed", "last", "training-loss"] = Field(
        default="best",
        description="best: the epoch with the highest validation Dice, on cases never trained on; "
        "smoothed: with the highest exponential moving average of it (0.9 of the last one), as "
        "nnU-Net; training-loss: the one with the lowest training loss (official code)",
    )
    checkpoint_epochs: Annotated[PositiveInt, NotInIds("it changes no number")] = Field(
        default=10, description="epochs between two checkpoints"
    )

    @model_validator(mode="after")
    def _one_budget(self) -> Training:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give epochs or steps, not both")
        if self.dice_weight == 0 and self.bce_weight == 0:
            raise ValueError("dice_weight and bce_weight are both 0: there would be no loss")
        if self.augmentation is not None and self.strong_augmentation is not None:
            raise ValueError(
                "augmentation and strong_augmentation change the same samples: give one, and null "
                "for the other"
            )
        if self.dice == "cut" and self.output == "softmax":
            raise ValueError("dice: cut is the official code's, whose output is sigmoid")
        if self.dice == "cut" and self.bce_weight == 0:
            raise ValueError(
                "dice: cut has no gradient, so that without bce_weight nothing would be learnt"
            )
        return self

    def total_steps(self, cases: int) -> int:
        """Optimizer steps of a training on this many cases."""
        return (
            self.steps
            if self.steps is not None
            else (self.epochs or 100) * self.steps_per_epoch(cases)
        )

    def total_epochs(self, cases: int) -> int:
        """Epochs of a training on this many cases; the last may be shorter."""
        return -(-self.total_steps(cases) // self.steps_per_epoch(cases))

    def steps_per_epoch(self, cases: int) -> int:
        """Optimizer steps of one pass over the cases."""
        return -(-self.samples(cases) // self.batch_size)

    def samples(self, cases: int) -> int:
        """Samples of one pass over the cases."""
        return cases * (3 if self.augmentation and self.augmentation.copies else 1)


# What the official code's recipe says otherwise than the defaults; what is given stays.
OFFICIAL: Mapping[str, Any] = MappingProxyType(
    {
        "dice": "cut",
        "dice_weight": 0.5,
        "bce_weight": 0.5,
        "plateau_on": "training",
        "prior_bias": False,
        "clip_norm": None,
        "select": "training-loss",
        "augmentation": MappingProxyType(
            {"contrast": 0.1, "copies": True, "rotation": "cubic", "rotation_planes": "official"}
        ),
    }
)

# What `recipe: strong` sets, nnU-Net's training (Isensee et al. 2021); what is given stays.
STRONG: Mapping[str, Any] = MappingProxyType(
    {
        "batch_size": 2,
        "optimizer": "sgd",
        "lr": 1e-2,
        "weight_decay": 3e-5,
        "schedule": "poly",
        "dice": "batch",
        "clip_norm": 12.0,
        "augmentation": None,
        "strong_augmentation": MappingProxyType({}),
        "select": "smoothed",
    }
)
