"""Calls a metric of one's own, and tries it before anything is scored."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medvision.metrics.settings import OwnMetric
from medvision.own_code import OwnCodeError, check_call, loaded, where

_GIVEN = ("prediction", "truth", "spacing")


def measured(
    metric: OwnMetric, prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float]
) -> float:
    """The finite number of one case and label group, NaN for none.

    An infinity is refused: the report caps those of the built-in distances alone, whose cap it
    knows, and a NaN of one model only would be an error in its tests.

    Args:
        metric: whose function is called.
        prediction: bool [X, Y, Z]; the function gets a copy.
        truth: the same.
        spacing: mm along X, Y and Z.

    Raises:
        OwnCodeError: the function fails, or returns anything but a number, or an infinity.
    """
    function = loaded(metric.function, metric.files)
    masks = [np.array(mask, dtype=bool) for mask in (prediction, truth)]
    try:
        value = function(*masks, tuple(float(edge) for edge in spacing))
    except Exception as error:
        raise OwnCodeError(f"{metric.function}: {where(error)}") from error
    number = isinstance(value, int | float | np.integer | np.floating)
    if not number or isinstance(value, bool):
        raise OwnCodeError(
            f"{metric.function}: returned {type(value).__name__}, expected a number, NaN for none"
        )
    if math.isinf(value):
        raise OwnCodeError(
            f"{metric.function}: returned {float(value)}, expected a finite number, NaN for none: "
            "return a bound instead, such as the volume's diagonal for a distance"
        )
    return float(value)


def check(metric: OwnMetric) -> None:
    """Call it for two balls, for two empty masks, and for one of each.

    Raises:
        OwnCodeError: it cannot be imported or called so.
    """
    check_call(metric.function, loaded(metric.function, metric.files), dict.fromkeys(_GIVEN))
    places = np.moveaxis(np.indices((9, 8, 7)), 0, -1)
    ball, moved = (np.linalg.norm(places - centre, axis=-1) < 3 for centre in (3, 4))
    empty = np.zeros_like(ball)
    for prediction, truth, kind in (
        (ball, moved, "two overlapping balls"),
        (empty, moved, "an empty prediction"),
        (ball, empty, "an empty truth"),
        (empty, empty, "two empty masks"),
    ):
        try:
            measured(metric, prediction, truth, (1.0, 1.0, 2.5))
        except OwnCodeError as error:
            raise OwnCodeError(f"{error}; given {kind}") from error
