"""Exact and fast per-case metrics of two binary masks: overlap, NSD, Hausdorff and average surface
distance.

`evaluate_case` computes them, `METRICS` says how each is read. Importing this package costs next to
nothing: numpy comes with the name `evaluate_case`, numba with its first call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medvision.metrics.definitions import (
    METRICS,
    STATUSES,
    SURFACES,
    MetricInfo,
    nsd_key,
)

if TYPE_CHECKING:
    from medvision.metrics.case import evaluate_case

__all__ = ["METRICS", "STATUSES", "SURFACES", "MetricInfo", "evaluate_case", "nsd_key"]


def __getattr__(name: str) -> Any:
    if name == "evaluate_case":
        from medvision.metrics.case import evaluate_case

        return evaluate_case
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
