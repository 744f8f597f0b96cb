"""What the metrics are and how each is read: plain data, imported by code that must start fast.

A row of `METRICS` is all that tables, tests, tracking and documentation know of a metric; they get
it through the study's plan, and none of them asks for a metric by its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True)
class MetricInfo:
    """How a metric is read. The defaults are those of a ratio of voxel counts.

    Attributes:
        title: its name in tables.
        unit: `""` for a ratio.
        higher_is_better: which way is better.
        digits: decimals in tables.
        perfect: the value of a perfect prediction.
        empty: what counts where the truth has no voxels. `by-spec`: what `evaluation.both_empty`
            says (left out, or scored, and perfect where the prediction has none either);
            `undefined`: never a value; `defined`: a value as of any other case.
        distance: between surfaces, so infinite where only one of the masks has voxels; a mean
            counts the volume's diagonal there.
    """

    title: str
    unit: str = ""
    higher_is_better: bool = True
    digits: int = 3
    perfect: float = 1.0
    empty: Literal["by-spec", "undefined", "defined"] = "by-spec"
    distance: bool = False


def _distance(title: str) -> MetricInfo:
    return MetricInfo(
        title, unit="mm", higher_is_better=False, digits=2, perfect=0.0, distance=True
    )


USUAL: Final[dict[str, MetricInfo]] = {
    "dice": MetricInfo("Dice"),
    "jaccard": MetricInfo("Jaccard"),
    "sensitivity": MetricInfo("Sensitivity", empty="undefined"),  # no structure, no share of it
    "specificity": MetricInfo("Specificity", empty="defined"),
    "precision": MetricInfo("Precision"),
    "accuracy": MetricInfo("Accuracy", empty="defined"),
    "false_positive_volume": MetricInfo(
        "FP volume", unit="ml", higher_is_better=False, perfect=0.0, empty="defined"
    ),
    "nsd": MetricInfo("NSD"),
    "hd95": _distance("HD95"),
    "hd": _distance("HD"),
    "assd": _distance("ASSD"),
}
_OF_STRUCTURES: Final[dict[str, MetricInfo]] = {
    "lesion_f1": MetricInfo("Lesion F1"),
    "lesion_sensitivity": MetricInfo("Lesion sensitivity", empty="undefined"),
    "lesion_false_positives": MetricInfo(
        "FP lesions", higher_is_better=False, digits=1, perfect=0.0, empty="defined"
    ),
    "cldice": MetricInfo("clDice"),
    "volume_error": MetricInfo(
        "Volume error", higher_is_better=False, perfect=0.0, empty="undefined"
    ),
}
METRICS: Final[dict[str, MetricInfo]] = USUAL | _OF_STRUCTURES

# What is computed where it is asked for alone (`medvision.metrics.structures`), by what it takes.
Further = Literal["lesions", "centrelines", "volumes"]
FURTHER: Final[dict[Further, tuple[str, ...]]] = {
    "lesions": ("lesion_f1", "lesion_sensitivity", "lesion_false_positives"),
    "centrelines": ("cldice",),
    "volumes": ("volume_error",),
}

# The definitions of a surface distance; medvision.metrics.case.evaluate_case says what each one
# means.
SURFACES: Final = ("surfel", "voxel-max", "voxel-pooled")

STATUSES: Final = ("ok", "missed", "spurious", "both-empty")


def nsd_key(tolerance: float) -> str:
    """The result's key of the NSD at one tolerance in mm: `nsd@1.0`."""
    return f"nsd@{float(tolerance)}"
