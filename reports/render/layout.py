"""A table as values, and the same table as Markdown and CSV; LaTeX and the page have modules of
their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pandas as pd
from markupsafe import Markup

from record.metric import Metric
from record.names import spreadsheet_text

LONG = 48  # characters from which a cell's text may wrap


@dataclass(frozen=True)
class Cell:
    """`text` as shown; `best` is set in bold, `star` marks a significant value, `sort` orders the
    HTML column.
    """

    text: str
    best: bool = False
    star: bool = False
    sort: float | None = None


@dataclass(frozen=True)
class Table:
    """One table of the report.

    `align`: a letter per column, `l` or `r`. `caption` says n, definitions and corrections, so that
    the table can be read alone. `footer` stands under it (a count line). In print the first
    `grouped` columns become headings over their rows, and the next `keys` stand in every part of a
    table that is too wide for one.
    """

    title: str
    header: Sequence[str]
    align: str
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    footer: str = ""
    grouped: int = 0
    keys: int = 1


# Where the page has a section: in view, folded, or nowhere, so that it has its files only.
Place = Literal["shown", "folded", "file"]


@dataclass(frozen=True)
class Section:
    """One numbered part of the report: its tables, the same rows as data, and notes on how to read
    them.

    `name` is the file name of `NAME.md`, `NAME.tex` and `NAME.csv`. `opening` stands above the
    tables; `remarks` are those of the notes that the page never folds. `short` are tables of fewer
    columns, which the page shows instead, with `tables` folded beneath; `column` are those for a
    printed column: where there are any, `NAME.tex` has them, and `NAME_full.tex` has `tables`.
    `html` stands in the page after the tables, for what Markdown and LaTeX cannot show.
    """

    name: str
    title: str
    tables: Sequence[Table]
    data: pd.DataFrame
    notes: Sequence[str] = field(default=())
    opening: Sequence[str] = field(default=())
    remarks: Sequence[str] = field(default=())
    short: Sequence[Table] = field(default=())
    column: Sequence[Table] = field(default=())
    place: Place = "shown"
    html: Markup = field(default=Markup(""))


@dataclass(frozen=True)
class Headline:
    """What a comparison comes to in one sentence: the models, what was found, the verdict and on
    how much it rests. `others`: what its remaining rows say; `failed`: which of the models failed,
    before all of it.
    """

    models: str
    found: str
    verdict: str
    basis: str = ""
    others: str = ""
    failed: str = ""

    def __str__(self) -> str:
        basis = f" ({self.basis})" if self.basis else ""
        others = f" {self.others}" if self.others else ""
        failed = f"{self.failed}; " if self.failed else ""
        return f"{self.models}: {failed}{self.found}: {self.verdict}{basis}.{others}"


def text_cell(text: object) -> Cell:
    """A cell that holds words."""
    return Cell(str(text))


def fixed(value: float, digits: int, *, sign: bool = False) -> str:
    """A number with its thousands apart; one that prints as zero has no sign, since it would be
    neither negative nor positive to a reader.
    """
    text = f"{value:z,.{digits}f}"
    return f"+{text}" if sign and value > 0 and text.strip("0.") else text


def number(
    value: float, digits: int = 3, *, sign: bool = False, best: bool = False, unit: str = ""
) -> Cell:
    """A cell that holds a number; NaN is an empty cell."""
    if pd.isna(value):
        return Cell("")
    return Cell(f"{fixed(value, digits, sign=sign)}{unit}", best=best, sort=float(value))


def spread(mean: float, deviation: float, digits: int = 3, *, best: bool = False) -> Cell:
    """Mean ± standard deviation; without a deviation (one value) the mean alone."""
    if pd.isna(mean):
        return Cell("")
    rest = "" if pd.isna(deviation) else f" ± {deviation:.{digits}f}"
    return Cell(f"{mean:z.{digits}f}{rest}", best=best, sort=float(mean))


def spread_over(tasks: int) -> str:
    """What `spread` shows of this many tasks, in words: of one there is no deviation."""
    several = f"mean ± standard deviation over the {tasks} tasks"
    return "mean over the cases of the one task" if tasks == 1 else several


def stands_out(value: float, best: float, values: Iterable[float], digits: int = 3) -> bool:
    """Whether a value is the best one of `values`, and another one is worse, as they are printed:
    what prints alike is not told apart by bold letters.
    """
    printed = {f"{one:.{digits}f}" for one in values if not pd.isna(one)}
    return len(printed) > 1 and f"{value:.{digits}f}" == f"{best:.{digits}f}"


def percent_change(percent: float, baseline: float, digits: int = 3) -> Cell:
    """A change in percent of a baseline; empty where the baseline prints as 0."""
    zero = pd.isna(baseline) or not float(f"{baseline:.{digits}f}")
    return Cell("") if zero else number(percent, 1, sign=True, unit="%")


def of_fewer(cell: Cell, few: int, tasks: int) -> Cell:
    """A mean over tasks that says of how many it is, where the row counts more."""
    if not cell.text or few >= tasks:
        return cell
    return replace(cell, text=f"{cell.text}, {few} task{'s' if few > 1 else ''}")


def titled(metric: Metric) -> str:
    """A metric's title with its unit: `Dice`, `HD95 [mm]`."""
    return f"{metric.title} [{metric.unit}]" if metric.unit else metric.title


def share(fraction: float) -> str:
    """A training fraction as text: `full`, `10%`."""
    return "full" if fraction == 1 else f"{fraction:.0%}"


def to_csv(frame: pd.DataFrame) -> str:
    """Every column at full precision (shortest digits that read back the same float); no text is a
    formula to a spreadsheet (`record.names.spreadsheet_text`).
    """
    texts = frame.select_dtypes(["object", "string", "category"]).columns
    shown = frame.assign(**{name: frame[name].map(_in_csv) for name in texts})
    return shown.rename(columns=_in_csv).to_csv(index=False, lineterminator="\n")


def _in_csv(value: Any) -> Any:
    # A lone carriage return, which Python's writer does not quote, would begin another row.
    return spreadsheet_text(value.replace("\r", " ")) if isinstance(value, str) else value


def has_failed(banner: Sequence[tuple[str, str]]) -> bool:
    """Whether a banner says that a model failed: then it stands before the sentences."""
    return any(mark == "failed" for mark, _ in banner)


def to_markdown(section: Section, study: str, banner: Sequence[tuple[str, str]] = ()) -> str:
    """The section as a Markdown document; the best value is bold.

    Args:
        section: tables and texts.
        study: its name.
        banner: a mark and a text each, under the opening; above it where a model failed.
    """
    lines = [text for mark, said in banner for text in (f"> **{mark}**: {markdown(said)}", ">")]
    quoted = [*lines[:-1], ""] if lines else []
    opening = [line for paragraph in section.opening for line in (begun(paragraph), "")]
    parts = [f"# {markdown(f'{section.title}: {study}')}", ""]
    parts += [*quoted, *opening] if has_failed(banner) else [*opening, *quoted]
    for table in section.tables:
        if table.title:
            parts += [f"## {markdown(table.title)}", ""]
        rules = ["---:" if letter == "r" else "---" for letter in table.align]
        parts += [_line([markdown(name) for name in table.header]), _line(rules)]
        parts += [_line([_markdown(cell) for cell in row]) for row in table.rows]
        parts += ["", *([begun(table.footer), ""] if table.footer else [])]
    parts += [f"- {begun(note)}" for note in section.notes]
    return "\n".join(parts) + "\n"


# What may stand for markup in GitHub's Markdown wherever it is: the end of a table's cell, a tag or
# an address in angle brackets, a link or an image, the target of a link, a formula, an escape.
_MARKUP = re.compile(r"[|\\$]|<(?=[A-Za-z/!?])|(?<=\])[(\[]")
# What begins another block at the beginning of a line.
_BLOCK = re.compile(r"#|>|\[|[+*-](\s|$)|~~~|```|\d+[.)](\s|$)")


def markdown(text: str) -> str:
    """Text as Markdown that shows it; it neither ends its line nor is anything but text."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.splitlines()))


def begun(text: str) -> str:
    """`markdown` of a text that begins a line."""
    shown = markdown(text).lstrip()
    if not _BLOCK.match(shown):
        return shown
    digits = len(shown) - len(shown.lstrip("0123456789"))
    return f"{shown[:digits]}\\{shown[digits:]}"


def _markdown(cell: Cell) -> str:
    body = markdown(cell.text)
    return f"**{body}**" if cell.best and body else body


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
