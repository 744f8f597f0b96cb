"""Empty figures, made without pyplot: no window, nothing kept between figures, and no backend of
the caller's.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from record.metric import Metric

BACKEND_VARIABLE = "MPLBACKEND"


def new_figure(
    width: float,
    height: float,
    rows: int = 1,
    columns: int = 1,
    *,
    sharey: bool = False,
    heights: Sequence[float] | None = None,
) -> tuple[Figure, np.ndarray[Any, Any]]:
    """A figure of this size in inches and its axes [rows, columns].

    Args:
        width, height: of the figure.
        rows, columns: of axes.
        sharey: whether the axes of a row share theirs.
        heights: of the rows, relative to each other; equal without them.
    """
    import_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(
        rows, columns, squeeze=False, sharey=sharey, height_ratios=heights
    )


TURNED = "less is better: the axis runs from right to left"


def right_is_better(axis: Any, metric: Metric, size: int = 10) -> None:
    """Name an axis of differences in a metric; where less is better, it is turned and says so."""
    label = f"difference in {metric.title}{f' [{metric.unit}]' if metric.unit else ''}"
    if not metric.higher_is_better:
        axis.invert_xaxis()
        label += f", {TURNED}".replace(": ", ":\n")
    axis.set_xlabel(label, fontsize=size)


def as_written(figure: Figure) -> None:
    """Let no text of a figure be a formula: a `$` in a name is one. Numbers of a logarithmic axis,
    which matplotlib writes as formulas, stay.
    """
    from matplotlib.text import Text

    powers = {
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        if axis.get_scale() == "log"
        for label in axis.get_ticklabels(which="both")
    }
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text not in powers:
            text.set_parse_math(False)


def import_matplotlib() -> None:
    """A notebook names its own backend in MPLBACKEND for all that it starts, and where that is not
    installed matplotlib refuses to be imported, although nothing here asks for a backend.
    """
    if "matplotlib" in sys.modules:
        return
    named = os.environ.pop(BACKEND_VARIABLE, None)
    try:
        import matplotlib as mpl

        with contextlib.suppress(ValueError):
            if named:
                mpl.rcParams["backend"] = named
    finally:
        if named is not None:
            os.environ[BACKEND_VARIABLE] = named
