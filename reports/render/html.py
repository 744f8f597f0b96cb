"""The report as one HTML page that opens offline: every table, sortable, and every figure
embedded.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import jinja2

from reports.render.layout import LONG, Cell, Section

_VERDICTS = {
    "confirmed": "confirmed",
    "contradicted": "contradicted",
    "cannot be tested": "untested",
}


@dataclass(frozen=True)
class Figure:
    """A figure's file name without suffix, its caption, and its two files."""

    name: str
    caption: str
    png: bytes
    pdf: bytes

    @property
    def data(self) -> str:
        """The PNG in base64, to embed it in a page."""
        return base64.b64encode(self.png).decode()


def page(
    study: str,
    facts: Sequence[tuple[str, str]],
    sections: Sequence[Section],
    figures: Sequence[Figure],
) -> str:
    """The whole page; loads nothing from anywhere.

    Args:
        facts: name and value pairs shown at the top.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reports.render"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    template = environment.get_template("report.html.j2")
    return template.render(
        study=study, facts=facts, sections=sections, figures=figures, classes=_classes
    )


def _classes(cell: Cell, align: str) -> str:
    found = ["r"] if align == "r" else []
    if len(cell.text) > LONG:
        found.append("long")
    if cell.text in _VERDICTS:
        found.append(_VERDICTS[cell.text])
    return " ".join(found)
