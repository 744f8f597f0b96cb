"""A metric as a plan describes it, and what plans of version 1 left out."""

from __future__ import annotations

from typing import Any, Literal

from record.stored import Stored


class Metric(Stored):
    """How a metric is read: a row of `medvision.metrics.METRICS`, which says what each field means.

    Plans of version 1 hold the first three fields only; `_ROWS_OF_1` has the rest of the metrics of
    that time, and one that it does not know is a distance where its unit is mm, else a ratio.
    """

    higher_is_better: bool
    unit: str
    title: str
    digits: int = 3
    perfect: float = 1.0
    empty: Literal["by-spec", "undefined", "defined"] = "by-spec"
    distance: bool = False

    @classmethod
    def known(cls, name: str, stored: Any = None) -> Metric:
        """A metric of version 1, `stored` as its plans have it."""
        given = {"higher_is_better": True, "unit": "", "title": name} | (stored or {})
        row = _ROWS_OF_1.get(name, _DISTANCE if given["unit"] == "mm" else {})
        return cls.model_validate(row | given if stored else given | row)


_DISTANCE = {
    "higher_is_better": False,
    "unit": "mm",
    "digits": 2,
    "perfect": 0.0,
    "distance": True,
}
_ROWS_OF_1: dict[str, dict[str, Any]] = {
    "sensitivity": {"empty": "undefined"},
    "specificity": {"empty": "defined"},
    "accuracy": {"empty": "defined"},
    **dict.fromkeys(("hd95", "hd", "assd"), _DISTANCE),
}
