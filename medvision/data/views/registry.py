"""The views by the name of their protocol, and their placements by kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from medvision.data.settings import Preparation
from medvision.data.views.base import Placement, View
from medvision.data.views.corrected import CorrectedView, InProportion
from medvision.data.views.paper import PaperView, Stretched
from medvision.data.views.patches import PatchesView, Resampled

VIEWS: Mapping[str, Callable[[Preparation], View]] = {
    "paper": PaperView,
    "corrected": CorrectedView,
    "patches": PatchesView,
}
PLACEMENTS: Mapping[str, Callable[[Mapping[str, Any]], Placement]] = {
    "Stretched": Stretched.from_json,
    "InProportion": InProportion.from_json,
    "Resampled": Resampled.from_json,
}


def view_of(settings: Preparation) -> View:
    """How these settings show a case."""
    return VIEWS[settings.protocol](settings)


def to_json(placement: Placement) -> dict[str, Any]:
    """A placement with its kind."""
    return {"kind": type(placement).__name__, **placement.to_json()}


def from_json(value: Mapping[str, Any]) -> Placement:
    """The placement of `to_json`.

    Raises:
        KeyError: no kind of placement is called so.
    """
    about = dict(value)
    return PLACEMENTS[about.pop("kind")](about)
