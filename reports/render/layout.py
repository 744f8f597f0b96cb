"""A table as values, and the same table as Markdown, LaTeX (booktabs) and for the HTML page."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from record.metric import Metric

LATEX_ROWS = 40  # what fits on one landscape page
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
    the table can be read alone. `footer` stands under it (a count line).
    """

    title: str
    header: Sequence[str]
    align: str
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    footer: str = ""


@dataclass(frozen=True)
class Section:
    """One numbered part of the report: its tables, the same rows as data, and notes on how to read
    them.

    `name` is the file name of `NAME.md`, `NAME.tex` and `NAME.csv`.
    """

    name: str
    title: str
    tables: Sequence[Table]
    data: pd.DataFrame
    notes: Sequence[str] = field(default=())


def text_cell(text: object) -> Cell:
    """A cell that holds words."""
    return Cell(str(text))


def number(
    value: float, digits: int = 3, *, sign: bool = False, best: bool = False, unit: str = ""
) -> Cell:
    """A cell that holds a number; NaN is an empty cell."""
    if pd.isna(value):
        return Cell("")
    return Cell(f"{value:{'+' if sign else ''},.{digits}f}{unit}", best=best, sort=float(value))


def spread(mean: float, deviation: float, digits: int = 3, *, best: bool = False) -> Cell:
    """Mean ± standard deviation; without a deviation (one value) the mean alone."""
    if pd.isna(mean):
        return Cell("")
    rest = "" if pd.isna(deviation) else f" ± {deviation:.{digits}f}"
    return Cell(f"{mean:.{digits}f}{rest}", best=best, sort=float(mean))


def titled(metric: Metric) -> str:
    """A metric's title with its unit: `Dice`, `HD95 [mm]`."""
    return f"{metric.title} [{metric.unit}]" if metric.unit else metric.title


def share(fraction: float) -> str:
    """A training fraction as text: `full`, `10%`."""
    return "full" if fraction == 1 else f"{fraction:.0%}"


def to_csv(frame: pd.DataFrame) -> str:
    """Every column at full precision (shortest digits that read back the same float)."""
    return frame.to_csv(index=False, lineterminator="\n")


def to_markdown(section: Section, study: str) -> str:
    """The section as a Markdown document; the best value is bold."""
    parts = [f"# {section.title}: {study}", ""]
    for table in section.tables:
        if table.title:
            parts += [f"## {table.title}", ""]
        rules = ["---:" if letter == "r" else "---" for letter in table.align]
        parts += [_line(table.header), _line(rules)]
        parts += [_line([_markdown(cell) for cell in row]) for row in table.rows]
        parts += ["", *([table.footer, ""] if table.footer else [])]
    parts += [f"- {note}" for note in section.notes]
    return "\n".join(parts) + "\n"


def to_latex(section: Section) -> str:
    """`table` environments for `\\usepackage{booktabs,graphicx}`, cut where a page ends; stars mark
    significance.
    """
    parts = ["% \\usepackage{booktabs,graphicx} is needed."]
    for table in section.tables:
        caption = " ".join(
            text
            for text in (f"{table.title or section.title}.", table.footer, table.caption)
            if text
        )
        for start in range(0, max(len(table.rows), 1), LATEX_ROWS):
            head = (
                tex(caption) if start == 0 else tex(f"{table.title or section.title} (continued).")
            )
            rows = [
                " & ".join(_tex_cell(cell) for cell in row)
                for row in table.rows[start : start + LATEX_ROWS]
            ]
            parts += [
                "",
                r"\begin{table}[p]",
                r"\centering",
                rf"\caption{{{head}}}",
                r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
                rf"\begin{{tabular}}{{{_columns(table)}}}",
                r"\toprule",
                " & ".join(tex(name) for name in table.header) + r" \\",
                r"\midrule",
                *(row + r" \\" for row in rows),
                r"\bottomrule",
                r"\end{tabular}}",
                r"\end{table}",
            ]
    return "\n".join(parts) + "\n"


def latex_document(names: Sequence[str], figures: Sequence[str], study: str) -> str:
    """A document that takes in every table and figure of the report, to be compiled beside them."""
    body = [rf"\input{{{name}}}" + "\n" + r"\clearpage" for name in names]
    for name in figures:
        title = tex(name.removesuffix(".pdf").replace("_", " "))
        body.append(
            r"\begin{figure}[p]\centering"
            r"\includegraphics[width=\textwidth,height=0.85\textheight,keepaspectratio]"
            rf"{{{name}}}\caption{{{title}}}\end{{figure}}\clearpage"
        )
    return "\n".join(
        [
            r"\documentclass{article}",
            r"\usepackage[landscape,margin=1.5cm]{geometry}",
            r"\usepackage[T1]{fontenc}",
            r"\usepackage{booktabs,graphicx}",
            r"\begin{document}",
            rf"\section*{{{tex(study)}}}",
            *body,
            r"\end{document}",
            "",
        ]
    )


def _columns(table: Table) -> str:
    """LaTeX columns: one that holds long texts gets a width, so that it wraps instead of shrinking
    the table.
    """
    longest = [
        max((len(row[index].text) for row in table.rows), default=0)
        for index in range(len(table.align))
    ]
    long = sum(length > LONG for length in longest)
    return "".join(
        rf"p{{{0.8 / long - 0.1 * (long > 1):.2f}\textwidth}}"
        if length > LONG and long <= 3
        else letter
        for letter, length in zip(table.align, longest, strict=True)
    )


_TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "−": "$-$",
    "×": r"$\times$",
    "∞": r"$\infty$",
    "–": "--",
    "…": r"\dots{}",
    "\n": " ",
}


def tex(text: str) -> str:
    """Text for LaTeX; what pdflatex's default encoding lacks becomes its plain form, or `?`."""
    return "".join(_TEX.get(character) or _tex_plain(character) for character in text)


def _tex_plain(character: str) -> str:
    if character.isascii():
        return character
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain or "?"


def _tex_cell(cell: Cell) -> str:
    body = rf"\textbf{{{tex(cell.text)}}}" if cell.best and cell.text else tex(cell.text)
    return body + ("$^{*}$" if cell.star else "")


def _markdown(cell: Cell) -> str:
    body = cell.text.replace("|", "\\|").replace("\n", " ")
    return f"**{body}**" if cell.best and body else body


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
