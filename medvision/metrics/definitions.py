"""What the metrics are called and which way is better: plain data, imported by code that must start
fast.
"""

from __future__ import annotations

from typing import Final, TypedDict


class MetricInfo(TypedDict):
    """How a metric is read: which way is better, its unit (`""` for a ratio) and its title in
    tables.
    """

    higher_is_better: bool
    unit: str
    title: str


METRICS: Final[dict[str, MetricInfo]] = {
    "dice": {"higher_is_better": True, "unit": "", "title": "Dice"},
    "jaccard": {"higher_is_better": True, "unit": "", "title": "Jaccard"},
    "sensitivity": {"higher_is_better": True, "unit": "", "title": "Sensitivity"},
    "specificity": {"higher_is_better": True, "unit": "", "title": "Specificity"},
    "precision": {"higher_is_better": True, "unit": "", "title": "Precision"},
    "accuracy": {"higher_is_better": True, "unit": "", "title": "Accuracy"},
    "nsd": {"higher_is_better": True, "unit": "", "title": "NSD"},
    "hd95": {"higher_is_better": False, "unit": "mm", "title": "HD95"},
    "hd": {"higher_is_better": False, "unit": "mm", "title": "HD"},
    "assd": {"higher_is_better": False, "unit": "mm", "title": "ASSD"},
}

# The definitions of a surface distance; medvision.metrics.case.evaluate_case says what each one
# means.
SURFACES: Final = ("surfel", "voxel-max", "voxel-pooled")

STATUSES: Final = ("ok", "missed", "spurious", "both-empty")


def nsd_key(tolerance: float) -> str:
    """The result's key of the NSD at one tolerance in mm: `nsd@1.0`."""
    return f"nsd@{float(tolerance)}"
