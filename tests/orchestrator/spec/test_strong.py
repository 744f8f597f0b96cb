"""`recipe: strong` is nothing but the settings that it stands for."""

from __future__ import annotations

from typing import Any

import pytest

from medvision.data.changes import StrongAugmentation
from orchestrator.spec.study import Spec

SMALLEST = {"name": "s", "models": ["ViT_Baseline", "nnunet"], "tasks": ["Task04_Hippocampus"]}


def spec(**changes: Any) -> Spec:
    return Spec.model_validate({**SMALLEST, "recipe": "strong", **changes})


def test_one_word_sets_data_training_networks_and_evaluation() -> None:
    found = spec(models=["ViT_Baseline", "nnU-Net"])
    assert (found.data.protocol, found.data.intensity) == ("patches", "z-score")
    training = found.training
    assert (training.optimizer, training.schedule, training.dice) == ("sgd", "poly", "batch")
    assert (training.output, training.select, training.augmentation) == (
        "softmax",
        "smoothed",
        None,
    )
    assert training.strong_augmentation == StrongAugmentation()
    assert found.models[1].deep_supervision
    assert found.evaluation.inference.mirror
    assert found.splits == Spec.model_validate({**SMALLEST, "models": ["nnU-Net"]}).splits
    assert Spec.model_validate(found.model_dump(mode="json")) == found


def test_a_ct_window_that_is_given_is_used_on_patches_and_the_default_is_none() -> None:
    tasks = ["T", {"name": "U", "ct_window": [0, 80]}, {"name": "V", "ct_window": [-1000, 1000]}]
    of_all = spec(tasks=tasks, data={"ct_window": [-160, 240], "label_groups": {"a": [1]}})
    of_none = spec(tasks=tasks)
    corrected = spec(tasks=tasks, data={"protocol": "corrected"})
    found = [
        [one.preparation(task).ct_window for task in one.tasks]
        for one in (of_all, of_none, corrected)
    ]
    default = (-1000, 1000)
    assert found == [
        [(-160, 240), (0, 80), default],
        [None, (0, 80), default],
        [default, (0, 80), default],
    ]


@pytest.mark.parametrize(
    ("changes", "where", "value"),
    [
        ({"training": {"optimizer": "adamw"}}, "training.optimizer", "adamw"),
        ({"training": {"augmentation": {"gamma": 0.1}}}, "training.strong_augmentation", None),
        ({"data": {"protocol": "corrected"}}, "data.protocol", "corrected"),
        ({"evaluation": {"inference": {"overlap": 0.25}}}, "evaluation.inference.mirror", True),
        ({"evaluation": {"inference": {"mirror": False}}}, "evaluation.inference.mirror", False),
        ({"data": {"label_groups": {"a": [1], "b": [1, 2]}}}, "training.output", "sigmoid"),
        ({"data": {"label_groups": {"a": "all", "b": [2]}}}, "training.output", "sigmoid"),
        ({"data": {"label_groups": {"a": [1], "b": [2]}}}, "training.output", "softmax"),
        ({"data": {"label_groups": "each"}}, "training.output", "softmax"),
    ],
)
def test_a_setting_beside_the_word_has_the_last_say(
    changes: dict[str, Any], where: str, value: Any
) -> None:
    found: Any = spec(models=["ViT_Baseline"], **changes)
    for name in where.split("."):
        found = getattr(found, name)
    assert found == value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"training": {"output": "softmax"}, "data": {"label_groups": {"a": "all", "b": [2]}}},
            "two label groups of Task04_Hippocampus share a label",
        ),
        ({"training": {"augmentation": {}, "strong_augmentation": {}}}, "change the same samples"),
        ({"training": {"dice": "cut"}}, "dice: cut is the official code's"),
        ({"training": 3}, "training"),
        ({"models": [4]}, "models"),
    ],
)
def test_what_does_not_go_together_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec(**{"models": ["ViT_Baseline"], **changes})
