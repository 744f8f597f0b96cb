"""How a training is watched, and how it ends early."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


class TrainingError(RuntimeError):
    """The training cannot go on, for example because the loss is no longer finite; another try
    would end the same way.
    """


class Interrupted(Exception):  # no error: the training did as it was asked
    """The training was asked to stop, and its checkpoint is saved."""


@dataclass(frozen=True)
class Watch:
    """How a training is watched: it calls `beat` with every batch, and stops after the batch where
    `stop` says so.

    `spent` is asked on all ranks with every checkpoint, which sums it over the processes that
    worked on the training.
    """

    beat: Callable[[], None] = lambda: None
    stop: Callable[[], bool] = lambda: False
    spent: Callable[[], Mapping[str, float]] = dict
