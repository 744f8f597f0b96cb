"""The models by label: every family of labels is one line of `ModelSettings`. Imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, get_args

from pydantic import Field

from medvision.models.custom.settings import CustomSettings
from medvision.models.family import NetworkSettings
from medvision.models.labels import find_label, fold
from medvision.models.miss_former.settings import MissFormerSettings
from medvision.models.nnu_net.settings import NnUNetSettings
from medvision.models.swin_unet.settings import SwinUNetSettings
from medvision.models.trans_unet.settings import TransUNetSettings
from medvision.models.unet_plus_plus.settings import UNetPlusPlusSettings
from medvision.models.unetr.settings import UnetrSettings
from medvision.models.vit.settings import LlmViTSettings, ViTSettings
from medvision.settings import Recipe, filled

ModelSettings = Annotated[
    ViTSettings
    | LlmViTSettings
    | UNetPlusPlusSettings
    | UnetrSettings
    | NnUNetSettings
    | SwinUNetSettings
    | TransUNetSettings
    | MissFormerSettings
    | CustomSettings,
    Field(discriminator="label"),
]
_MEMBERS: tuple[type[NetworkSettings], ...] = get_args(get_args(ModelSettings)[0])
# Those that know their network; of the others it is in a file of the researcher's own.
FAMILIES = tuple(family for family in _MEMBERS if "network" not in family.model_fields)
MODEL_LABELS = tuple(label for family in FAMILIES for label in family.labels())
_FAMILY_OF = {label: family for family in _MEMBERS for label in family.labels()}
LABELS = tuple(_FAMILY_OF)
# Defaults of a label that differ from its family's.
PRESETS = {label: dict(family.presets.get(label, {})) for label, family in _FAMILY_OF.items()}
# Checkpoints of the paper's blocks, of every label that has one.
PAPER_SOURCES = {label: source for family in FAMILIES for label, source in family.sources.items()}


def canonical_label(label: str) -> str:
    """The label as the paper spells it; case and `-`/`_` are forgiven.

    Raises:
        ValueError: no such label; the message names the closest and all known ones.
    """
    if known := find_label(label, LABELS):
        return known
    plain = {fold(name): name for name in LABELS}
    close = difflib.get_close_matches(fold(label), plain, n=1, cutoff=0.5)
    hint = f"; did you mean {plain[close[0]]}?" if close else "."
    raise ValueError(f"unknown model label {label!r}{hint} Known labels: {', '.join(LABELS)}")


def official_settings(label: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a label under `recipe: official`; what was given stays.

    Raises:
        ValueError: unknown label.
    """
    label = canonical_label(label)
    return _FAMILY_OF[label].official(label, given)


def strong_settings(label: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a label under `recipe: strong`: deep supervision where the network has it;
    what was given stays.

    Raises:
        ValueError: unknown label.
    """
    family = _FAMILY_OF[canonical_label(label)]
    deep = "deep_supervision" in family.model_fields
    return filled(given, {"deep_supervision": True} if deep else {})


def resolve_settings(label: str, recipe: Recipe = "corrected", **settings: Any) -> Any:
    """Validated settings of one label with its defaults filled in, an instance of one member of
    `ModelSettings`.

    Args:
        recipe: `official` makes the official code's network, but for the settings that are given.

    Raises:
        ValueError: unknown label, unknown or wrong setting; a missing `llm` is named.
    """
    label = canonical_label(label)
    family = _FAMILY_OF[label]
    family.require(label, settings)
    if recipe == "official":
        settings = family.official(label, settings)
    return family(label=label, **settings)  # type: ignore[call-arg]
