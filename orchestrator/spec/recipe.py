"""`recipe: official` and `recipe: strong`, each one word for many settings: those in which the
official code differs from our defaults, and those of nnU-Net's training on patches.

It only fills in what the spec leaves open, before anything is validated: a spec that writes the
same settings out has the same ids, and a setting beside the word has the last say. What each
setting is stands with the settings: `medvision.models.vit.recipes`, `medvision.training.settings`,
`medvision.data.settings`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import medvision.data.settings
import medvision.training.settings
from medvision.models.registry import official_settings, strong_settings
from medvision.settings import Output, filled

SPLITS: Mapping[str, Any] = {"scheme": "holdout", "rounding": "down"}
DATA: Mapping[str, Any] = {"protocol": "patches", "intensity": "z-score"}
EVALUATION: Mapping[str, Any] = {"inference": {"mirror": True}}
_ModelSettings = Callable[[str, Mapping[str, Any]], dict[str, Any]]


def in_recipe(values: Any) -> Any:
    """The values of a spec with those of its recipe where nothing was given.

    What is no spec at all is left to the validation, which says so in its own words.
    """
    if not isinstance(values, Mapping):
        return values
    recipes = {"official": official, "strong": strong}
    word = values.get("recipe")
    return recipes[word](values) if isinstance(word, str) and word in recipes else values


def official(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with those of the official code where nothing was given."""
    found = _with_models(values, official_settings)
    data = _given(values, "data")
    if isinstance(data, Mapping) and data.get("protocol", "paper") == "paper":
        found["data"] = filled(data, medvision.data.settings.OFFICIAL)
    defaults = {"splits": SPLITS, "training": medvision.training.settings.OFFICIAL}
    return _filled(found, values, defaults)


def strong(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with those of nnU-Net's training where nothing was given: softmax, too, unless
    label groups share a label.
    """
    training = dict(medvision.training.settings.STRONG)
    given = _given(values, "training")
    if isinstance(given, Mapping) and given.get("augmentation") is not None:
        del training["strong_augmentation"]  # both would be a contradiction
    if not _overlap(values):
        training["output"] = "softmax"
    found = _with_models(values, strong_settings)
    return _filled(found, values, {"data": DATA, "training": training, "evaluation": EVALUATION})


def _filled(
    found: dict[str, Any], values: Mapping[str, Any], defaults: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    for key, of_key in defaults.items():
        if isinstance(given := _given(values, key), Mapping):
            found[key] = filled(given, of_key)
    return found


def _given(values: Mapping[str, Any], key: str) -> Any:
    return {} if values.get(key) is None else values[key]


def _with_models(values: Mapping[str, Any], settings: _ModelSettings) -> dict[str, Any]:
    found = dict(values)
    if isinstance(models := values.get("models"), list):
        found["models"] = [_model(model, settings) for model in models]
    return found


def _model(model: Any, settings: _ModelSettings) -> Any:
    values = {"label": model} if isinstance(model, str) else model
    if not isinstance(values, Mapping) or not isinstance(values.get("label"), str):
        return model
    try:
        return settings(values["label"], values)
    except ValueError:  # an unknown label, which has an error of its own
        return model


def _overlap(values: Mapping[str, Any]) -> bool:
    """Whether any label groups of a spec, of all tasks or of one, share a label."""
    tasks = values.get("tasks")
    places = [_given(values, "data"), *(tasks if isinstance(tasks, list) else ())]
    return any(
        shared_label(groups)
        for place in places
        if isinstance(place, Mapping) and isinstance(groups := place.get("label_groups"), Mapping)
    )


def check_output(output: Output, groups: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse softmax where a voxel can be of several groups.

    Args:
        groups: label groups by task.

    Raises:
        ValueError: two groups of a task share a label.
    """
    for task, of_task in groups.items():
        if output == "softmax" and shared_label(of_task):
            raise ValueError(
                f"training.output: softmax: two label groups of {task} share a label, and a voxel "
                "can be of one group only: set output: sigmoid"
            )


def shared_label(groups: Mapping[Any, Any]) -> bool:
    """Whether two label groups share a label."""
    if len(groups) < 2:
        return False
    labels = [label for one in groups.values() for label in (one if isinstance(one, list) else ())]
    return "all" in groups.values() or len(set(map(str, labels))) < len(labels)
