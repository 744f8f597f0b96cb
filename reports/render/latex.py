"""Tables as LaTeX that needs nothing but `booktabs` and fits: one printed column where a section
has tables for that, the width of a page otherwise.

No table is scaled. Widths are estimated from those of Computer Modern; what is too wide for the
page is cut into parts between columns, what is too long between rows, and long texts wrap.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence

from reports.render.layout import Cell, Section, Table
from reports.render.tex import breakable, slug, tex, tex_cell, width_of

COLUMN, PAGE = (
    229.0,
    345.0,
)  # points: a column of a two-column article, the text of a one-column one
GAP = 6.0  # points between two columns
LINES = 40  # rows of a part, as lines of its size
NOTES = 56  # lines with the notes below; longer ones follow as text
WRAPS = 130.0  # points from which a column wraps
NARROWEST = 95.0  # points that a wrapped column gets, at least
SIZE = "scriptsize"  # 7 points in an article of 10
DIGIT = 3.98  # points: the width of a digit of that size
RAGGED = 1.35  # of a wrapped text's length: what its ragged lines leave empty


def to_latex(section: Section, study: str = "") -> str:
    """The section's tables for a printed column, or its tables across the page where it has none.

    Args:
        study: begins every label.
    """
    tables = section.column or section.tables
    return _document(section, study, tables, COLUMN if section.column else PAGE)


def full_latex(section: Section, study: str = "") -> str:
    """All columns of the section's tables, across the page, for a supplement."""
    return _document(section, study, section.tables, PAGE, suffix="-full")


def _document(
    section: Section, study: str, tables: Sequence[Table], width: float, suffix: str = ""
) -> str:
    parts = ["% \\usepackage{booktabs} is needed."]
    for table in tables:
        title = table.title or section.title
        several = f"-{slug(table.title)}" if len(tables) > 1 else ""
        name = f"tab:{slug(f'{study} {section.name}')}{several}{suffix}"
        parts += _floats(table, title, name, width)
    return "\n".join(parts) + "\n"


def _floats(table: Table, title: str, name: str, width: float) -> list[str]:
    """The environments of one table, a part for each block of columns and each cut of rows."""
    natural = _natural(table)  # once: it reads every cell
    cuts = [
        (block, wrapped, lines, rows)
        for block in _blocks(table, natural, width)
        for wrapped in [_widths(natural, block, width)]
        for lines in [[_lines(row, wrapped) for row in table.rows]]
        for rows in _cut(lines)
    ]
    notes = " ".join(text for text in (table.footer, table.caption) if text)
    found: list[str] = []
    for number, (block, wrapped, lines, rows) in enumerate(cuts, start=1):
        last = number == len(cuts)
        part = f", part {number} of {len(cuts)}" if len(cuts) > 1 else ""
        label = name if number == 1 else f"{name}-{number}"
        high = sum(lines[row] for row in rows) + width_of(notes) * DIGIT / width * 1.05
        below = last and bool(notes) and high < NOTES
        starred = "" if width <= COLUMN else "*"
        found += [
            "",
            rf"\begin{{table{starred}}}[{'htp' if starred else 'htbp'}]",
            r"\centering",
            rf"\caption{{{tex(title + part)}.}}",
            rf"\label{{{label}}}",
            rf"\{SIZE}\setlength{{\tabcolsep}}{{{GAP / 2:g}pt}}",
            *_tabular(table, block, rows, natural, wrapped, width),
            *([_notes(notes)] if below else []),
            rf"\end{{table{starred}}}",
        ]
        if last and notes and not below:  # a float would be longer than the page
            found += [r"{\noindent" + rf"\{SIZE}\raggedright {breakable(notes)}\par}}"]
    return found


def _notes(text: str) -> str:
    return rf"\par\smallskip\parbox{{\linewidth}}{{\raggedright {breakable(text)}}}"


def _natural(table: Table) -> list[float]:
    """Width of each column in points, by its cells and the longest word of its header."""
    found = []
    for index, name in enumerate(table.header):
        cells = [width_of(row[index].text, bold=row[index].best) for row in table.rows]
        stars = [0.9 * row[index].star for row in table.rows]
        longest = max((cell + star for cell, star in zip(cells, stars, strict=True)), default=0)
        found.append(DIGIT * max(longest, *(width_of(word) for word in _header(name, longest))))
    return found


def _header(name: str, width: float) -> list[str]:
    """A header in lines that are about as wide as its column."""
    lines: list[str] = []
    for word in name.split():
        if lines and width_of(f"{lines[-1]} {word}") <= max(width, 5.0):
            lines[-1] = f"{lines[-1]} {word}"
        else:
            lines.append(word)
    return lines or [""]


def _blocks(table: Table, natural: Sequence[float], width: float) -> list[list[int]]:
    """Columns of each part of a table that is too wide for one; the keys stand in each. No more
    parts than needed, and of about the same width.
    """
    fewest = _filled(table, natural, width)
    narrower = (_filled(table, natural, width * share / 20) for share in range(8, 20))
    return next((blocks for blocks in narrower if len(blocks) == len(fewest)), fewest)


def _filled(table: Table, natural: Sequence[float], width: float) -> list[list[int]]:
    """Columns one after the other, a new part wherever the next one does not fit."""
    first = list(range(table.grouped, table.grouped + table.keys))

    def needs(columns: Sequence[int]) -> float:
        narrowest = (NARROWEST if natural[one] > WRAPS else natural[one] for one in columns)
        return sum(narrowest) + GAP * (len(columns) - 1)

    blocks = [first.copy()]
    for column in range(len(first) + table.grouped, len(table.header)):
        if len(blocks[-1]) > len(first) and needs([*blocks[-1], column]) > width:
            blocks.append(first.copy())
        blocks[-1].append(column)
    return blocks


def _widths(natural: Sequence[float], block: Sequence[int], width: float) -> dict[int, float]:
    """Points of the columns that wrap; they share what the others leave, the narrow ones first."""
    total = sum(natural[column] for column in block) + GAP * (len(block) - 1)
    if total <= width:
        return {}
    wrapped = [column for column in block if natural[column] > WRAPS] or [block[0]]
    left = width - (total - sum(natural[column] for column in wrapped)) - 1
    found: dict[int, float] = {}
    for place, column in enumerate(sorted(wrapped, key=lambda one: natural[one])):
        found[column] = min(natural[column], left / (len(wrapped) - place))
        left -= found[column]
    return found


def _lines(cells: Sequence[Cell], wrapped: Mapping[int, float]) -> int:
    """Lines of a row, by its longest wrapped cell."""
    return max(
        (
            math.ceil(RAGGED * width_of(cells[column].text) * DIGIT / max(points, 1)) or 1
            for column, points in wrapped.items()
        ),
        default=1,
    )


def _cut(lines: Sequence[int]) -> list[list[int]]:
    """Rows of each part of a table that is too long for one page, by the lines of each row."""
    found: list[list[int]] = [[]]
    filled = 0
    for row, here in enumerate(lines):
        if found[-1] and filled + here > LINES:
            found.append([])
            filled = 0
        found[-1].append(row)
        filled += here
    return found


def _tabular(
    table: Table,
    block: Sequence[int],
    rows: Sequence[int],
    natural: Sequence[float],
    wrapped: Mapping[int, float],
    width: float,
) -> list[str]:
    columns = "".join(
        rf"p{{{wrapped[column]:.1f}pt}}" if column in wrapped else table.align[column]
        for column in block
    )
    heads = [
        rf"{{\raggedright {breakable(table.header[column])}\par}}"
        if column in wrapped
        else _head(table, column, natural[column])
        for column in block
    ]
    body: list[str] = []
    for heading, members in itertools.groupby(
        rows, lambda row: tuple(cell.text for cell in table.rows[row][: table.grouped])
    ):
        if table.grouped:
            body += [r"\addlinespace"] if body else []
            body.append(_heading(table, heading, len(block), width))
        for row in members:
            cells = [tex_cell(table.rows[row][column], wrap=column in wrapped) for column in block]
            body.append(" & ".join(cells) + r" \\")
    return [
        rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _head(table: Table, column: int, points: float) -> str:
    lines = [tex(line) for line in _header(table.header[column], points / DIGIT)]
    if len(lines) == 1:
        return lines[0]
    stacked = r"\\{}".join(lines)  # LaTeX would take a line that begins with [ for an argument
    return rf"\shortstack[{table.align[column]}]{{{stacked}}}"


def _heading(table: Table, values: Sequence[str], columns: int, width: float) -> str:
    text = ", ".join(value for value in values if value)
    shown = rf"\textit{{{tex(text)}}}"
    if width_of(text) * DIGIT > width:
        shown = rf"\parbox[t]{{{width - 1:.0f}pt}}{{\raggedright\textit{{{breakable(text)}}}}}"
    return rf"\multicolumn{{{columns}}}{{@{{}}l@{{}}}}{{{shown}}} \\"


def latex_document(
    study: str,
    opening: Sequence[str],
    names: Sequence[str],
    figures: Sequence[tuple[str, str]],
    supplement: Sequence[str] = (),
) -> str:
    """A document of the report's tables and figures, to be compiled beside them.

    Args:
        opening: what it begins with, a paragraph each.
        names: files of tables.
        figures: file and caption of each.
        supplement: files of tables that stand after the figures.
    """
    body = [rf"\section*{{{tex(study)}}}", r"\raggedright"]
    body += [breakable(paragraph) + "\n" for paragraph in opening]
    body += [rf"\input{{{name}}}" for name in names]
    body.append(r"\clearpage")
    for name, caption in figures:
        label = slug(re.sub(r"\.\w+$", "", name))
        body.append(
            r"\begin{figure}[tp]\centering"
            r"\includegraphics[width=\textwidth,height=0.75\textheight,keepaspectratio]"
            rf"{{{name}}}\caption{{{breakable(caption)}}}\label{{fig:{label}}}\end{{figure}}"
        )
    if supplement:
        # Without the last word the first table would float above its own heading.
        body += [r"\clearpage", r"\section*{Supplement: all columns}", r"\suppressfloats[t]"]
        body += [rf"\input{{{name}}}" for name in supplement]
    return "\n".join(
        [
            r"\documentclass{article}",
            r"\usepackage[a4paper,margin=2.2cm]{geometry}",
            r"\usepackage[T1]{fontenc}",
            r"\usepackage{booktabs,graphicx}",
            r"\extrafloats{500}",
            r"\begin{document}",
            *body,
            r"\end{document}",
            "",
        ]
    )
