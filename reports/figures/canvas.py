"""Empty figures, made without pyplot: no window, nothing kept between figures, and no backend of
the caller's.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BACKEND_VARIABLE = "MPLBACKEND"


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, *, sharey: bool = False
) -> tuple[Figure, np.ndarray[Any, Any]]:
    """A figure of this size in inches and its axes [rows, columns]."""
    _import_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, sharey=sharey)


def _import_matplotlib() -> None:
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
