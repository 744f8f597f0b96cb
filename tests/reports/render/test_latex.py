"""LaTeX of the report: it keeps to its alphabet, needs booktabs alone, and fits one printed column
or the page.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from record.study import StoredStudy
from reports.build import build_report
from reports.render import latex
from reports.render.latex import latex_document, to_latex
from reports.render.layout import Cell, Section, Table
from reports.render.tex import breakable, file_part, tex
from tests.reports.studies import FOLDS, METRICS, plan, rows, study
from tools.report_screenshots import compile_latex

LONG_NAMES = ("base", "MedVisionLlama_without_adapters_rank_16", "a network of another lab (2024)")


def test_text_keeps_to_the_alphabet_and_minus_signs_are_such() -> None:
    assert tex("é ± 90° 漢") == r"e $\pm$ 90? ?"
    assert tex("-0.011 [-0.017, -0.004]") == "$-$0.011 [$-$0.017, $-$0.004]"
    assert tex("2026-11-29, 1.4e-28, t-skew") == "2026-11-29, 1.4e-28, t-skew"


def test_what_a_character_is_made_of_is_escaped_in_its_turn() -> None:
    assert tex("5\uff05 \uff3cinput\uff5bx\uff5d \uff04") == (
        r"5\% \textbackslash{}input\{x\} \$"
    )  # full-width forms of what TeX obeys
    assert tex("3 \u00b5m, 3 \u03bcm") == r"3 $\mu$m, 3 $\mu$m"
    assert tex("10\u207b\u00b3") == r"10\textsuperscript{$-$}\textsuperscript{3}"
    assert tex("\u00bd") == "1/2"


HOSTILE = [
    "ViT 50%",
    "ViT 50_",
    "a/b",
    "a_b",
    "../../../esc",
    "A B",
    "A_B",
    "A+B",
    "ApB",
    "#{x}$^~",
]
HOSTILE += ["\\input", "\u6f22", "", ".", "x" * 300, "x" * 301, "a.pdf", "net_column", "net"]


def test_names_of_files_are_safe_and_no_two_names_share_one() -> None:
    found = [file_part(name) for name in HOSTILE]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,140}", name) for name in found)
    assert len({*found}) == len(HOSTILE)
    assert not any(name.endswith(("_page", "_column")) for name in found)
    assert file_part("MedVision_rank-16", "base") == "MedVision_rank-16_vs_base"
    assert file_part("a_vs_b", "c") != file_part("a", "b_vs_c")


def test_a_report_of_hostile_names_has_a_file_for_every_figure_inside_its_folder(
    tmp_path: Path,
) -> None:
    models = ("base", "ViT 50%", "../../../esc", "A B", "A_B")
    trials = [
        {"model": model, "task": "T_1", "fraction": 1.0, "fold": fold, "seed": 0}
        | {"train_id": f"t{place}{fold}", "eval_id": f"e{place}{fold}"}
        for place, model in enumerate(models)
        for fold in range(FOLDS)
    ]
    store = study(tmp_path, rows(models=models), plan(models, trials=trials))
    names = build_report(StoredStudy.opened(store)).files
    for kind in ("forest_", "paired_differences_"):
        own = [name for name in names if name.startswith(kind) and name.endswith(".pdf")]
        assert len([name for name in own if not name.endswith("_column.pdf")]) == len(models) - 1
    document = (store.read("report/report.tex") or b"").decode()
    drawn = re.findall(r"keepaspectratio\]\{(.*?)\}\\caption", document)
    assert drawn
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+\.pdf", name) for name in drawn)
    assert {path.parent for path in tmp_path.rglob("*.p[nd][gf]")} == {Path(store.uri) / "report"}


def test_a_table_is_measured_once_however_long_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def width(text: str, **_: bool) -> float:
        measured.append(text)
        return 90.0

    monkeypatch.setattr(latex, "width_of", width)
    table = Table("", ["a", "b"], "ll", [[Cell("x" * 90), Cell("y" * 90)]] * 400)
    parts(table)
    cells = [text for text in measured if text.startswith(("x", "y"))]
    assert len(cells) <= 4 * 400  # natural widths, and lines of what wraps


def test_a_long_name_may_break_and_loses_nothing() -> None:
    for word in ("a" * 40, "MedVision_without_an_adapter", "runs/x/y.parquet"):
        assert breakable(word).replace(r"\allowbreak{}", "") == tex(word)
        assert r"\allowbreak{}" in breakable(word) or len(word) <= 16


def parts(table: Table) -> str:
    return to_latex(Section("s", "S", [table], pd.DataFrame()), "study")


def test_long_tables_are_cut_and_say_which_part_they_are() -> None:
    found = parts(Table("", ["a"], "l", [[Cell("x")]] * 75))
    assert found.count(r"\begin{table*}") == 2
    assert r"\caption{S, part 2 of 2.}" in found
    assert r"\label{tab:study-s}" in found
    assert r"\label{tab:study-s-2}" in found


def test_wide_tables_are_cut_between_columns_and_each_part_has_the_key() -> None:
    header = ["key", *(f"column {n}" for n in range(12))]
    found = parts(Table("", header, "l" + "r" * 12, [[Cell("k"), *[Cell("+0.123456")] * 12]]))
    assert found.count(r"\begin{table*}") == found.count("\nk & ") > 1
    assert found.count("+0.123456") == 12
    assert "resizebox" not in found


def test_a_cell_in_brackets_is_no_argument_of_the_row_before() -> None:
    found = parts(Table("", ["a"], "l", [[Cell("x")], [Cell("[0.1, 0.2]")]]))
    assert "\n{}[0.1, 0.2]" in found


def test_a_document_begins_with_what_was_found_and_its_figures_have_their_captions() -> None:
    found = latex_document("s", ["A is ahead of B."], ["t"], [("f.pdf", "What it shows.")], ["u"])
    body = found.split(r"\begin{document}")[1]
    assert body.index("A is ahead of B.") < body.index(r"\input{t}") < body.index("f.pdf")
    assert body.index("f.pdf") < body.index(r"\input{u}")
    heading = r"\section*{Supplement: all columns}" "\n" r"\suppressfloats[t]"
    assert body.index(heading) < body.index(r"\input{u}")  # no table floats above its heading
    assert r"\begin{table*}[htp]" in parts(Table("", ["a"], "l", [[Cell("x")]]))
    assert r"\caption{What it shows.}\label{fig:f}" in found


def compiled(folder: Path, names: list[str], options: str) -> str:
    """What pdflatex says of an article that takes in these files."""
    inputs = "".join(rf"\input{{{name}}}\clearpage" for name in names)
    (folder / "article.tex").write_text(
        rf"\documentclass[{options}]{{article}}\usepackage{{booktabs}}\begin{{document}}"
        rf"{inputs}\end{{document}}"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "article.tex"],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX compiler is installed")
@pytest.mark.parametrize(
    ("models", "changes"),
    [(("base", "cand"), {}), (LONG_NAMES, {"name": "a_study of 100 %", "fractions": [0.1, 1.0]})],
)
def test_every_table_fits_an_article_of_one_column_and_of_two(
    tmp_path: Path, models: tuple[str, ...], changes: dict[str, Any]
) -> None:
    metrics = METRICS | {"dice": METRICS["dice"] | {"title": "Dice of a structure of the brain"}}
    of = plan(models, metrics=metrics if changes else METRICS, **changes)
    store = study(tmp_path, rows(models=models), of)
    build_report(StoredStudy.opened(store))
    folder = Path(store.uri) / "report"
    names = sorted(path.stem for path in folder.glob("*.tex") if path.stem != "report")
    assert {"significance", "significance_full"} <= set(names)
    for options in ("", "twocolumn"):
        said = compiled(folder, names, options)
        assert "Overfull" not in said
        assert "Float too large" not in said
    assert compile_latex(folder, tmp_path / "whole").stat().st_size > 10_000
    assert "Overfull" not in (tmp_path / "whole" / "report.log").read_text(errors="replace")
