"""The significance table as Markdown, LaTeX (booktabs) and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports.significance import count_line

HEADERS = (
    "Task",
    "Data",
    "Metric",
    "n",
    "{baseline}",
    "{candidate}",
    "Difference",
    "p",
    "Holm",
    "BH",
    "Verdict",
)
NOT_TESTABLE = "not testable"


def to_csv(table: pd.DataFrame) -> str:
    """Every column at full precision (shortest digits that read back the same float)."""
    return table.to_csv(index=False, lineterminator="\n")


def to_markdown(table: pd.DataFrame, plan: Mapping[str, Any], notes: Sequence[str]) -> str:
    """One table per comparison, the count of significant rows, and the notes that a reader needs."""
    parts = [f"# Significance: {plan['name']}", ""]
    for (baseline, candidate), rows in _comparisons(table):
        header = [name.format(baseline=baseline, candidate=candidate) for name in HEADERS]
        parts += [f"## {candidate} against {baseline}", ""]
        parts += [_line(header), _line(["---"] * 3 + ["---:"] * 7 + ["---"])]
        parts += [_line([_markdown(text) for text in cells]) for cells in _cells(rows, plan)]
        parts += ["", f"p < 0.05: {count_line(rows)}.", ""]
    parts += [f"- {note}" for note in notes]
    return "\n".join(parts) + "\n"


def to_latex(table: pd.DataFrame, plan: Mapping[str, Any], notes: Sequence[str]) -> str:
    """A document's worth of `table` environments for `\\usepackage{booktabs}`; significant rows carry a star.

    Each table's caption says n, definitions and corrections, so that it can be read alone.
    """
    parts = ["% \\usepackage{booktabs,graphicx} is needed."]
    for (baseline, candidate), rows in _comparisons(table):
        header = [_tex(name.format(baseline=baseline, candidate=candidate)) for name in HEADERS]
        body = []
        for cells, verdict in zip(_cells(rows, plan), rows["verdict"], strict=True):
            marked = [_tex(text) for text in cells]
            if verdict == "significant":
                marked[8] += "$^{*}$"
            body.append(" & ".join(marked) + r" \\")
        caption = f"{candidate} against {baseline}. p < 0.05: {count_line(rows)}. " + " ".join(notes)
        parts += [
            "",
            r"\begin{table}[p]",
            r"\centering",
            rf"\caption{{{_tex(caption)}}}",
            r"\resizebox{\textwidth}{!}{%",
            r"\begin{tabular}{lllrrrrrrrl}",
            r"\toprule",
            " & ".join(header) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
        ]
    return "\n".join(parts) + "\n"


def _comparisons(table: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    groups = table.groupby(["baseline", "candidate"], sort=False)
    return [((str(key[0]), str(key[1])), rows) for key, rows in groups]  # type: ignore[index]


def _cells(rows: pd.DataFrame, plan: Mapping[str, Any]) -> list[list[str]]:
    """Texts of the columns of HEADERS."""
    cells = []
    for row in rows.to_dict("records"):
        info = plan["metrics"][row["metric"]]
        name = f"{info['title']} [{info['unit']}]" if info["unit"] else info["title"]
        digits = 2 if info["unit"] else 3
        fraction = "full" if row["fraction"] == 1 else f"{row['fraction']:.0%}"
        shown = [row["task"], fraction, name, str(row["n"])]
        if str(row["verdict"]).startswith("incomplete"):
            cells.append([*shown, "", "", "", "", "", "", row["verdict"]])
            continue
        for model in ("baseline", "candidate"):
            shown.append(f"{row[f'{model}_mean']:.{digits}f} ± {row[f'{model}_sd']:.{digits}f}")
        shown.append(f"{row['difference']:+.{digits + 1}f}")
        if row["verdict"] == NOT_TESTABLE:
            shown += [NOT_TESTABLE, "", "", f"smallest attainable p {_p(row['p_floor'])}"]
        else:
            favours = f", favours {row['better']}" if row["verdict"] == "significant" else ""
            shown += [_p(row["p"]), _p(row["p_holm"]), _p(row["p_bh"]), f"{row['verdict']}{favours}"]
        cells.append(shown)
    return cells


def _p(value: float) -> str:
    if np.isnan(value):
        return ""
    return f"{value:.1e}" if value < 0.001 else f"{value:.3f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown(text: str) -> str:
    return text.replace("|", "\\|")


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
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)
