"""The two widths at which journals print figures, and how a figure of either is saved."""

from __future__ import annotations

from typing import Any

from reports.figures.printing import finish
from reports.render.html import Figure

WIDTHS = {"column": 3.35, "page": 7.0}  # inches: 85 and 178 mm
DPI = 300
FONT = 7.0  # points, as printed


def save(figure: Any, name: str, width: str, caption: str) -> Figure:
    """The figure as `paper_NAME_WIDTH`."""
    return finish(figure, f"paper_{name}_{width}", caption, dpi=DPI)
