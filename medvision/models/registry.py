"""The models by label: every family of labels is one line of `ModelSettings`. Imports no torch."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, get_args

from pydantic import Field

from medvision.models.family import NetworkSettings
from medvision.models.labels import find_label, fold
from medvision.models.miss_former.settings import MissFormerSettings
from medvision.models.nnu_net.settings import NnUNetSettings
from medvision.models.swin_unet.settings import SwinUNetSettings
from medvision.models.trans_unet.settings import TransUNetSettings
from medvision.models.unet_plus_plus.settings import UNetPlusPlusSettings
from medvision.models.unetr.settings import UnetrSettings
from medvision.models.vit.settings import LlmViTSettings, ViTSettings

ModelSettings = Annotated[
    ViTSettings
    | LlmViTSettings
    | UNetPlusPlusSettings
    | UnetrSettings
    | NnUNetSettings
    | SwinUNetSettings
    | TransUNetSettings
    | MissFormerSettings,
    Field(discriminator="label"),
]
FAMILIES: tuple[type[NetworkSettings], ...] = get_args(get_args(ModelSettings)[0])
_FAMILY_OF = {label: family for family in FAMILIES for label in family.labels()}
MODEL_LABELS = tuple(_FAMILY_OF)
# Defaults of a label that differ from its family's.
PRESETS = {label: dict(family.presets.get(label, {})) for label, family in _FAMILY_OF.items()}
# Checkpoints of the paper's blocks, of every label that has one.
PAPER_SOURCES = {label: source for family in FAMILIES for label, source in family.sources.items()}


def canonical_label(label: str) -> str:
    """The label as the paper spells it; case and `-`/`_` are forgiven.

    Raises:
        ValueError: no such label; the message names the closest and all known ones.
    """
    if known := find_label(label, MODEL_LABELS):
        return known
    plain = {fold(name): name for name in MODEL_LABELS}
    close = difflib.get_close_matches(fold(label), plain, n=1, cutoff=0.5)
    hint = f"; did you mean {plain[close[0]]}?" if close else ""
    raise ValueError(f"unknown model label {label!r}{hint} Known labels: {', '.join(MODEL_LABELS)}")


def resolve_settings(label: str, **settings: Any) -> Any:
    """Validated settings of one label with its defaults filled in, an instance of one member of
    `ModelSettings`.

    Raises:
        ValueError: unknown label, unknown or wrong setting; a missing `llm` is named.
    """
    label = canonical_label(label)
    family = _FAMILY_OF[label]
    family.require(label, settings)
    return family(label=label, **settings)  # type: ignore[call-arg]
