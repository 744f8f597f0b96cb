"""The report as one HTML page that opens offline: what it comes to first, then pictures, tables and
what stands behind them; every figure embedded.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jinja2

from reports.render.layout import LONG, Cell, Headline, Section, has_failed

_CLASSES = {
    "confirmed": "good",
    "contradicted": "bad",
    "cannot be tested": "open",
}
_VERDICTS = {  # how a verdict begins -> its class
    "significant": "found",
    "these trainings only": "open",
    "not testable": "open",
    "incomplete": "bad",
}
LEGIBLE = 6.5  # inches; a phone shows a wider figure in a frame that scrolls
OPENING = 6  # comparisons whose figure stands on top of the page
PAGE, COLUMN = "_page", "_column"  # how a figure that is drawn at two widths is named


@dataclass(frozen=True)
class Figure:
    """A figure's file name without suffix, its caption, its files by suffix (png and pdf), its
    width, and whether it goes on with what the figure before it began.
    """

    name: str
    caption: str
    files: Mapping[str, bytes]
    inches: float = 0.0
    follows: bool = False

    @property
    def png(self) -> bytes:
        """The picture."""
        return self.files["png"]

    @property
    def pdf(self) -> bytes:
        """The same as vectors."""
        return self.files["pdf"]

    @property
    def data(self) -> str:
        """The PNG in base64, to embed it in a page."""
        return base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Page:
    """All that a page shows. `facts`: name and value pairs beside the study's name; `headlines`:
    what each comparison comes to; `banner`: `failed` or `note` and a text each, under the
    headlines, above them where a model failed.

    Figures stand below the headlines (`first`), before the tables (`pictures`), after them
    (`more`), or folded at the end (`paper`). One of two widths is shown as wide as the window
    allows.
    """

    study: str
    sections: Sequence[Section]
    facts: Sequence[tuple[str, str]] = ()
    headlines: Sequence[Headline] = ()
    banner: Sequence[tuple[str, str]] = field(default=())
    first: Sequence[Figure] = field(default=())
    pictures: Sequence[Figure] = field(default=())
    more: Sequence[Figure] = field(default=())
    paper: Sequence[Figure] = field(default=())

    @property
    def figures(self) -> list[Figure]:
        """All of them, at every width."""
        return [*self.first, *self.pictures, *self.more, *self.paper]


def page(of: Page) -> str:
    """The whole page; loads nothing from anywhere."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reports.render"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    template = environment.get_template("report.html.j2")
    places = {
        place: [section for section in of.sections if section.place == place]
        for place in ("shown", "folded", "file")
    }
    return template.render(
        of=of,
        places=places,
        narrow={
            f"{figure.name.removesuffix(COLUMN)}{PAGE}": figure
            for figure in of.figures
            if figure.name.endswith(COLUMN)
        },
        wide=wide,
        first=opening(of.first),
        failed=has_failed(of.banner),
        legible=LEGIBLE,
        classes=_classes,
    )


def wide(figures: Sequence[Figure]) -> list[Figure]:
    """Without those that are drawn for a narrow column, too."""
    return [figure for figure in figures if not figure.name.endswith(COLUMN)]


def opening(figures: Sequence[Figure]) -> tuple[list[Figure], list[Figure], str]:
    """Figures that stand under the headlines, one for each comparison; those that are folded; and
    what these are.
    """
    leading = [figure for figure in wide(figures) if not figure.follows]
    shown = leading[:OPENING]
    folded = [figure for figure in wide(figures) if figure not in shown]
    others = len(leading) - len(shown)
    what = ["the other rows of these comparisons"] if len(folded) > others else []
    what += [f"{others} more comparison{'' if others == 1 else 's'}"] if others else []
    return shown, folded, f"More forest plots: {' and '.join(what)}"


def _classes(cell: Cell, align: str) -> str:
    found = ["r"] if align == "r" else []
    if len(cell.text) > LONG:
        found.append("long")
    if cell.text in _CLASSES:
        found.append(_CLASSES[cell.text])
    found += [name for word, name in _VERDICTS.items() if cell.text.startswith(word)]
    return " ".join(found)
