"""Batches: which cases are in them, how they are changed, and how they get to the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

import torch

from medvision.data.augment import augment
from medvision.data.settings import VALIDATION_PATCHES
from medvision.data.strong import strongly_changed
from medvision.data.views.base import PreprocessedCase
from medvision.seeds import derive_seed
from medvision.training.settings import Training

T = TypeVar("T")
Copy = Literal["changed", "as it is", "moved", "intensity"]


class Draw(NamedTuple):
    """A case and the seed of the patch that is seen of it (`PreprocessedCase.sample`)."""

    case: str
    seed: int


class Sample(NamedTuple):
    """A case as it is shown once in an epoch: changed in every way, or as one of its copies."""

    case: str
    copy: Copy = "changed"


def samples_of(ids: Sequence[str], recipe: Training) -> list[Sample]:
    """The samples of an epoch, in the order of the cases."""
    if recipe.augmentation and recipe.augmentation.copies:
        copies: tuple[Copy, ...] = ("as it is", "moved", "intensity")
        return [Sample(case, copy) for copy in copies for case in ids]
    return [Sample(case) for case in ids]


def epoch_batches(
    ids: Sequence[T], size: int, steps: int, *, seed: int, epoch: int
) -> list[list[T]]:
    """The first `steps` batches of one pass in an order drawn from (seed, epoch)."""
    generator = torch.Generator().manual_seed(derive_seed("order", seed, epoch))
    order = torch.randperm(len(ids), generator=generator).tolist()
    return [
        [ids[index] for index in order[step * size : (step + 1) * size]] for step in range(steps)
    ]


def validation_draws(cases: Mapping[str, PreprocessedCase], ids: Sequence[str]) -> list[Draw]:
    """What is looked at after every epoch, the same each time and for all models: each case once,
    or some patches of it.
    """
    return [
        Draw(case, derive_seed("validation", case, number))
        for case in ids
        for number in range(VALIDATION_PATCHES if cases[case].placement.patches else 1)
    ]


_HOW = ("rotation", "rotation_planes")
_OF_COPY: Mapping[Copy, tuple[str, ...]] = {
    "moved": ("rotation_degrees", "flip", "elastic", *_HOW),
    "intensity": ("intensity", "contrast", "gamma", "noise"),
}


def changed(
    images: torch.Tensor,
    masks: torch.Tensor,
    samples: Sequence[Sample],
    recipe: Training,
    *,
    seed: int,
    epoch: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch as the recipe's augmentation changes it, each copy in its own way.

    Args:
        images: float [B, C, X, Y, Z].
        masks: float [B, G, X, Y, Z].
        samples: B of them.
    """
    cases = [sample.case for sample in samples]
    if recipe.strong_augmentation is not None:
        strong = recipe.strong_augmentation
        return strongly_changed(images, masks, cases, strong, seed=seed, epoch=epoch)
    if recipe.augmentation is None:
        return images, masks
    settings = recipe.augmentation.changes
    if not recipe.augmentation.copies:
        return augment(images, masks, cases, seed=seed, epoch=epoch, **settings)
    for copy, names in _OF_COPY.items():
        if places := [place for place, sample in enumerate(samples) if sample.copy == copy]:
            named = [cases[place] for place in places]
            own = {name: settings[name] for name in names}
            images[places], masks[places] = augment(
                images[places], masks[places], named, seed=seed, epoch=epoch, **own
            )
    return images, masks
