"""`recipe: official`, one word for all settings in which the official code differs from our
defaults.

It only fills in what the spec leaves open, before anything is validated: a spec that writes the
same settings out has the same ids, and a setting beside the word has the last say. What each
setting is stands with the settings: `medvision.models.vit.recipes`, `medvision.training.settings`,
`medvision.data.settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import medvision.data.settings
import medvision.training.settings
from medvision.models.registry import official_settings
from medvision.settings import filled

SPLITS: Mapping[str, Any] = {"scheme": "holdout", "rounding": "down"}


def official(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a spec with those of the official code where nothing was given.

    What is no spec at all is left to the validation, which says so in its own words.
    """
    found = dict(values)
    if isinstance(models := values.get("models"), list):
        found["models"] = [_model(model) for model in models]
    data = _given(values, "data")
    if isinstance(data, Mapping) and data.get("protocol", "paper") == "paper":
        found["data"] = filled(data, medvision.data.settings.OFFICIAL)
    for key, defaults in {
        "splits": SPLITS,
        "training": medvision.training.settings.OFFICIAL,
    }.items():
        if isinstance(given := _given(values, key), Mapping):
            found[key] = filled(given, defaults)
    return found


def _given(values: Mapping[str, Any], key: str) -> Any:
    return {} if values.get(key) is None else values[key]


def _model(model: Any) -> Any:
    values = {"label": model} if isinstance(model, str) else model
    if not isinstance(values, Mapping) or not isinstance(values.get("label"), str):
        return model
    try:
        return official_settings(values["label"], values)
    except ValueError:  # an unknown label, which has an error of its own
        return model
